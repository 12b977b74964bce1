"""Choice of a few indices that represent many."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def evenly_spaced(count: int, total: int) -> Int[Tensor, " n"]:
    """Indices spread evenly from the first to the last, ascending and each once.

    Args:
        count: how many are wanted; all where there are fewer.
        total: how many there are; no index where there is none.
    """
    return torch.linspace(0, total - 1, min(count, total)).round().long().unique()
