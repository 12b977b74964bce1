"""Smooth random fields in space: what is painted with them moves with the surface."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def value_noise(points: Float[np.ndarray, "n d"], scale: float, seed: int) -> Float[np.ndarray, " n"]:
    """Random values on a lattice, smoothly interpolated; mean about 0.5, range [0, 1].

    Args:
        points: positions, meters or other units; two or three axes.
        scale: lattice spacing in the same units.
        seed: another seed gives another field.
    """
    count = points.shape[1]
    axes = [np.ascontiguousarray(points[:, axis], np.float32) / np.float32(scale) for axis in range(count)]
    cells = [np.floor(axis) for axis in axes]
    eased = [_ease(axis - cell) for axis, cell in zip(axes, cells, strict=True)]
    hashed = [
        [(cell.astype(np.int32).view(np.uint32) + np.uint32(side)) * np.uint32(prime) for side in (0, 1)]
        for cell, prime in zip(cells, (0x8DA6B343, 0xD8163841, 0xCB1AB31F), strict=False)
    ]
    offset = np.uint32((seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF)
    values = []
    for corner in range(1 << count):
        key = hashed[0][corner & 1] ^ offset
        for axis in range(1, count):
            key ^= hashed[axis][corner >> axis & 1]
        values.append(_mix_bits(key))
    for part in eased:  # the first axis is the lowest bit of the corner
        values = [low + (high - low) * part for low, high in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def fractal_noise(points: Float[np.ndarray, "n d"], scale: float, octaves: int, seed: int) -> Float[np.ndarray, " n"]:
    """Value noise of halving spacing and strength, around zero, about [-1, 1]."""
    total = np.zeros(len(points), np.float32)
    for octave in range(octaves):
        total += (value_noise(points, scale / 2**octave, seed + 101 * octave) - 0.5) / 2**octave
    return total / np.float32(1 - 0.5**octaves)


def smooth_step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high` (which may be the smaller one), smooth between."""
    x = np.clip((value - low) / (high - low), 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _ease(x: np.ndarray) -> np.ndarray:
    return x * x * (3 - 2 * x)


def _mix_bits(key: np.ndarray) -> np.ndarray:
    """Well-mixed number in [0, 1) for each integer; overwrites it."""
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        key ^= key >> np.uint32(shift)
        key *= np.uint32(factor)
    key ^= key >> np.uint32(15)
    return (key >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
