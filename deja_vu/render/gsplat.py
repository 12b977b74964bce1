"""Adapter to gsplat's CUDA rasterizer (optional package `gsplat`, version 1.5)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.errors import MissingAssetError
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.image import RenderOutput


def rasterize(gaussians: Gaussians, camera: Camera, background: Float[Tensor, "b 3"]) -> RenderOutput:
    """Render a batch; see `deja_vu.render.base.rasterize`, which checks the arguments.

    Args:
        gaussians: batch of b, float32, on a CUDA device.
        camera: batch of b.
        background: color behind each image.

    Raises:
        ValueError: the tensors are not float32 on a CUDA device.
        MissingAssetError: there is no CUDA device, or gsplat is not installed.
    """
    # gsplat imports without CUDA and then fails at the first call with an error that does not say so.
    if not torch.cuda.is_available():
        raise MissingAssetError("The gsplat rasterizer needs a CUDA device and a CUDA build of torch; use backend='cpu' here.")
    if gaussians.means.dtype != torch.float32 or not gaussians.means.is_cuda:
        raise ValueError(f"the gsplat rasterizer draws float32 on a CUDA device, not {gaussians.means.dtype} on {gaussians.means.device}")
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise MissingAssetError("The gsplat rasterizer needs the package gsplat: pip install '.[cuda]' in the source folder") from error
    colors, alpha, _ = rasterization(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
        camera.camera_from_world[:, None],
        camera.intrinsics[:, None],
        camera.width,
        camera.height,
        sh_degree=round(gaussians.sh.shape[-2] ** 0.5) - 1,
        packed=False,
        backgrounds=background[:, None],
        render_mode="RGB+ED",
    )
    return RenderOutput(colors[:, 0, ..., :3], alpha[:, 0], colors[:, 0, ..., 3:])
