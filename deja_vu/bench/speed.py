"""How fast this machine is, so that times of different machines can be compared as work: seconds times measured GFLOP/s."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from deja_vu.bench.scenes import shell_scene
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import rasterize

MATRIX_SIDE = 1024
"""Of the matrices that are multiplied: they do not fit into the nearest caches, and a product takes milliseconds."""
COPY_FLOATS = 16_000_000
"""Of the array that is copied: 64 MB, larger than the caches of what people own."""
SCENE_SIDE = 512
"""Of the standard scene's picture, pixels."""
SCENE_GAUSSIANS = 32_000


@dataclass(frozen=True)
class Speed:
    """Best of several tries: what else runs on the machine can only add time."""

    threads: int
    """With which all was measured."""
    matmul_gflops: float
    """Billions of float32 operations a second in a product of matrices, a multiplication and an addition counting as two."""
    copy_gb_s: float
    """Billions of bytes a second that are read and written by a copy."""
    raster_ms: float
    """Milliseconds of the standard scene: a shell of 32,000 Gaussians drawn at 512² pixels by the cpu rasterizer, with its gradient."""

    def lines(self) -> list[str]:
        """As `deja-vu doctor --speed` prints it."""
        return [
            f"float32 matmul   {self.matmul_gflops:8.1f} GFLOP/s",
            f"memory copy      {self.copy_gb_s:8.1f} GB/s",
            f"standard scene   {self.raster_ms:8.1f} ms, forwards and backwards",
            f"measured on {self.threads} of {os.cpu_count()} cores; best of several tries",
        ]


def measure_speed(seconds: float = 2.0) -> Speed:
    """Measure the machine as it is now, with torch's present number of threads.

    Args:
        seconds: for each of the three figures; a tenth of a second says it within some percent on an idle machine.
    """
    left, right = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE, generator=torch.Generator().manual_seed(0))
    product = _best(lambda: left @ right, seconds)
    source, target = torch.zeros(COPY_FLOATS), torch.zeros(COPY_FLOATS)
    copy = _best(lambda: target.copy_(source), seconds)
    return Speed(
        threads=torch.get_num_threads(),
        matmul_gflops=round(2 * MATRIX_SIDE**3 / product / 1e9, 1),
        copy_gb_s=round(2 * 4 * COPY_FLOATS / copy / 1e9, 1),
        raster_ms=round(1e3 * _best(_standard_scene(), seconds), 1),
    )


def _standard_scene() -> Callable[[], object]:
    scene = shell_scene(SCENE_SIDE, SCENE_GAUSSIANS)
    leaves = [value.clone().requires_grad_() for value in vars(scene.gaussians).values()]
    white, upstream = torch.ones(3), torch.ones(SCENE_SIDE, SCENE_SIDE, 3)
    return lambda: torch.autograd.grad(rasterize(Gaussians(*leaves), scene.camera, white, "cpu").rgb, leaves, upstream)


def _best(run: Callable[[], object], seconds: float) -> float:
    """Shortest wall time of a call over some seconds, after one to warm up."""
    run()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < seconds:
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return min(times)
