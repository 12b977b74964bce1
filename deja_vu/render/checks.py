"""Checks of a rasterizer's arguments; refusals name the argument."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import GAUSSIAN_AXES, Gaussians


def arguments(gaussians: Gaussians, camera: Camera, background: Tensor) -> dict[str, Tensor]:
    """All tensors of a call, by the name that a message says and in the order that the native rasterizer takes them.

    Args:
        gaussians: in any batch.
        camera: in any batch.
        background: [*b, 3].
    """
    tensors = {f"gaussians.{name}": getattr(gaussians, name) for name in GAUSSIAN_AXES}
    tensors["camera.camera_from_world"] = camera.camera_from_world
    tensors["camera.intrinsics"] = camera.intrinsics
    tensors["background"] = background
    return tensors


def check_shapes(gaussians: Gaussians, camera: Camera, background: Tensor) -> None:
    """Refuse wrong shapes, types and devices.

    Args:
        gaussians: in any batch.
        camera: in any batch.
        background: [*b, 3].

    Raises:
        ValueError: names the argument, what it is and what was expected.
    """
    batch, count = gaussians.means.shape[:-2], gaussians.means.shape[-2]
    expected = {
        "gaussians.means": (*batch, count, 3),
        "gaussians.quats": (*batch, count, 4),
        "gaussians.scales": (*batch, count, 3),
        "gaussians.opacities": (*batch, count),
        "gaussians.sh": (*batch, count, gaussians.sh.shape[-2], 3),
        "camera.camera_from_world": (*camera.camera_from_world.shape[:-2], 4, 4),
        "camera.intrinsics": (*camera.intrinsics.shape[:-2], 3, 3),
        "background": (*background.shape[:-1], 3),
    }
    like = gaussians.means
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gaussians.means is {like.dtype}; expected float32, or float64 with the reference rasterizer")
    for name, tensor in arguments(gaussians, camera, background).items():
        if tuple(tensor.shape) != tuple(expected[name]):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {tuple(expected[name])}")
        if tensor.dtype != like.dtype or tensor.device != like.device:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}; gaussians.means is {like.dtype} on {like.device}")
    if gaussians.sh.shape[-2] not in (1, 4, 9, 16):
        raise ValueError(f"gaussians.sh has {gaussians.sh.shape[-2]} coefficients; expected 1, 4, 9 or 16 (degree 0 to 3)")
    if camera.width < 1 or camera.height < 1:
        raise ValueError(f"camera is {camera.width}x{camera.height} pixels; expected at least 1x1")
    if camera.intrinsics.requires_grad and torch.is_grad_enabled():
        raise ValueError("camera.intrinsics requires a gradient, which the rasterizers do not give; detach it or move the camera instead")


def check_finite(tensors: dict[str, Tensor]) -> None:
    """Refuse NaN and infinite values. A GPU is asked once, for all tensors; tensors on the meta device have no values to refuse.

    Args:
        tensors: by the name that the message says.

    Raises:
        ValueError: names the first tensor that holds some, and how many.
    """
    held = {name: tensor for name, tensor in tensors.items() if tensor.numel() and not tensor.is_meta}
    if not held:
        return
    finite = torch.stack([_all_finite(tensor) for tensor in held.values()]).tolist()
    for (name, tensor), well in zip(held.items(), finite, strict=True):
        if not well:
            raise ValueError(f"{name} holds {(~tensor.isfinite()).sum().item()} values that are not finite")


def _all_finite(tensor: Tensor) -> Bool[Tensor, ""]:
    low, high = torch.aminmax(tensor.detach())  # one pass; a NaN anywhere makes both NaN
    return low.isfinite() & high.isfinite()
