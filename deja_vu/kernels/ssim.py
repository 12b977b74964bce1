"""Structural similarity and its gradient, each in two kernels, along columns and rows; `deja_vu.losses.photometric` holds the twin."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK = 1024
"""Numbers of one picture that a program computes."""


def ssim_map(a: Float[Tensor, "b H W C"], b: Float[Tensor, "b H W C"], taps: Float[Tensor, "11"]) -> Float[Tensor, "b H W C"]:
    """Structural similarity of every pixel and channel; gradients reach the first image alone.

    Args:
        a: image.
        b: image that needs no gradient.
        taps: of the window.
    """
    return _SsimMap.apply(a, b, taps)


class _SsimMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, taps: Tensor) -> Tensor:
        a, b = a.detach().contiguous(), b.detach().contiguous()
        means, values, kept = a.new_empty(len(a), 5, *a.shape[1:]), torch.empty_like(a), ctx.needs_input_grad[0]
        slopes = a.new_empty(len(a), 3, *a.shape[1:]) if kept else means
        grid, size = _launch(a)
        _blur_columns[grid](a, b, taps, means, **size)
        _compare[grid](means, taps, values, slopes, KEEP=kept, **size)
        if kept:
            ctx.save_for_backward(a, b, taps, slopes)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_map: Tensor):
        a, b, taps, slopes = ctx.saved_tensors
        columns, v_a = torch.empty_like(slopes), torch.empty_like(a)
        grid, size = _launch(a)
        _gather_columns[grid](slopes, v_map.contiguous(), taps, columns, **size)
        _gather_rows[grid](a, b, columns, taps, v_a, **size)
        return v_a, None, None


def _launch(images: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """Programs, and the size of a picture as every kernel takes it."""
    count, height, width, channels = images.shape
    grid = (count, triton.cdiv(height * width * channels, BLOCK))
    return grid, {"height": height, "width": width, "CHANNELS": channels, "BLOCK": BLOCK}


@triton.jit
def _place(height, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Numbers of a picture; where this program's picture begins, its numbers' places in it, which of them there are; row and column."""
    at, size = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), height * width * CHANNELS
    return size, tl.program_id(0).to(tl.int64) * size, at, at < size, at // (width * CHANNELS), at // CHANNELS % width


@triton.jit
def _reflect(at, size):
    at = tl.abs(at)
    return tl.where(at >= size, 2 * (size - 1) - at, at)


@triton.jit
def _blur_columns(a_ptr, b_ptr, taps_ptr, means_ptr, height, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Means along the columns of a, b, a squared, b squared, and a times b."""
    size, image, at, inside, row, _ = _place(height, width, CHANNELS, BLOCK)
    mean_a = tl.zeros((BLOCK,), a_ptr.dtype.element_ty)
    mean_b, square_a, square_b, product = mean_a, mean_a, mean_a, mean_a
    for tap in range(11):
        weight = tl.load(taps_ptr + tap)
        from_ = image + at + (_reflect(row + tap - 5, height) - row) * width * CHANNELS
        a, b = tl.load(a_ptr + from_, mask=inside, other=0), tl.load(b_ptr + from_, mask=inside, other=0)
        mean_a += weight * a
        mean_b += weight * b
        square_a += weight * a * a
        square_b += weight * b * b
        product += weight * a * b
    to = means_ptr + 5 * image + at
    tl.store(to, mean_a, mask=inside)
    tl.store(to + size, mean_b, mask=inside)
    tl.store(to + 2 * size, square_a, mask=inside)
    tl.store(to + 3 * size, square_b, mask=inside)
    tl.store(to + 4 * size, product, mask=inside)


@triton.jit
def _compare(means_ptr, taps_ptr, map_ptr, slopes_ptr, height, width, CHANNELS: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr):
    """Means along the rows too, and the map; if they are kept, its derivatives by the window's means of a, a squared, and a times b."""
    size, image, at, inside, _, column = _place(height, width, CHANNELS, BLOCK)
    mean_a = tl.zeros((BLOCK,), means_ptr.dtype.element_ty)
    mean_b, square_a, square_b, product = mean_a, mean_a, mean_a, mean_a
    for tap in range(11):
        weight = tl.load(taps_ptr + tap)
        from_ = means_ptr + 5 * image + at + (_reflect(column + tap - 5, width) - column) * CHANNELS
        mean_a += weight * tl.load(from_, mask=inside, other=0)
        mean_b += weight * tl.load(from_ + size, mask=inside, other=0)
        square_a += weight * tl.load(from_ + 2 * size, mask=inside, other=0)
        square_b += weight * tl.load(from_ + 3 * size, mask=inside, other=0)
        product += weight * tl.load(from_ + 4 * size, mask=inside, other=0)
    variance = square_a - mean_a * mean_a
    over_mean = 2 * mean_a * mean_b + 0.0001
    over_product = 2 * (product - mean_a * mean_b) + 0.0009
    under_mean = mean_a * mean_a + mean_b * mean_b + 0.0001
    under_variance = tl.maximum(variance, 0) + tl.maximum(square_b - mean_b * mean_b, 0) + 0.0009
    scale = 1 / (under_mean * under_variance)
    value = over_mean * over_product * scale
    tl.store(map_ptr + image + at, value, mask=inside)
    if KEEP:
        by_square = tl.where(variance >= 0, -value * under_mean * scale, 0)
        by_mean = 2 * (mean_b * (over_product - over_mean) * scale - mean_a * (value * under_variance * scale + by_square))
        to = slopes_ptr + 3 * image + at
        tl.store(to, by_mean, mask=inside)
        tl.store(to + size, by_square, mask=inside)
        tl.store(to + 2 * size, 2 * over_mean * scale, mask=inside)


@triton.jit
def _tap(taps_ptr, offset, valid):
    return tl.load(taps_ptr + offset + 5, mask=valid & (tl.abs(offset) <= 5), other=0)


@triton.jit
def _seen_by(taps_ptr, at, viewer, size):
    """Weight of a place in the window of another, its reflections at both ends included; 0 where there is no such other."""
    there = (viewer >= 0) & (viewer < size)
    mirrored = _tap(taps_ptr, -at - viewer, there & (at > 0)) + _tap(taps_ptr, 2 * (size - 1) - at - viewer, there & (at < size - 1))
    return _tap(taps_ptr, at - viewer, there) + mirrored


@triton.jit
def _gather_columns(slopes_ptr, v_map_ptr, taps_ptr, columns_ptr, height, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Gradients of the means along the rows: of each of the three, what the windows above and below ask for."""
    size, image, at, inside, row, _ = _place(height, width, CHANNELS, BLOCK)
    by_mean = tl.zeros((BLOCK,), slopes_ptr.dtype.element_ty)
    by_square, by_product = by_mean, by_mean
    for tap in range(11):
        weight = _seen_by(taps_ptr, row, row + tap - 5, height)
        from_, valid = at + (tap - 5) * width * CHANNELS, inside & (weight > 0)
        upstream, slopes = weight * tl.load(v_map_ptr + image + from_, mask=valid, other=0), slopes_ptr + 3 * image + from_
        by_mean += upstream * tl.load(slopes, mask=valid, other=0)
        by_square += upstream * tl.load(slopes + size, mask=valid, other=0)
        by_product += upstream * tl.load(slopes + 2 * size, mask=valid, other=0)
    to = columns_ptr + 3 * image + at
    tl.store(to, by_mean, mask=inside)
    tl.store(to + size, by_square, mask=inside)
    tl.store(to + 2 * size, by_product, mask=inside)


@triton.jit
def _gather_rows(a_ptr, b_ptr, columns_ptr, taps_ptr, v_a_ptr, height, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """The same from the windows beside, and the gradient of a that follows."""
    size, image, at, inside, _, column = _place(height, width, CHANNELS, BLOCK)
    by_mean = tl.zeros((BLOCK,), a_ptr.dtype.element_ty)
    by_square, by_product = by_mean, by_mean
    for tap in range(11):
        weight = _seen_by(taps_ptr, column, column + tap - 5, width)
        from_, valid = columns_ptr + 3 * image + at + (tap - 5) * CHANNELS, inside & (weight > 0)
        by_mean += weight * tl.load(from_, mask=valid, other=0)
        by_square += weight * tl.load(from_ + size, mask=valid, other=0)
        by_product += weight * tl.load(from_ + 2 * size, mask=valid, other=0)
    a, b = tl.load(a_ptr + image + at, mask=inside, other=0), tl.load(b_ptr + image + at, mask=inside, other=0)
    tl.store(v_a_ptr + image + at, by_mean + 2 * a * by_square + b * by_product, mask=inside)
