"""The loss terms of a picture, and its PSNR, in native passes over its pixels.

Plain torch repeats each pixel's weight for its three colors, term by term: half of a training step went there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu import native
from deja_vu.core.batch import Batch
from deja_vu.core.image import RenderOutput, over
from deja_vu.losses.photometric import SSIM_DERIVATIVES, call_ssim

PLAIN_TORCH = "terms of pictures with plain torch, several times slower than the native ones"
"""Fallback where the native library cannot be loaded, as the warning says it."""


@dataclass(frozen=True)
class PictureTerms:
    """What pictures cost beside their targets, as means by weight over all pixels and channels."""

    huber: Float[Tensor, ""]
    """By the weights of color."""
    alpha: Float[Tensor, ""]
    """Absolute difference of coverage times the other weights, over all pixels."""
    dssim: Float[Tensor, ""]
    """(1 - SSIM) / 2 by the other weights."""
    target: Float[Tensor, "B H W 3"]
    """What the pictures should be; without gradient."""


def measures_natively(out: RenderOutput) -> bool:
    """Whether `picture_terms` takes these renders."""
    return out.rgb.is_cpu and out.rgb.dtype == torch.float32 and out.rgb.numel() > 0 and native.available(PLAIN_TORCH)


def picture_terms(
    out: RenderOutput,
    image: Float[Tensor, "B H W 3"],
    cover: Float[Tensor, "B H W 1"],
    background: Float[Tensor, "3"],
    *,
    color_weight: Float[Tensor, "B H W 1"],
    weight: Float[Tensor, "B H W 1"],
    delta: float,
) -> PictureTerms:
    """Huber distance, difference of coverage and structural dissimilarity of renders; gradients reach their color and coverage.

    Args:
        out: renders over the background, at least 6 pixels a side, of float32 on the CPU.
        image: frames.
        cover: share of every pixel that is the subject's.
        background: color.
        color_weight: weight of every pixel in the Huber distance.
        weight: weight of every pixel in the other two.
        delta: difference at which the Huber distance goes over from a parabola into straight lines, positive.
    """
    rgb, alpha = out.rgb.contiguous(), out.alpha.contiguous()
    shape = rgb.shape[:3]
    assert image.shape == rgb.shape == (*shape, 3), (image.shape, rgb.shape)
    assert all(plane.shape == (*shape, 1) for plane in (alpha, cover, color_weight, weight)), (alpha.shape, cover.shape, weight.shape)
    fixed = [plane.contiguous() for plane in (image, cover, color_weight, weight, background.float())]
    return PictureTerms(*_PictureTerms.apply(rgb, alpha, *fixed, delta))


@torch.no_grad()
def squared_errors(
    rgb: Float[Tensor, "B H W 3"],
    image: Float[Tensor, "B H W 3"],
    cover: Float[Tensor, "B H W 1"],
    background: Float[Tensor, "3"],
    weight: Float[Tensor, "B H W 1"],
) -> Float[Tensor, " B"]:
    """Weighted sum of the squared differences of every picture to its frame over the background, float32 on the CPU.

    Args:
        rgb: pictures in [0, 1].
        image: frames.
        cover: share of every pixel that is the subject's.
        background: color.
        weight: of every pixel.
    """
    planes = {"rgb": rgb, "image": image, "cover": cover, "color_weight": weight, "weight": weight, "background": background.float()}
    kept = {name: plane.contiguous() for name, plane in planes.items()}
    sums = torch.empty(len(rgb), 3, dtype=torch.float64)
    _call("forward", kept, {"sums": sums, "delta": 2.0})  # within [0, 1] no difference reaches the straight lines
    return (2 * sums[:, 0]).float()


def to_decibels(error: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Peak signal-to-noise ratio of mean squared differences of pictures in [0, 1], dB; at most 100."""
    return -10 * error.clamp_min(1e-10).log10()


@torch.no_grad()
def psnr(out: RenderOutput, batch: Batch, background: Float[Tensor, "3"]) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio of every frame over the pixels that count, dB; at most 100.

    Args:
        out: render over the background; what leaves [0, 1] is cut, as in a picture.
        batch: frames on the same grid.
        background: color.
    """
    mask = batch.loss_mask
    rgb = out.rgb.clamp(0, 1)
    if measures_natively(out):
        total = squared_errors(rgb, batch.image, batch.head, background, mask)
    else:
        total = ((rgb - over(batch.image, batch.head, background)).square() * mask).sum((-3, -2, -1))
    error = total / (3 * mask.sum((-3, -2, -1))).clamp_min(torch.finfo(mask.dtype).tiny)
    return to_decibels(error)


class _PictureTerms(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, alpha, image, cover, color_weight, weight, background, delta):
        inputs = dict(zip(_INPUTS, (rgb, alpha, image, cover, color_weight, weight, background), strict=True))
        target, similar = torch.empty_like(rgb), torch.empty_like(rgb)
        sums = torch.empty(len(rgb), 3, dtype=torch.float64)
        _call("forward", inputs, {"target": target, "sums": sums, "delta": delta})
        derivatives = {name: torch.empty_like(rgb) for name in SSIM_DERIVATIVES} if any(ctx.needs_input_grad[:2]) else {}
        call_ssim("forward", rgb, target, map=similar, **derivatives)
        _call("similarity", inputs, {"map": similar, "sums": sums})
        tiny = torch.finfo(rgb.dtype).tiny
        means = [1 / (3 * color_weight.sum()).clamp_min(tiny), torch.tensor(1 / alpha.numel()), 1 / (3 * weight.sum()).clamp_min(tiny)]
        ctx.save_for_backward(*inputs.values(), target, *derivatives.values())
        ctx.delta, ctx.means = delta, means
        ctx.mark_non_differentiable(target)
        color, coverage, dissimilar = (total * mean for total, mean in zip(sums.sum(0).float(), means, strict=True))
        return color, coverage, dissimilar, target

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_color, v_coverage, v_dissimilar, _):
        *inputs, target, d_mean, d_square, d_product = ctx.saved_tensors
        planes = dict(zip(_INPUTS, inputs, strict=True)) | {"target": target}
        rgb, alpha = planes["rgb"], planes["alpha"]
        upstream = zip((v_color, v_coverage, v_dissimilar), ctx.means, strict=True)
        color_scale, coverage_scale, similarity_scale = (float(value * mean) for value, mean in upstream)
        v_map, v_rgb, v_alpha = torch.empty_like(rgb), torch.empty_like(rgb), torch.empty_like(alpha)
        _call("spread", planes, {"v_map": v_map, "similarity_scale": similarity_scale})
        call_ssim("backward", rgb, target, d_mean=d_mean, d_square=d_square, d_product=d_product, v_map=v_map, v_a=v_rgb)
        scales = {"delta": ctx.delta, "color_scale": color_scale, "coverage_scale": coverage_scale}
        _call("backward", planes, {"v_rgb": v_rgb, "v_alpha": v_alpha, **scales})
        return v_rgb, v_alpha, *[None] * 6


_INPUTS = ("rgb", "alpha", "image", "cover", "color_weight", "weight", "background")


def _call(step: str, inputs: dict[str, Tensor], others: dict[str, Tensor | float]) -> None:
    images, height, width, _ = inputs["rgb"].shape
    values = {name: value.data_ptr() if isinstance(value, Tensor) else value for name, value in {**inputs, **others}.items()}
    size = {"images": images, "pixels": height * width, "threads": torch.get_num_threads()}
    native.call(f"picture_{step}", native.Picture(**values, **size), f"compare pictures {tuple(inputs['rgb'].shape)}")
