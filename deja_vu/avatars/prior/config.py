"""Size and kind of the generalized prior's network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deja_vu.avatars.gaussian.config import ChannelGains
from deja_vu.core.ranges import Pixels, Share, Texels, Weight
from deja_vu.nets.config import UVNetConfig
from deja_vu.uv.config import HullConfig


@dataclass(frozen=True)
class PhotoLiftConfig:
    """Lifting of photos, on which a network's input depends."""

    hull: HullConfig = field(default_factory=HullConfig)
    """Height of the hair."""
    visible_deviations: Weight = 1.5
    """Deviations from its middle to which a Gaussian of a dense surface is seen: a hull of the middles alone would be that much too
    large."""
    rim_cosine: Share = 0.4
    """Cosine between normal and view below which a texel lies on the outline: hair that leaves it upwards is seen to be as high."""
    depth_tolerance: Weight = 0.006
    """A texel further than this behind the nearest surface is hidden, meters."""
    lips_tolerance: Weight = 0.0015
    """The same of what lies in the mouth: lips are thin."""


@dataclass(frozen=True)
class PriorConfig:
    """Kind and size of the network."""

    head: str = "anny"
    """Head model."""
    uv_size: Texels = 256
    """Texels a side of the map."""
    architecture: Literal["evidence", "image"] = "evidence"
    """A U-Net on the texels' evidence, on top of the lifted start; or the paper's network from picture to map, on top of a plain head."""
    lift: PhotoLiftConfig = field(default_factory=PhotoLiftConfig)
    """Lifting of the photos on which the network was trained, and of those given to it."""
    gains: ChannelGains = field(default_factory=ChannelGains)
    """Raw change of each channel for one unit of the network's output."""
    network: UVNetConfig = field(default_factory=UVNetConfig)
    """Sizes of the U-Net; the paper's network has none to choose."""
    picture: Pixels = 128
    """Side to which the head crop is reduced, pixels; the paper's network works on pictures of the map's size."""
