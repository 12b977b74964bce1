"""Image metrics over head and background, over white; neck and torso are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.losses.photometric import ssim_map
from deja_vu.losses.picture import to_decibels

METRICS = ("psnr", "ssim", "st_lpips", "l1")
"""PSNR in dB (higher is better), SSIM (higher), ST-LPIPS with AlexNet (lower), mean absolute error (lower)."""


@dataclass(frozen=True)
class Reference:
    """A target prepared to be compared with several images."""

    target: Float[Tensor, "H W 3"]
    """Head over white."""
    mask: Float[Tensor, "H W 1"]
    """Weight of each pixel, 0 on neck and torso."""
    features: list[Tensor] | None
    """Perceptual features, None where the perceptual distance is left out."""


class FrameMetrics:
    """Scores single frames; a method's score is the mean over frames."""

    def __init__(self, perceptual: PerceptualDistance) -> None:
        self.perceptual = perceptual

    @torch.no_grad()
    def reference(self, target: Float[Tensor, "H W 3"], mask: Float[Tensor, "H W 1"], *, perceptual: bool) -> Reference:
        """Prepare a target; its perceptual features, the dearest part, are computed once for all methods."""
        features = self.perceptual.encode(_mask(target, mask)[None]) if perceptual else None
        return Reference(target, mask, features)

    @torch.no_grad()
    def score(self, image: Float[Tensor, "H W 3"], reference: Reference) -> dict[str, float]:
        """Metrics of one frame; without `st_lpips` where the reference has no features. The host waits once for all of them."""
        values = self.compare(image, reference)
        return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))

    @torch.no_grad()
    def compare(self, image: Float[Tensor, "H W 3"], reference: Reference) -> dict[str, Float[Tensor, ""]]:
        """The same, where picture and reference lie."""
        target, mask = reference.target, reference.mask
        difference = (image - target) * mask
        total = 3 * mask.sum()
        shown = _mask(image, mask)
        similarity = ssim_map(shown, _mask(target, mask))
        scores = {
            "psnr": to_decibels(((image - target) * difference).sum() / total),
            "ssim": (similarity * mask).sum() / total,
            "l1": difference.abs().sum() / total,
        }
        if reference.features is not None:
            scores["st_lpips"] = self.perceptual.distance(self.perceptual.encode(shown[None]), reference.features)[0]
        return scores


def _mask(image: Tensor, mask: Tensor) -> Tensor:
    return image * mask + (1 - mask)


def average(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of every metric over the frames that have it, rounded to five digits."""
    means = {}
    for name in METRICS:
        values = [score[name] for score in scores if name in score]
        means[name] = round(sum(values) / len(values), 5)
    return means
