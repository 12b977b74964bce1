"""Size and kind of the generalized prior's network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deja_vu.core.ranges import Pixels, Texels
from deja_vu.nets.config import UVNetConfig


@dataclass(frozen=True)
class PriorConfig:
    """Kind and size of the network."""

    head: str = "anny"
    """Head model."""
    uv_size: Texels = 256
    """Texels a side of the map."""
    architecture: Literal["evidence", "image"] = "evidence"
    """A U-Net on the texels' evidence, on top of the lifted start; or the paper's network from picture to map, on top of a plain head."""
    network: UVNetConfig = field(default_factory=UVNetConfig)
    """Sizes of the U-Net; the paper's network has none to choose."""
    picture: Pixels = 128
    """Side to which the head crop is reduced, pixels; the paper's network works on pictures of the map's size."""
