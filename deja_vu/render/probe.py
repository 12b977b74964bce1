"""Whether a rasterizer works on this machine."""

from __future__ import annotations

import functools
import math

import torch

from deja_vu.core.camera import Camera
from deja_vu.core.errors import DejaVuError
from deja_vu.core.gaussians import Gaussians
from deja_vu.render.base import rasterize
from deja_vu.render.reference import BLUR

SIDE = 16
"""Of the tiny scene's picture, pixels."""
SIGMA = 0.1
"""Of its one Gaussian, which stands a meter away, meters."""
TOLERANCE = 1e-3
"""Largest difference of its picture from what it must be: fast arithmetic stays far below, and a broken build does not."""


@functools.cache
def find_fault(backend: str, device: torch.device) -> str | None:
    """Why a rasterizer cannot draw here, found by drawing a tiny scene forwards and backwards; None where it can.

    gsplat compiles its kernels the first time it is used on a machine, which takes minutes.

    Args:
        backend: key of `RASTERIZERS`.
        device: on which.
    """
    try:
        found, slope = _draw(backend, device)
    except (DejaVuError, RuntimeError) as error:  # torch reports CUDA's errors as the latter
        return str(error).strip().partition("\n")[0][:400]
    # Half a pixel beside the center in both directions: half opaque, half bright, so is the picture over black.
    variance = (SIGMA * SIDE) ** 2 + BLUR
    expected = 0.25 * math.exp(-0.25 / variance)
    # Towards the pixel's center the picture brightens by its distance over the variance, a meter being as many pixels as the picture has.
    steep = expected * 0.5 / variance * SIDE
    if abs(found - expected) < TOLERANCE and abs(slope - steep) < SIDE * TOLERANCE:
        return None
    return (
        f"The {backend} rasterizer draws a tiny scene wrongly on {device}: {found:.4f} with slope {slope:.4f}, expected {expected:.4f} "
        f"with {steep:.4f}. Install it again, or choose another device."
    )


def _draw(backend: str, device: torch.device) -> tuple[float, float]:
    """A pixel beside the middle of a Gaussian, and its derivative by the Gaussian's place to the right."""
    means = torch.tensor([[0.0, 0.0, 1.0]], device=device, requires_grad=True)
    gaussians = Gaussians(
        means=means,
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=device),
        scales=torch.full((1, 3), SIGMA, device=device),
        opacities=torch.full((1,), 0.5, device=device),
        sh=torch.zeros(1, 1, 3, device=device),
    )
    camera = Camera.from_focal(float(SIDE), SIDE, SIDE).to(device)
    pixel = rasterize(gaussians, camera, torch.zeros(3, device=device), backend).rgb[SIDE // 2, SIDE // 2, 0]
    (slope,) = torch.autograd.grad(pixel, means)
    return float(pixel.detach()), float(slope[0, 0])
