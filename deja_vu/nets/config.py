"""Sizes of the networks, apart from their code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from deja_vu.core.ranges import Positive, Range


@dataclass(frozen=True)
class UVNetConfig:
    """Size of the network."""

    widths: tuple[Annotated[int, Range(8, 4096)], ...] = (32, 64, 96, 160, 224)
    """Channels from the finest grid (half the map's side) to the coarsest, each half as fine as the one before; multiples of 8."""
    code: Positive = 128
    """Length of the picture's code."""
    code_widths: tuple[Annotated[int, Range(1, 4096)], ...] = (24, 48, 96, 128)
    """Channels of the picture's encoder, each at half the side of the one before."""
