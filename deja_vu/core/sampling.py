"""A few indices that represent many."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def evenly_spaced(count: int, total: int) -> Int[Tensor, " n"]:
    """Indices spread evenly from the first to the last, ascending and each once.

    Args:
        count: how many are wanted; all where there are fewer.
        total: how many there are; no index where there is none.
    """
    return torch.linspace(0, total - 1, min(count, total)).round().long().unique()


def true_rows(mask: Bool[Tensor, " n"]) -> Int[Tensor, " m"]:
    """Indices of the rows that a mask marks, ascending; on the meta device, which has no values, all: the most there can be."""
    return torch.arange(len(mask), device=mask.device) if mask.is_meta else mask.nonzero()[:, 0]
