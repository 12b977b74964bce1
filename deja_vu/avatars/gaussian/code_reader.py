"""A person's reader of codes: linear maps from how a frame differs from the avatar, drawn as tracked, to what the tracker missed.

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
from deja_vu.avatars.gaussian.face_code import FaceView

if TYPE_CHECKING:
    from deja_vu.avatars.gaussian.code_fit import FittedCode

GRIDS = ((16, 24), (18, 20), (18, 20))
"""Rows and columns to which the residual of every part is reduced: lips, left eye and brow, right eye and brow."""
LEAST_VARIANCE = 1e-5
"""Variance of a value's error where it never errs."""


class CodeReader(nn.Module):
    """Linear maps from residuals to corrections of the code; none until `learn_reader` has learned them."""

    weight: Tensor
    mean: Tensor
    reach: Tensor
    """Norm of each part's residual, by that of training, down to which larger ones are scaled, so that nothing extrapolates far."""

    def __init__(self, size: int) -> None:
        """Begin with a reader that corrects nothing.

        Args:
            size: numbers of a code, D.
        """
        super().__init__()
        pixels = sum(3 * rows * columns for rows, columns in GRIDS)
        self.register_buffer("weight", torch.zeros(pixels, size))
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("reach", torch.zeros(len(GRIDS)))

    def read(self, residuals: list[Float[Tensor, "_ _ 3"]]) -> Float[Tensor, " D"]:
        """What the code is to be corrected by.

        Args:
            residuals: frame less avatar in the window of every part, 0 where no pixel counts.
        """
        sizes = [3 * rows * columns for rows, columns in GRIDS]
        held = []
        for part, mean, reach in zip(reduce_parts(residuals), self.mean.split(sizes), self.reach, strict=True):
            unusual = part - mean
            held.append(unusual * (reach / unusual.norm().clamp_min(1e-9)).clamp(max=1.0))
        return torch.cat(held) @ self.weight


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
    def of(fitted: FittedCode) -> Example:
        """What a fit says to a reader."""
        view = fitted.view
        masked = [change * mask for change, mask in zip(fitted.differences, view.masks, strict=True)]
        return Example(
            error=fitted.code - fitted.tracked,
            at_tracked=reduce_parts(residuals(view, fitted.at_tracked)),
            at_fitted=reduce_parts(residuals(view, fitted.at_fitted)),
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
    weights, means, reaches = [], [], []
    for part, own in enumerate(columns):
        tracked, fitted = (torch.stack([getattr(one, name)[part] for one in examples]) for name in ("at_tracked", "at_fitted"))
        mean = fitted.mean(0)
        tracked, fitted = tracked - mean, fitted - mean
        system = fitted.T @ fitted + config.tracked_weight * tracked.T @ tracked
        cross = config.tracked_weight * tracked.T @ errors[:, own]
        for example in examples:
            spread = example.effects[part].T * variance[own]
            system += spread @ example.effects[part]
            cross += spread
        system.diagonal().add_(config.noise * system.diagonal().mean() + LEAST_VARIANCE)
        weight = torch.zeros(len(system), errors.shape[1])
        weight[:, own] = torch.linalg.solve(system, cross) / shared[own]
        weights.append(weight)
        means.append(mean)
        reaches.append(config.reach * tracked.norm(dim=1).amax())
    reader.weight.copy_(torch.cat(weights))
    reader.mean.copy_(torch.cat(means))
    reader.reach.copy_(torch.stack(reaches))


def residuals(view: FaceView, shown: list[Float[Tensor, "_ _ 3"]]) -> list[Float[Tensor, "_ _ 3"]]:
    """Frame less avatar in every window, 0 where no pixel counts."""
    return [(target - picture) * mask for target, picture, mask in zip(view.targets, shown, view.masks, strict=True)]


def reduce_parts(pictures: list[Float[Tensor, "_ _ 3"]]) -> list[Float[Tensor, " _"]]:
    """Pictures of all parts, averaged over the cells of their grids."""
    return [interpolate(picture.movedim(-1, 0)[None], grid, mode="area").flatten() for picture, grid in zip(pictures, GRIDS, strict=True)]
