"""Losses between two images (Huber, structural similarity), and between a render and a batch (absolute difference)."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import avg_pool2d

from deja_vu import kernels, native
from deja_vu.core.batch import Batch
from deja_vu.core.image import RenderOutput, over

PLAIN_TORCH = "structural similarity with plain torch, tens of times slower than the native one"
"""Fallback where the native library cannot be loaded, as the warning says it."""

PATCH = 4
"""Side of S3IM's window, and of its step, pixels."""
WINDOW = 11
"""Taps of the window (Wang et al., 2004)."""
SIGMA = 1.5
"""Standard deviation of the window, pixels."""
C1 = 0.01**2
"""Stabilizer of the means, for images in [0, 1]."""
C2 = 0.03**2
"""Stabilizer of the variances, for images in [0, 1]."""


def ssim_map(a: Float[Tensor, "*b H W C"], b: Float[Tensor, "*b H W C"]) -> Float[Tensor, "*b H W C"]:
    """Structural similarity of every pixel and channel, borders reflected; gradients reach both images.

    float32 images take a fused pass when only `a` needs a gradient, native on the CPU, Triton's on CUDA; everything else plain torch.

    Args:
        a: image in [0, 1], at least 6 pixels a side.
        b: image of the same shape.

    Raises:
        ValueError: the shapes differ or are too small.

    Source:
        Wang et al., Image Quality Assessment, TIP 2004; borders as in torchmetrics' StructuralSimilarityIndexMeasure.
    """
    if a.shape != b.shape or a.dim() < 3 or min(a.shape[-3:-1]) <= WINDOW // 2 or a.dtype != b.dtype or a.device != b.device:
        raise ValueError(
            f"ssim needs two images [.., H, W, C] of one shape, type and device, at least {WINDOW // 2 + 1} pixels a side; "
            f"got {tuple(a.shape)} {a.dtype} {a.device} and {tuple(b.shape)} {b.dtype} {b.device}"
        )
    needs_b = torch.is_grad_enabled() and b.requires_grad
    if a.is_cpu and a.dtype == torch.float32 and not needs_b and native.available(PLAIN_TORCH):
        flat = (-1, *a.shape[-3:]) if a.numel() else (0, *a.shape[-3:])
        differentiable = torch.is_grad_enabled() and a.requires_grad
        return _SsimMap.apply(a.reshape(flat), b.reshape(flat), differentiable).view(a.shape)
    if not needs_b and a.numel() and kernels.can_fuse(a, b):
        from deja_vu.kernels import ssim as fused

        return fused.ssim_map(a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *a.shape[-3:]), window_taps(a.dtype, a.device)).view(a.shape)
    return _ssim_torch(a, b)


@functools.cache
def window_taps(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "11"]:
    """Taps of the window, which add up to one."""
    offsets = torch.arange(WINDOW, dtype=dtype, device=device) - WINDOW // 2
    return torch.softmax(-(offsets**2) / (2 * SIGMA**2), dim=0)


def ssim(
    a: Float[Tensor, "*b H W C"], b: Float[Tensor, "*b H W C"], reduction: Literal["mean", "none"] = "mean"
) -> Float[Tensor, ""] | Float[Tensor, "*b"]:
    """Mean structural similarity, of all images or of each.

    Args:
        a: image in [0, 1].
        b: image of the same shape.
        reduction: `mean` over everything, or `none` for one value an image.
    """
    values = ssim_map(a, b).mean(dim=(-3, -2, -1))
    return values.mean() if reduction == "mean" else values


def dssim_loss(
    a: Float[Tensor, "*b H W C"], b: Float[Tensor, "*b H W C"], mask: Float[Tensor, "*b H W 1"] | None = None
) -> Float[Tensor, ""]:
    """Structural dissimilarity (1 - SSIM) / 2, in [0, 1], averaged over all pixels or by weight.

    Args:
        a: image in [0, 1].
        b: image of the same shape.
        mask: weight of each pixel, not negative.
    """
    return masked_mean(0.5 * (1 - ssim_map(a, b)), mask)


def s3im_loss(a: Float[Tensor, "*b H W C"], b: Float[Tensor, "*b H W C"]) -> Float[Tensor, ""]:
    """One minus the structural similarity of square patches of `PATCH` pixels side by side, each pixel of which counts alike.

    Args:
        a: image in [0, 1], at least `PATCH` pixels a side; rows and columns beyond the last whole patch are left out.
        b: image of the same shape.

    Source:
        S3IM (Xie et al., ICCV 2023) with its window, on whole pictures instead of shuffled rays, as LightAvatar has it.
    """
    a, b = (image.flatten(0, -4).movedim(-1, 1) for image in (a, b))
    mean_a, mean_b, square_a, square_b, product = (avg_pool2d(part, PATCH) for part in (a, b, a * a, b * b, a * b))
    variances = (square_a - mean_a**2).clamp_min(0) + (square_b - mean_b**2).clamp_min(0)
    covariance = product - mean_a * mean_b
    return 1 - ((2 * mean_a * mean_b + C1) * (2 * covariance + C2) / ((mean_a**2 + mean_b**2 + C1) * (variances + C2))).mean()


def huber(
    a: Float[Tensor, "*b H W C"], b: Float[Tensor, "*b H W C"], delta: float, mask: Float[Tensor, "*b H W 1"] | None = None
) -> Float[Tensor, ""]:
    """Huber loss: d^2 / 2 for |d| <= delta, beyond it delta (|d| - delta / 2); averaged over all pixels or by weight.

    Args:
        a: image.
        b: image of the same shape.
        delta: where the parabola goes over into straight lines, positive.
        mask: weight of each pixel, not negative.
    """
    if mask is None:
        return functional.huber_loss(a, b, delta=delta)
    constant = not (torch.is_grad_enabled() and (b.requires_grad or mask.requires_grad))
    whole = a.shape == b.shape and mask.shape == (*a.shape[:-1], 1)
    if constant and whole and kernels.can_fuse(a, b, mask):
        from deja_vu.kernels.distance import masked_huber

        return masked_huber(a, b, mask, delta)
    return masked_mean(functional.huber_loss(a, b, reduction="none", delta=delta), mask)


def masked_mean(values: Float[Tensor, "*b H W C"], mask: Float[Tensor, "*b H W 1"] | None) -> Float[Tensor, ""]:
    """Mean weighted by a mask, 0 where all weights are 0; the plain mean without one."""
    if mask is None:
        return values.mean()
    weights = mask.to(values.dtype).expand_as(values)
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


def absolute_difference(out: RenderOutput, batch: Batch, background: Float[Tensor, "3"], neck: float) -> Float[Tensor, ""]:
    """Mean absolute difference of color and of coverage over the pixels that count.

    Args:
        out: render over the background.
        batch: frames on the same grid.
        background: color.
        neck: weight of a pixel on the neck, in [0, 1].
    """
    mask = batch.loss_mask.clamp_min(neck) * batch.valid
    target = torch.cat([over(batch.image, batch.head, background), batch.head], -1)
    return masked_mean((torch.cat([out.rgb, out.alpha], -1) - target).abs(), mask)


SSIM_DERIVATIVES = ("d_mean", "d_square", "d_product")
"""Planes that the native pass leaves for its way back, in its order."""


class _SsimMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, differentiable: bool) -> Tensor:
        a, b = a.detach().contiguous(), b.detach().contiguous()
        values = torch.empty_like(a)
        derivatives = {name: torch.empty_like(a) for name in SSIM_DERIVATIVES} if differentiable else {}
        call_ssim("forward", a, b, map=values, **derivatives)
        if differentiable:
            ctx.save_for_backward(a, b, *derivatives.values())
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_map: Tensor):
        a, b, d_mean, d_square, d_product = ctx.saved_tensors
        v_a = torch.empty_like(a)
        call_ssim("backward", a, b, d_mean=d_mean, d_square=d_square, d_product=d_product, v_map=v_map.contiguous(), v_a=v_a)
        return v_a, None, None


def call_ssim(direction: str, a: Tensor, b: Tensor, **tensors: Tensor) -> None:
    """The native pass in a direction over images [B, H, W, C] of float32; see `Ssim` in `deja_vu.native.abi` for the others."""
    images, height, width, channels = a.shape
    pointers = {name: tensor.data_ptr() for name, tensor in {"a": a, "b": b, **tensors}.items()}
    size = {"images": images, "width": width, "height": height, "channels": channels, "threads": torch.get_num_threads()}
    arguments = native.Ssim(**pointers, **size)
    native.call(f"ssim_{direction}", arguments, f"compare images {tuple(a.shape)}")


def _ssim_torch(a: Tensor, b: Tensor) -> Tensor:
    channels, shape = a.shape[-1], a.shape
    taps = window_taps(a.dtype, a.device).expand(5 * channels, 1, -1)
    a, b = (image.reshape(-1, *shape[-3:]).movedim(-1, 1) for image in (a, b))
    a, b = (functional.pad(image, [WINDOW // 2] * 4, mode="reflect") for image in (a, b))
    stacked = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    for kernel in (taps[..., None, :], taps[..., None]):
        stacked = functional.conv2d(stacked, kernel, groups=5 * channels)
    mean_a, mean_b, square_a, square_b, product = stacked.chunk(5, dim=1)
    variances = (square_a - mean_a**2).clamp_min(0) + (square_b - mean_b**2).clamp_min(0)
    covariance = product - mean_a * mean_b
    values = (2 * mean_a * mean_b + C1) * (2 * covariance + C2) / ((mean_a**2 + mean_b**2 + C1) * (variances + C2))
    return values.movedim(1, -1).reshape(shape)
