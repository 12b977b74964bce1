"""Weighted distances of pictures, summed in one kernel and differentiated in another; `deja_vu.losses.photometric` holds the twins."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK = 1024


def masked_huber(a: Float[Tensor, "*b C"], b: Float[Tensor, "*b C"], mask: Float[Tensor, "*b 1"], delta: float) -> Float[Tensor, ""]:
    """Huber distance averaged by weight, 0 where all weights are 0; gradients reach the first picture alone.

    Args:
        a: picture.
        b: picture of the same shape, which needs no gradient.
        mask: weight of each pixel, which needs none either.
        delta: where the parabola goes over into straight lines.
    """
    return _MaskedHuber.apply(a, b, mask, delta)


class _MaskedHuber(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, mask: Tensor, delta: float) -> Tensor:
        a, b, mask = (tensor.detach().contiguous() for tensor in (a, b, mask))
        programs = triton.cdiv(a.numel(), BLOCK)
        sums = a.new_zeros(2, max(1, programs))
        if programs:
            _forward[(programs,)](a, b, mask, sums, a.numel(), delta, programs, CHANNELS=a.shape[-1], BLOCK=BLOCK)
        distance, weight = sums.sum(1)
        weight = weight.clamp_min(torch.finfo(a.dtype).tiny)
        ctx.delta = delta
        ctx.save_for_backward(a, b, mask, weight)
        return distance / weight

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_mean: Tensor):
        a, b, mask, weight = ctx.saved_tensors
        v_a, programs = torch.empty_like(a), triton.cdiv(a.numel(), BLOCK)
        if programs:
            _backward[(programs,)](a, b, mask, v_mean / weight, v_a, a.numel(), ctx.delta, CHANNELS=a.shape[-1], BLOCK=BLOCK)
        return v_a, None, None, None


@triton.jit
def _forward(a_ptr, b_ptr, mask_ptr, sums_ptr, count, delta, programs, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """This program's share of the weighted distances, and of the weights."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    size = tl.abs(tl.load(a_ptr + at, mask=inside, other=0) - tl.load(b_ptr + at, mask=inside, other=0))
    weight = tl.load(mask_ptr + at // CHANNELS, mask=inside, other=0)
    distance = tl.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))
    tl.store(sums_ptr + tl.program_id(0), tl.sum(weight * distance))
    tl.store(sums_ptr + programs + tl.program_id(0), tl.sum(weight))


@triton.jit
def _backward(a_ptr, b_ptr, mask_ptr, scale_ptr, v_a_ptr, count, delta, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    difference = tl.load(a_ptr + at, mask=inside, other=0) - tl.load(b_ptr + at, mask=inside, other=0)
    weight = tl.load(scale_ptr) * tl.load(mask_ptr + at // CHANNELS, mask=inside, other=0)
    tl.store(v_a_ptr + at, weight * tl.minimum(tl.maximum(difference, -delta), delta), mask=inside)
