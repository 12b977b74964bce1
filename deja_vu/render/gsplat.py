"""Adapter to gsplat's CUDA rasterizer (optional package `gsplat`, version 1.5)."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.errors import MissingAssetError
from deja_vu.core.gaussians import Gaussians, sh_to_rgb
from deja_vu.core.image import RenderOutput
from deja_vu.render.reference import BLUR, NEAR

INSTALL = "pip install '.[cuda]' in the source folder"


def rasterize(gaussians: Gaussians, camera: Camera, background: Float[Tensor, "b 3"], depth: bool = True) -> RenderOutput:
    """Render a batch; see `deja_vu.render.base.rasterize`, which checks the arguments.

    Args:
        gaussians: batch of b, float32, on a CUDA device.
        camera: batch of b.
        background: color behind each image.
        depth: draw it too; it costs a channel of four, forwards and backwards.

    Raises:
        ValueError: the tensors are not float32 on a CUDA device.
        MissingAssetError: there is no CUDA device, or gsplat is not installed, or cannot be compiled.
    """
    # gsplat imports without CUDA and then fails at the first call with an error that does not say so.
    if not torch.cuda.is_available():
        raise MissingAssetError("The gsplat rasterizer needs a CUDA device and a CUDA build of torch; use backend='cpu' here.")
    if gaussians.means.dtype != torch.float32 or not gaussians.means.is_cuda:
        raise ValueError(f"the gsplat rasterizer draws float32 on a CUDA device, not {gaussians.means.dtype} on {gaussians.means.device}")
    colors, alpha, _ = load()(**call_arguments(gaussians, camera, background, depth=depth))
    return RenderOutput(colors[:, 0, ..., :3], alpha[:, 0], colors[:, 0, ..., 3:] if depth else None)


def call_arguments(gaussians: Gaussians, camera: Camera, background: Float[Tensor, "b 3"], *, depth: bool) -> dict[str, Any]:
    """What gsplat's `rasterization` is given for a batch: every image a set of Gaussians under one camera.

    A color without direction is activated here: for spherical harmonics gsplat inverts the cameras, for which the host would wait. It
    gives gradients of the cameras only where they need some.

    Args:
        gaussians: batch of b.
        camera: batch of b.
        background: color behind each image.
        depth: draw it too.
    """
    coefficients = gaussians.sh.shape[-2]
    constant = coefficients == 1
    return {
        "means": gaussians.means,
        "quats": gaussians.quats,
        "scales": gaussians.scales,
        "opacities": gaussians.opacities,
        "colors": sh_to_rgb(gaussians.sh[..., 0, :]).clamp_min(0) if constant else gaussians.sh,
        "viewmats": camera.camera_from_world[:, None],
        "Ks": camera.intrinsics[:, None],
        "width": camera.width,
        "height": camera.height,
        "near_plane": NEAR,
        "eps2d": BLUR,
        "sh_degree": None if constant else round(coefficients**0.5) - 1,
        "packed": False,  # packing skips what no camera sees, and of a head all sees all
        "backgrounds": background[:, None],
        "render_mode": "RGB+ED" if depth else "RGB",
    }


@functools.cache
def load() -> Any:
    """Gsplat's `rasterization`, its kernels compiled: the first time on a machine that takes minutes, as gsplat says then.

    Raises:
        MissingAssetError: it is not installed, or its kernels are neither compiled nor can they be.
    """
    if importlib.util.find_spec("gsplat") is None:
        raise MissingAssetError(f"The gsplat rasterizer needs the package gsplat: {INSTALL}")
    try:
        from gsplat import rasterization
        from gsplat.cuda._backend import _C
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError) as error:  # what a compiler that fails comes out as
        reason = str(error).strip().partition("\n")[0][:160]
        raise MissingAssetError(
            f"gsplat's CUDA kernels did not compile ({reason}). Check that nvcc fits CUDA {torch.version.cuda} and that a C++ compiler is "
            "there, or use --device cpu."
        ) from error
    if _C is None:
        raise MissingAssetError(
            f"gsplat is installed, but its CUDA kernels are not compiled and there is no nvcc to compile them. Install the CUDA "
            f"toolkit {torch.version.cuda} (nvcc on the PATH, or CUDA_HOME set) and a C++ compiler, or use --device cpu."
        )
    return rasterization
