"""The arithmetic of a picture, and the least time it can take on this processor."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from deja_vu.bench.scenes import Scene
from deja_vu.render import cpu
from deja_vu.render.reference import ALPHA_MAX, ALPHA_MIN, OPAQUE, TILE, Projected, project

FORWARD_INSTRUCTIONS = 16
"""Vector multiplications and multiply-adds that a (Gaussian, block) pair takes in raster_tile.h at 16 lanes: 5 for the quadratic form,
5 for 2^p, 2 for weight and transmittance, 4 for color and depth."""
BACKWARD_INSTRUCTIONS = 27
"""The same of the backward pass: the first 12 of those, 9 for the derivative of alpha, 6 of the sums."""


@dataclass(frozen=True)
class Work:
    """Counts of one picture, and the time that its multiplications alone take on one thread."""

    gaussians: int
    """Drawn by some tile."""
    entries: int
    """(Gaussian, tile) pairs."""
    entries_used: int
    """Those that touch a block before it is opaque."""
    blocks: int
    """(Gaussian, block) pairs composited."""
    pairs: int
    """(Gaussian, pixel) pairs with alpha >= 1/255 in front of the pixel's stop: what no algorithm can leave out."""
    lane_use: float
    """Share of the composited blocks' pixels that are such pairs."""
    forward_floor: float
    """Milliseconds."""
    both_floor: float
    """Milliseconds, forward and backward."""


def measure_work(scene: Scene, multiplications: float) -> Work:
    """Count what a scene takes.

    Args:
        scene: to be drawn.
        multiplications: vectors of 16 floats that one thread multiplies in a second; see `vector_rate`.
    """
    counts = cpu.work(scene.gaussians, scene.camera)
    pairs = count_pairs(project(scene.gaussians, scene.camera), scene.camera.width, scene.camera.height)
    floors = [
        1e3 * counts["blocks"] * each / multiplications for each in (FORWARD_INSTRUCTIONS, FORWARD_INSTRUCTIONS + BACKWARD_INSTRUCTIONS)
    ]
    lane_use = pairs / (cpu.BLOCK * max(counts["blocks"], 1))
    return Work(**counts, pairs=pairs, lane_use=lane_use, forward_floor=floors[0], both_floor=floors[1])


def count_pairs(projected: Projected, width: int, height: int) -> int:
    """(Gaussian, pixel) pairs that add to the picture, counted in plain torch, independently of the native code."""
    total = 0
    low, high = projected.centers - projected.reach, projected.centers + projected.reach
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            touches = (high[:, 0] > x) & (low[:, 0] < x + TILE) & (high[:, 1] > y) & (low[:, 1] < y + TILE)
            columns, rows = (torch.arange(start, min(start + TILE, end)) + 0.5 for start, end in ((x, width), (y, height)))
            dx, dy = columns[None, :, None] - projected.centers[touches, 0], rows[:, None, None] - projected.centers[touches, 1]
            a, b, c = projected.conics[touches].unbind(-1)
            alpha = (projected.opacities[touches] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)).clamp_max(ALPHA_MAX)
            alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
            total += int(((alpha > 0) & (torch.cumprod(1 - alpha, dim=-1) > OPAQUE)).sum())
    return total


def vector_rate(size: int = 1024, repeats: int = 8) -> float:
    """Vectors of 16 floats that one thread multiplies and adds in a second, by the best of some matrix products."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    a, b = torch.rand(2, size, size)
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        a @ b
        best = min(best, time.process_time() - start)
    torch.set_num_threads(before)
    return size**3 / 16 / best
