"""Weighted sums of squares of a map, for the regularizers of an avatar, in few passes over the map."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def weighted_squares(
    values: Float[Tensor, "M C"], texel_weights: Float[Tensor, "T M"], channel_weights: Float[Tensor, "T C"]
) -> Float[Tensor, " T"]:
    """T sums over texels and channels of squared values by weight; gradients reach the values alone.

    Written out term by term, every slice of the channels costs a map of zeros on the way back.

    Args:
        values: map.
        texel_weights: of every sum.
        channel_weights: of every sum.
    """
    assert texel_weights.shape[0] == channel_weights.shape[0], (texel_weights.shape, channel_weights.shape)
    return _WeightedSquares.apply(values, texel_weights, channel_weights)


class _WeightedSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, texel_weights, channel_weights):
        ctx.save_for_backward(values, texel_weights, channel_weights)
        return ((texel_weights @ values.square()) * channel_weights).sum(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        values, texel_weights, channel_weights = ctx.saved_tensors
        slope = texel_weights.T @ (2 * upstream[:, None] * channel_weights)
        return slope.mul_(values), None, None
