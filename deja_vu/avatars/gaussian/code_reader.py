"""The reader of a person's codes: linear maps from the residual of a frame to the error of its tracked code.

It is learned from training frames, whose codes were fitted through the avatar, and used on frames that it has never seen. Where c was
fitted to a frame, the picture at c - d differs from the frame by the residual r at c and by J d, where J says how the picture changes with
the code. With d drawn as large as tracking errs, each value by itself, the linear map of least mean square error is
Cov(d, r + J d) Cov(r + J d)^-1. What the avatar cannot show, r, is learned along with it as the noise, and the tracker's real errors are
among the examples.

Source of the idea: regression of residuals in active appearance models (Cootes, Edwards and Taylor, ECCV 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deja_vu.avatars.gaussian.config import ReaderConfig

if TYPE_CHECKING:
    from deja_vu.avatars.gaussian.code_fit import FittedCode

GRIDS = ((16, 24), (18, 20), (18, 20))
"""Rows and columns to which the residual of every part is reduced: lips, left eye and brow, right eye and brow."""
LEAST_SPREAD = 0.1
"""Share of the mean variance of residuals that is added to every cell's, for those in which little ever happens."""
LEAST_VARIANCE = 1e-5
"""Variance of a value's error where it never errs."""


class CodeReader(nn.Module):
    """Linear maps from residuals to corrections of the code; none until `learn_reader` has learned them."""

    weight: Tensor
    mean: Tensor
    limit: Tensor
    """Most that the residual of each cell counts, by that of training: teeth or a tongue that no frame showed say nothing about lips."""

    def __init__(self, size: int) -> None:
        """Begin with a reader that corrects nothing.

        Args:
            size: numbers of a code, D.
        """
        super().__init__()
        pixels = sum(3 * rows * columns for rows, columns in GRIDS)
        self.register_buffer("weight", torch.zeros(pixels, size))
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("limit", torch.zeros(pixels))

    def read(self, residuals: list[Float[Tensor, "_ _ 3"]]) -> Float[Tensor, " D"]:
        """What the code is to be corrected by.

        Args:
            residuals: frame less avatar in the window of every part, 0 where no pixel counts.
        """
        return self.read_cells(torch.cat(reduce_parts(residuals)))

    def read_cells(self, cells: Float[Tensor, " P"]) -> Float[Tensor, " D"]:
        """The same from residuals that are reduced to the grids of all parts, one after the other."""
        return (cells - self.mean).clamp(-self.limit, self.limit) @ self.weight


@dataclass(frozen=True)
class Example:
    """A training frame with its fitted code, reduced to the grids."""

    error: Float[Tensor, " D"]
    """Fitted less tracked code."""
    at_tracked: list[Float[Tensor, " _"]]
    """Residuals of every part at the tracked code."""
    at_fitted: list[Float[Tensor, " _"]]
    """Residuals of every part at the fitted code."""
    effects: list[Float[Tensor, "_ _"]]
    """How the picture of every part changes with each of the values that move it."""

    @staticmethod
    def of(fitted: FittedCode, at_tracked: list[Float[Tensor, "_ _ 3"]], at_fitted: list[Float[Tensor, "_ _ 3"]]) -> Example:
        """What a fit says to a reader.

        Args:
            fitted: what it came to.
            at_tracked: residuals in the window of every part at the tracked code.
            at_fitted: the same at the fitted one.
        """
        view = fitted.view
        masked = [change * mask for change, mask in zip(fitted.differences, view.masks, strict=True)]
        return Example(
            error=fitted.code - fitted.tracked,
            at_tracked=reduce_parts(at_tracked),
            at_fitted=reduce_parts(at_fitted),
            effects=[interpolate(change.movedim(-1, 1), grid, mode="area").flatten(1) for change, grid in zip(masked, GRIDS, strict=True)],
        )


@torch.no_grad()
def learn_reader(reader: CodeReader, examples: Sequence[Example], columns: Sequence[Int[Tensor, " _"]], config: ReaderConfig) -> None:
    """Learn from a person's frames, in place.

    Args:
        reader: to be filled.
        examples: frames.
        columns: numbers of the values that move each part.
        config: recipe.
    """
    errors = torch.stack([example.error for example in examples])
    variance = errors.square().mean(0) + LEAST_VARIANCE
    shared = torch.zeros(errors.shape[1])
    for own in columns:
        shared[own] += 1
    weights, means, limits = [], [], []
    for part, own in enumerate(columns):
        tracked, fitted = (torch.stack([getattr(one, name)[part] for one in examples]) for name in ("at_tracked", "at_fitted"))
        mean = fitted.mean(0)
        tracked, fitted = tracked - mean, fitted - mean
        system = fitted.T @ fitted + config.tracked_weight * tracked.T @ tracked
        cross = config.tracked_weight * tracked.T @ errors[:, own]
        for example in examples:
            drawn = example.effects[part].T * variance[own]
            system += drawn @ example.effects[part]
            cross += drawn
        system.diagonal().add_(config.noise * system.diagonal().mean() + LEAST_VARIANCE)
        weight = torch.zeros(len(system), errors.shape[1])
        weight[:, own] = torch.linalg.solve(system, cross) / shared[own]
        weights.append(weight)
        means.append(mean)
        spread = tracked.square().mean(0)
        limits.append((config.eyes_limit if part else config.lips_limit) * (spread + LEAST_SPREAD * spread.mean()).sqrt())
    reader.weight.copy_(torch.cat(weights))
    reader.mean.copy_(torch.cat(means))
    reader.limit.copy_(torch.cat(limits))


def reduce_parts(pictures: list[Float[Tensor, "_ _ 3"]]) -> list[Float[Tensor, " _"]]:
    """Pictures of all parts, averaged over the cells of their grids."""
    return [interpolate(picture.movedim(-1, 0)[None], grid, mode="area").flatten() for picture, grid in zip(pictures, GRIDS, strict=True)]
