"""Image metrics over the pixels that count: head and true background, over white; neck and torso count for nobody."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.losses.photometric import ssim_map

METRICS = ("psnr", "ssim", "st_lpips", "l1")
"""PSNR in dB (higher is better), SSIM (higher), ST-LPIPS with AlexNet (lower), mean absolute error (lower)."""


class FrameMetrics:
    """Scores single frames; a method's score is the mean over frames."""

    def __init__(self, perceptual: PerceptualDistance) -> None:
        self.perceptual = perceptual

    @torch.no_grad()
    def score(
        self, image: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], counted: Float[Tensor, "H W 1"]
    ) -> dict[str, float]:
        """Metrics of one frame.

        Args:
            image: render over white.
            target: head over white.
            counted: weight of each pixel, 0 on neck and torso.
        """
        squared = ((image - target).square() * counted).sum() / (3 * counted.sum())
        absolute = ((image - target).abs() * counted).sum() / (3 * counted.sum())
        shown = image * counted + (1 - counted)
        wanted = target * counted + (1 - counted)
        similarity = ssim_map(shown, wanted)
        return {
            "psnr": float(-10 * torch.log10(squared.clamp_min(1e-10))),
            "ssim": float((similarity * counted).sum() / (similarity.shape[-1] * counted.sum())),
            "st_lpips": float(self.perceptual(shown[None], wanted[None])[0]),
            "l1": float(absolute),
        }


def average(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of every metric over frames, rounded to five digits."""
    return {name: round(sum(score[name] for score in scores) / len(scores), 5) for name in METRICS}
