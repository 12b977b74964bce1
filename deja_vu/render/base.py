"""One rasterizer interface: Gaussians, a camera and a background in, a picture out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu import native
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import GAUSSIAN_AXES, Gaussians
from deja_vu.core.image import RenderOutput
from deja_vu.render import cpu, gsplat, reference
from deja_vu.render.checks import arguments, check_finite, check_shapes

PLAIN_TORCH = "rendering with plain torch, hundreds of times slower than the native rasterizer"
"""Fallback where the native library cannot be loaded, as the warning says it."""

Rasterizer = Callable[[Gaussians, Camera, Tensor, bool], RenderOutput]
"""Batch of Gaussians, batch of cameras, background [b, 3], whether to draw the depth."""

RASTERIZERS: dict[str, Rasterizer] = {
    "reference": reference.rasterize,
    "cpu": cpu.rasterize,
    "gsplat": gsplat.rasterize,
}
"""Every entry gives the same answer: see tests/render/test_conformance.py."""


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "*b 3"],
    backend: str = "auto",
    *,
    depth: bool = True,
    check: bool = True,
) -> RenderOutput:
    """Render Gaussians with 3D Gaussian Splatting, differentiably.

    Gaussians, camera and background may each be single or a batch [b]; single ones serve every image of the batch.
    Gradients reach every attribute of the Gaussians, the background and `camera.camera_from_world`, not the intrinsics.

    Args:
        gaussians: in world space, meters; spherical harmonics of degree 0 to 3.
        camera: one or b views, all of one size.
        background: color behind the Gaussians, in [0, 1].
        backend: a key of `RASTERIZERS`, or `auto`: gsplat for CUDA tensors, cpu for those on the CPU, reference for float64, for
            the meta device, or where the native library can be neither found nor compiled (one warning says so).
        depth: give the depth too, which costs gsplat time.
        check: refuse values that are not finite, for which a GPU is waited for; the cpu rasterizer looks in any case, while it reads.

    Returns:
        Color over the background, coverage and, if asked for, expected depth; a batch if any argument is one.

    Raises:
        ValueError: an argument has a wrong shape, type, device or a value that is not finite, or the backend is not known.
        MissingAssetError: the backend asked for is not available on this machine.

    Source:
        Kerbl et al., 3D Gaussian Splatting, SIGGRAPH 2023; constants and borders as in gsplat 1.5.
    """
    check_shapes(gaussians, camera, background)
    batches = {gaussians.means.shape[:-2], camera.camera_from_world.shape[:-2], camera.intrinsics.shape[:-2], background.shape[:-1]} - {()}
    if len(batches) > 1 or any(len(batch) > 1 for batch in batches):
        raise ValueError(
            f"gaussians {tuple(gaussians.means.shape)}, camera_from_world {tuple(camera.camera_from_world.shape)}, intrinsics "
            f"{tuple(camera.intrinsics.shape)} and background {tuple(background.shape)} do not share one leading batch axis"
        )
    count = next(iter(batches))[0] if batches else 1
    batched = Gaussians(**{name: _expand_batch(getattr(gaussians, name), count, axes) for name, axes in GAUSSIAN_AXES.items()})
    view = Camera(
        _expand_batch(camera.camera_from_world, count, 2), _expand_batch(camera.intrinsics, count, 2), camera.width, camera.height
    )
    draw = _backend(backend, gaussians.means) if batched.means.numel() else _draw_nothing
    if check and draw is not cpu.rasterize:
        check_finite(arguments(gaussians, camera, background))
    output = draw(batched, view, _expand_batch(background, count, 1), depth)
    if batches:
        return output
    return RenderOutput(output.rgb.squeeze(0), output.alpha.squeeze(0), None if output.depth is None else output.depth.squeeze(0))


def _draw_nothing(gaussians: Gaussians, camera: Camera, background: Tensor, depth: bool) -> RenderOutput:
    """Pictures without Gaussians; differentiable as any other, with zero gradients."""
    anchor = sum(getattr(gaussians, name).sum() for name in GAUSSIAN_AXES) + camera.camera_from_world.sum()
    blank = 0 * anchor + gaussians.means.new_zeros(background.shape[0], camera.height, camera.width, 1)
    return RenderOutput(blank + background[:, None, None, :], blank, blank if depth else None)


def _expand_batch(tensor: Tensor, count: int, inner: int) -> Tensor:
    return tensor if tensor.dim() > inner else tensor.unsqueeze(0).expand(count, *tensor.shape)  # one image's gradient is not copied so


def _backend(name: str, like: Tensor) -> Rasterizer:
    if name == "auto":
        if like.is_cuda:
            name = "gsplat"
        else:
            name = "cpu" if like.is_cpu and like.dtype == torch.float32 and native.available(PLAIN_TORCH) else "reference"
    if name not in RASTERIZERS:
        raise ValueError(f"there is no rasterizer {name!r}; known are auto, {', '.join(RASTERIZERS)}")
    return RASTERIZERS[name]
