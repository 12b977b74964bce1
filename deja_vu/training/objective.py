"""What personalization minimises: named image terms over the pixels that count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.image import RenderOutput, over
from deja_vu.datasets.sampling import Batch
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.losses.photometric import dssim_loss, huber


@dataclass(frozen=True)
class LossWeights:
    """Weight of every term of the personalization objective; 0 leaves a term out."""

    huber: float = 10.0
    """Huber distance (threshold 0.1) over all channels."""
    dssim: float = 0.1
    """(1 - SSIM) / 2, window 11."""
    perceptual: float = 0.05
    """ST-LPIPS (AlexNet)."""
    attention: float = 3.0
    """Extra Huber weight of eyes and mouth."""
    alpha: float = 0.1
    """Mean absolute difference of coverage and head alpha."""
    position: float = 0.02
    """Squared position rectification, where skin must hold."""
    scale: float = 0.001
    """Squared log-scale rectification."""
    opacity: float = 0.0005
    """Squared opacity rectification."""
    blendmaps: float = 0.01
    """Squared blendmaps."""


class Objective:
    """Image terms of one batch; the sum of weighted terms is the loss."""

    def __init__(self, weights: LossWeights, perceptual: PerceptualDistance | None) -> None:
        self.weights, self.perceptual = weights, perceptual

    def target(self, batch: Batch, background: Float[Tensor, "3"]) -> Float[Tensor, "B H W 3"]:
        """The head alone, over a background color."""
        return over(batch.image, batch.head, background)

    def terms(
        self, out: RenderOutput, batch: Batch, background: Float[Tensor, "3"], *, with_perceptual: bool
    ) -> dict[str, Float[Tensor, ""]]:
        """Unweighted image terms.

        Args:
            out: render over `background`.
            batch: frames.
            background: color behind render and target.
            with_perceptual: whether to compute the perceptual term, the dearest, in this step.
        """
        target = self.target(batch, background)
        weight = batch.counted * (1 + self.weights.attention * batch.attention)
        terms = {
            "huber": huber(out.rgb, target, delta=0.1, mask=weight),
            "alpha": ((out.alpha - batch.head).abs() * batch.counted).mean(),
        }
        if self.weights.dssim:
            terms["dssim"] = dssim_loss(out.rgb, target, mask=batch.counted)
        if with_perceptual and self.perceptual is not None:
            shown = torch.where(batch.counted > 0.5, out.rgb, target)
            with torch.no_grad():
                wanted = self.perceptual.encode(target)
            terms["perceptual"] = self.perceptual.distance(self.perceptual.encode(shown), wanted).mean()
        return terms

    def total(self, terms: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Weighted sum of named terms."""
        return sum((getattr(self.weights, name) * value for name, value in terms.items()), torch.zeros(()))
