"""The loss of a picture on every path: named terms over the pixels that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.batch import Batch
from deja_vu.core.image import Lines, RenderOutput, cut_window, over
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.losses.photometric import absolute_difference, dssim_loss, huber, masked_mean
from deja_vu.losses.picture import measures_natively, picture_terms
from deja_vu.training.config import PIXEL_WEIGHTS, ImageLossWeights, Phase


def image_weights(image: ImageLossWeights) -> dict[str, float]:
    """Weight of every term of a picture by name."""
    return {name: weight for name, weight in asdict(image).items() if name not in PIXEL_WEIGHTS}


def term_weights(image: ImageLossWeights, own: Any) -> dict[str, float]:
    """Weight of every term of a path by name: the picture's, and those of its representation.

    Args:
        image: the picture's.
        own: dataclass whose fields are the weights of other terms.
    """
    terms, others = image_weights(image), asdict(own)
    assert not terms.keys() & others.keys(), (terms.keys(), others.keys())
    return terms | others


def compensate(weights: Mapping[str, float], every: Mapping[str, int]) -> dict[str, float]:
    """The weights of a step in which rare terms are there, which count for the steps without them.

    Args:
        weights: of all terms.
        every: steps from one occurrence to the next, of rare terms; 0 for none at all.
    """
    return {**weights, **{name: weights[name] * steps for name, steps in every.items()}}


def load_perceptual(weights: Sequence[float], phases: Sequence[Phase], device: torch.device) -> PerceptualDistance | None:
    """The perceptual distance, where a term of some weight in some phase needs it; see `loss_precision`.

    Raises:
        MissingAssetError: it is needed, and not to be had.
    """
    if any(weight > 0 for weight in weights) and any(phase.perceptual_every for phase in phases):
        return PerceptualDistance.load().to(device, loss_precision(device))
    return None


def loss_precision(device: torch.device) -> torch.dtype:
    """Of the perceptual features in a loss: bfloat16 where a GPU has it, for its matrix units; scores are always of float32."""
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def is_due(every: int, step: int) -> bool:
    """Whether a term that occurs in every `every`-th step occurs in this one; never for 0."""
    return every > 0 and step % every == 0


class ImageObjective:
    """Loss terms of pictures compared with their targets."""

    def __init__(self, weights: ImageLossWeights, perceptual: PerceptualDistance | None) -> None:
        self.weights, self.perceptual = weights, perceptual

    def target(self, batch: Batch, background: Float[Tensor, "3"]) -> Float[Tensor, "B H W 3"]:
        """The head alone, over a background color."""
        return over(batch.image, batch.head, background)

    def terms(
        self,
        out: RenderOutput,
        batch: Batch,
        background: Float[Tensor, "3"],
        *,
        window: tuple[Lines, Lines] | None,
        wanted: list[Tensor] | None = None,
        filmed: Float[Tensor, "B H W 1"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Unweighted terms of those that have a weight.

        Args:
            out: render over `background`.
            batch: frames.
            background: color behind render and target.
            window: rows and columns on which the perceptual term, the most expensive, is measured; None leaves it out in this step.
            wanted: the result of `encode_target` for that window, if it was computed before.
            filmed: 1 where the frames show something, else 0: see `leave_out_unfilmed`.
        """
        weights = self.weights
        loss_mask = batch.loss_mask.clamp_min(weights.neck) * batch.valid
        color_mask = loss_mask * (1 + weights.eyes_mouth * batch.eyes_mouth)
        terms, target = self._common_terms(out, batch, background, color_mask, loss_mask, filmed)
        if weights.perceptual and window is not None and self.perceptual is not None:
            goal, rgb, counts = (cut_window(picture, *window) for picture in (target, out.rgb, batch.loss_mask))
            shown = torch.where(counts > 0.5, rgb, goal)
            features = self.encode_target(batch, background, window) if wanted is None else wanted
            terms["perceptual"] = self.perceptual.distance(self.perceptual.encode(shown), features).mean()
        if weights.l1:
            terms["l1"] = absolute_difference(out, batch, background, weights.neck)
        if weights.l2:
            terms["l2"] = masked_mean((out.rgb - target).square(), loss_mask)
        return terms

    @torch.no_grad()
    def encode_target(self, batch: Batch, background: Float[Tensor, "3"], window: tuple[Lines, Lines]) -> list[Tensor]:
        """Perceptual features of what a window should show; none where no term compares them.

        Args:
            batch: frames.
            background: color behind them.
            window: rows and columns.
        """
        if not self.weights.perceptual or self.perceptual is None:
            return []
        image, head = cut_window(batch.image, *window), cut_window(batch.head, *window)
        return self.perceptual.encode(over(image, head, background))

    def _common_terms(
        self,
        out: RenderOutput,
        batch: Batch,
        background: Float[Tensor, "3"],
        color_mask: Float[Tensor, "B H W 1"],
        loss_mask: Float[Tensor, "B H W 1"],
        filmed: Float[Tensor, "B H W 1"] | None,
    ) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, "B H W 3"]]:
        """Huber distance, coverage and structural similarity, natively where all three are wanted; and the target."""
        if filmed is not None:
            terms, _ = self._common_terms(*leave_out_unfilmed(out, batch, filmed), background, color_mask, loss_mask, None)
            return terms, self.target(batch, background)
        weights = self.weights
        if weights.huber and weights.alpha and weights.dssim and measures_natively(out):
            masks = {"color_weight": color_mask, "weight": loss_mask}
            found = picture_terms(out, batch.image, batch.head, background, delta=weights.huber_threshold, **masks)
            return {"huber": found.huber, "alpha": found.alpha, "dssim": found.dssim}, found.target
        target, terms = self.target(batch, background), {}
        if weights.huber:
            terms["huber"] = huber(out.rgb, target, delta=weights.huber_threshold, mask=color_mask)
        if weights.alpha:
            terms["alpha"] = ((out.alpha - batch.head).abs() * loss_mask).mean()
        if weights.dssim:
            terms["dssim"] = dssim_loss(out.rgb, target, mask=loss_mask)
        return terms, target


def leave_out_unfilmed(out: RenderOutput, batch: Batch, filmed: Float[Tensor, "B H W 1"]) -> tuple[RenderOutput, Batch]:
    """Renders and frames made equal where nothing was filmed, without gradient there.

    Structural similarity uses the pixels around each: white beyond the picture's border would draw a bright line along it.

    Args:
        out: renders.
        batch: their frames.
        filmed: 1 where the frames show something, else 0.
    """
    shown = filmed > 0.5
    drawn, covered = out.rgb.detach(), out.alpha.detach()
    image = torch.where(shown, batch.image, drawn)
    head = torch.where(shown, batch.head, torch.ones_like(batch.head))
    rendered = replace(out, rgb=torch.where(shown, out.rgb, drawn), alpha=torch.where(shown, out.alpha, covered))
    return rendered, replace(batch, image=image, head=head)


def draw_background(share: float, generator: torch.Generator) -> Float[Tensor, "3"]:
    """A random gray in so large a share of the draws, else white."""
    if torch.rand((), generator=generator) < share:
        return torch.rand((), generator=generator).expand(3)
    return torch.ones(3)


def head_window(head: Float[Tensor, "B H W 1"], side: int, generator: torch.Generator) -> tuple[Lines, Lines]:
    """A random square of `side` pixels (or the whole picture, if that is smaller) whose center lies on the head.

    Args:
        head: head alpha.
        side: pixels.
        generator: source of the draw.
    """
    height, width = head.shape[1:3]
    side = min(side, height, width)
    if not head.is_cpu:
        return draw_window(head[..., 0].amax(0) > 0.5, side, float(torch.rand((), generator=generator)))
    places = (head[..., 0].amax(0) > 0.5).nonzero()
    middle = torch.tensor([[height // 2, width // 2]])
    places = places if len(places) else middle
    row, column = places[torch.randint(len(places), (), generator=generator)].tolist()
    top, left = min(max(row - side // 2, 0), height - side), min(max(column - side // 2, 0), width - side)
    return slice(top, top + side), slice(left, left + side)


def draw_window(shown: Bool[Tensor, "H W"], side: int, share: float) -> tuple[Int[Tensor, " s"], Int[Tensor, " s"]]:
    """Rows and columns of a square around one of the marked pixels, of the middle where none is; nobody waits for the mask's device.

    Args:
        shown: where the center may lie.
        side: pixels, at most the picture's.
        share: of the marked pixels that stand before the center, in [0, 1).
    """
    height, width = shown.shape
    count = shown.flatten().cumsum(0)
    place = (count > (share * count[-1]).floor()).int().argmax()
    place = torch.where(count[-1] > 0, place, height // 2 * width + width // 2)
    top = (place // width - side // 2).clamp(0, height - side)
    left = (place % width - side // 2).clamp(0, width - side)
    offsets = torch.arange(side, device=shown.device)
    return top + offsets, left + offsets
