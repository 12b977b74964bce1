"""What personalization minimises: named image terms over the pixels that count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.batch import Batch
from deja_vu.core.image import RenderOutput, over
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.losses.photometric import dssim_loss, huber


@dataclass(frozen=True)
class LossWeights:
    """Weight of every term of the personalization objective; 0 leaves a term out."""

    huber: float = 10.0
    """Huber distance (threshold 0.1) over all channels."""
    dssim: float = 0.4
    """(1 - SSIM) / 2, window 11."""
    perceptual: float = 0.02
    """ST-LPIPS (AlexNet)."""
    eyes_mouth: float = 3.0
    """Extra Huber weight of eyes and mouth."""
    alpha: float = 0.1
    """Mean absolute difference of coverage and head alpha."""
    neck: float = 0.2
    """Weight of a pixel on neck and torso, where nothing should be drawn, beside one that counts."""
    position: float = 0.007
    """Squared position rectification, where skin must hold."""
    scale: float = 0.01
    """Squared log-scale rectification."""
    opacity: float = 0.0005
    """Squared opacity rectification."""
    unseen: float = 0.01
    """Squared rectification of texels that the training frames hardly show."""
    sides: float = 1.0
    """Distance to the base map in views that no frame shows."""
    blendmaps: float = 1.0
    """Squared blendmaps."""
    correction: float = 0.0001
    """Squared weights of the correction of tracked parameters."""


class Objective:
    """Image terms of one batch; the sum of weighted terms is the loss."""

    def __init__(self, weights: LossWeights, perceptual: PerceptualDistance | None) -> None:
        self.weights, self.perceptual = weights, perceptual

    def target(self, batch: Batch, background: Float[Tensor, "3"]) -> Float[Tensor, "B H W 3"]:
        """The head alone, over a background color."""
        return over(batch.image, batch.head, background)

    def terms(
        self, out: RenderOutput, batch: Batch, background: Float[Tensor, "3"], *, window: tuple[slice, slice] | None
    ) -> dict[str, Float[Tensor, ""]]:
        """Unweighted image terms.

        Args:
            out: render over `background`.
            batch: frames.
            background: color behind render and target.
            window: rows and columns on which the perceptual term, the dearest, is measured; None leaves it out in this step.
        """
        target = self.target(batch, background)
        loss_mask = batch.loss_mask.clamp_min(self.weights.neck) * batch.valid
        weight = loss_mask * (1 + self.weights.eyes_mouth * batch.eyes_mouth)
        terms = {
            "huber": huber(out.rgb, target, delta=0.1, mask=weight),
            "alpha": ((out.alpha - batch.head).abs() * loss_mask).mean(),
        }
        if self.weights.dssim:
            terms["dssim"] = dssim_loss(out.rgb, target, mask=loss_mask)
        if window is not None and self.perceptual is not None:
            rows, columns = window
            with torch.no_grad():
                wanted = self.perceptual.encode(target[:, rows, columns])
            shown = torch.where(batch.loss_mask > 0.5, out.rgb, target)[:, rows, columns]
            terms["perceptual"] = self.perceptual.distance(self.perceptual.encode(shown), wanted).mean()
        return terms

    def total(self, terms: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Weighted sum of named terms."""
        return sum((getattr(self.weights, name) * value for name, value in terms.items()), torch.zeros(()))


def head_window(head: Float[Tensor, "B H W 1"], side: int, generator: torch.Generator) -> tuple[slice, slice]:
    """A random square of `side` pixels (or the whole picture, if that is smaller) whose centre lies on the head.

    Args:
        head: head alpha.
        side: pixels.
        generator: source of the draw.
    """
    places = (head[..., 0].amax(0) > 0.5).nonzero()
    height, width = head.shape[1:3]
    side = min(side, height, width)
    middle = torch.tensor([[height // 2, width // 2]])
    places = places if len(places) else middle
    row, column = places[torch.randint(len(places), (), generator=generator)].tolist()
    top, left = min(max(row - side // 2, 0), height - side), min(max(column - side // 2, 0), width - side)
    return slice(top, top + side), slice(left, left + side)
