"""Positional encoding of coordinates."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def harmonic(values: Float[Tensor, "*b D"], octaves: int) -> Float[Tensor, "*b D2"]:
    """The values themselves, then their sines and cosines at angular frequencies 1, 2, 4, ...: D (1 + 2 octaves) numbers.

    Args:
        values: coordinates of order one.
        octaves: frequencies; 0 leaves the values alone.

    Source:
        Mildenhall et al., NeRF, ECCV 2020, section 5.1, without its factor pi.
    """
    if octaves == 0:
        return values
    angles = values[..., None] * 2.0 ** torch.arange(octaves, dtype=values.dtype, device=values.device)
    return torch.cat([values, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)


def harmonic_size(size: int, octaves: int) -> int:
    """Numbers that `harmonic` makes of `size` numbers."""
    return size * (1 + 2 * octaves)
