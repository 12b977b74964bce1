"""What the field paths minimise: the picture's terms, as for Gaussians, and what each path has besides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.batch import Batch
from deja_vu.core.image import RenderOutput
from deja_vu.losses.perceptual import MIN_SIZE, PerceptualDistance
from deja_vu.losses.photometric import masked_mean
from deja_vu.training.objective import LossWeights, Objective

FIELD_IMAGE = LossWeights(dssim=0.1, perceptual=0.03)
"""Weights of the full picture with which the field paths were tuned."""


@dataclass(frozen=True)
class NerfWeights:
    """Weights of the radiance field's terms; 0 leaves a term out."""

    image: LossWeights = FIELD_IMAGE
    """Of the full picture."""
    l1: float = 0.0
    """Mean absolute difference of the full picture."""
    fine: float = 2.0
    """Mean absolute difference of the picture before super-resolution, and of its coverage."""
    coarse: float = 0.5
    """The same of the picture from even samples alone."""
    low_perceptual: float = 0.0
    """Perceptual distances of these two pictures, added up."""
    face: float = 0.0
    """Mean absolute difference on the face's box, of all three pictures."""
    face_perceptual: float = 0.0
    """Perceptual distance there."""
    opacity: float = 0.0
    """Two-norm of the even samples' opacities."""
    planes: float = 0.02
    """Squared difference of neighbouring texels of the tri-planes."""
    points: float = 0.0001
    """Squared features of the surface points."""


def absolute(out: RenderOutput, batch: Batch, background: Float[Tensor, "3"], neck: float) -> Float[Tensor, ""]:
    """Mean absolute difference of color and of coverage over the pixels that count.

    Args:
        out: render over the background.
        batch: frames on the same grid.
        background: color.
        neck: weight of a pixel on the neck.
    """
    loss_mask = batch.loss_mask.clamp_min(neck) * batch.valid
    target = torch.cat([batch.image * batch.head + background * (1 - batch.head), batch.head], -1)
    return masked_mean((torch.cat([out.rgb, out.alpha], -1) - target).abs(), loss_mask)


def psnr_of(out: RenderOutput, batch: Batch, background: Float[Tensor, "3"]) -> float:
    """Of a batch, over the pixels that count, dB."""
    target = batch.image * batch.head + background * (1 - batch.head)
    error = masked_mean((out.rgb.detach() - target).square(), batch.loss_mask)
    return float(-10 * torch.log10(error.clamp_min(1e-10)))


@dataclass(frozen=True)
class NelfWeights:
    """Weights of the light field's terms; 0 leaves a term out."""

    image: LossWeights = FIELD_IMAGE
    """Of the full picture."""
    l1: float = 0.0
    """Mean absolute difference of the full picture."""
    l2: float = 0.0
    """Mean squared difference of the full picture, the published code's default."""
    rays: float = 2.0
    """Mean absolute difference of the picture before super-resolution, where that is a picture."""
    temporal: float = 0.0
    """How much more the picture changes between two codes than the codes do: ratio of the mean absolute differences."""
    latents: float = 0.001
    """Squared latents of the warping field."""


class FieldObjective:
    """Sum of weighted terms; the picture's are an `Objective`'s, the others are looked up in the weights by name."""

    def __init__(self, weights: NerfWeights | NelfWeights, perceptual: PerceptualDistance | None) -> None:
        self.weights, self.image, self.perceptual = weights, Objective(weights.image, perceptual), perceptual

    def total(self, terms: dict[str, Tensor], perceptual_every: int) -> Float[Tensor, ""]:
        """Weighted sum; a perceptual term that is there in one of n steps counts n times."""
        loss = torch.zeros(())
        for name, value in terms.items():
            owner = self.weights if hasattr(self.weights, name) else self.weights.image
            often = perceptual_every if name.endswith("perceptual") else 1
            loss = loss.to(value.device) + often * getattr(owner, name) * value
        return loss

    def face(
        self, renders: list[tuple[RenderOutput, Batch]], boxes: list[tuple[slice, slice]], background: Tensor, *, perceptual: bool
    ) -> dict[str, Tensor]:
        """Terms on the face's box: sums over the pictures, each on its own grid, of the mean over frames.

        Args:
            renders: pictures and their targets.
            boxes: for each frame, on the last picture's grid.
            background: color.
            perceptual: measure the perceptual distance too, where the box is large enough.
        """
        full = renders[-1][1].image.shape[2]
        sums: dict[str, list[Tensor]] = {"face": [], "face_perceptual": []}
        for out, batch in renders:
            share = batch.image.shape[2] / full
            for number, box in enumerate(boxes):
                rows, columns = (slice(int(s.start * share), max(int(s.stop * share), int(s.start * share) + 1)) for s in box)
                cut = batch.frame(number).cropped(rows, columns)
                shown = RenderOutput(out.rgb[number : number + 1, rows, columns], out.alpha[number : number + 1, rows, columns])
                sums["face"].append(absolute(shown, cut, background, self.weights.image.neck))
                if perceptual and self.perceptual is not None and min(cut.image.shape[1:3]) >= MIN_SIZE:
                    target = self.image.target(cut, background)
                    sums["face_perceptual"].append(self.perceptual(shown.rgb, target).mean())
        return {name: torch.stack(values).sum() / len(boxes) for name, values in sums.items() if values}
