"""The cost of an avatar: time, size, arithmetic."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.nets.cost import multiply_adds

SWEEP = (128, 256, 384, 512, 640, 768, 896)
"""Sides of the picture in pixels, besides the one that the avatar was learned at."""


def latency(run: Callable[[], object], seconds: float = 3.0, most: int = 500) -> dict[str, float]:
    """Median and 95th percentile of a call's wall time in milliseconds, and calls a second by the median.

    A tenth of the time goes into warming up; then calls are timed one by one until time or number is used up, three at least.

    Args:
        run: one frame.
        seconds: for the timed calls.
        most: timed calls.
    """
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds / 10 or not times:
        times = [_once(run)]
    times, begun = [], time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begun < seconds and len(times) < most):
        times.append(_once(run))
    median = statistics.median(times)
    late = sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]
    return {"fps": round(1 / median, 2), "p50_ms": round(1e3 * median, 2), "p95_ms": round(1e3 * late, 2), "frames": len(times)}


def _once(run: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


@torch.no_grad()
def end_to_end(avatar: Avatar, params: HeadParams, camera: Camera) -> Callable[[], Tensor]:
    """From one frame's parameters to its 8-bit picture."""
    white = torch.ones(3, device=camera.intrinsics.device)

    @torch.no_grad()
    def run() -> Tensor:
        return (avatar.render(params, camera, white).rgb[0].clamp(0, 1) * 255).to(torch.uint8)

    return run


@torch.no_grad()
def render_only(avatar: Avatar, params: HeadParams, camera: Camera) -> Callable[[], Any]:
    """What is left once the head is posed: rasterizing Gaussians, marching rays, evaluating a light field."""
    white = torch.ones(3, device=camera.intrinsics.device)
    draw = avatar.prepare(params, camera)
    return torch.no_grad()(lambda: draw(white))


def sweep(avatar: Avatar, params: HeadParams, camera: Camera, seconds: float = 3.0) -> dict[str, Any]:
    """Latency at several sizes, of rendering alone and from parameters to picture.

    Args:
        avatar: in evaluation mode.
        params: one frame.
        camera: as learned; resized to other sizes.
        seconds: for each measurement.
    """
    found = {}
    for side in sorted({*SWEEP, camera.width}):
        view = camera.resize(side, side)
        kinds = {"render_only": render_only(avatar, params, view), "end_to_end": end_to_end(avatar, params, view)}
        found[str(side)] = {name: latency(run, seconds) for name, run in kinds.items()}
    return found


def count_numbers(avatar: Avatar, auxiliary: int) -> dict[str, int]:
    """Numbers that a file must hold, what is trained besides, and the bytes of half-precision floats.

    Args:
        avatar: deployed.
        auxiliary: parameters that are trained and left behind.
    """
    state = avatar.state_dict().values()
    halves = sum(value.numel() * (2 if value.is_floating_point() else value.element_size()) for value in state)
    parameters = sum(parameter.numel() for parameter in avatar.parameters())
    return {"params_deploy": parameters, "params_train": parameters + auxiliary, "bytes_fp16": halves}


@torch.no_grad()
def count_work(avatar: Avatar, params: HeadParams, camera: Camera) -> dict[str, int]:
    """Arithmetic of one frame: `macs`, the multiply-adds of matrix products and convolutions, and what they do not see.

    Of Gaussians `gaussians`, drawn by a kernel that composites `alpha_evals` of them with a pixel (the CPU's tells); of a radiance field
    `field_samples`, its evaluations, and `neighbor_queries`, searches in its surface points.
    """
    white = torch.ones(3, device=camera.intrinsics.device)
    return avatar.count_work(params, camera) | {"macs": multiply_adds(lambda: avatar.render(params, camera, white))}
