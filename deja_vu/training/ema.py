"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class AveragedModel(nn.Module):
    """A copy of a model whose weights follow the model's slowly."""

    steps: Tensor
    """Steps followed so far."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copy a model.

        Args:
            model: to be followed.
            decay: share of the average that a step keeps, in [0, 1); less in the first steps, so that the beginning is forgotten.
        """
        super().__init__()
        assert 0 <= decay < 1, decay
        self.decay = decay
        self.register_buffer("steps", torch.zeros(()))
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AveragedModel:
        """The model follows to another device; the count, which every step reads, stays on the host."""
        count = self.steps
        super()._apply(fn, recurse)
        self.steps = count
        return self

    def train(self, mode: bool = True) -> AveragedModel:
        """Stay in evaluation mode: the average is looked at, never trained."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Move towards the model, after one step of its descent."""
        self.steps += 1
        kept = min(self.decay, float(self.steps / (self.steps + 9)))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - kept)
            else:
                mine.copy_(theirs)
