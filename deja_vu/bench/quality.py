"""Scores of a sequence of frames: the whole picture, the face, the mouth, and how it moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deja_vu.bench.metrics import FrameMetrics
from deja_vu.bench.statistics import summarize
from deja_vu.losses.perceptual import MIN_SIZE

REGIONS = {"face": "face", "mouth": "lips"}
"""Scored boxes, and the part of the head that each surrounds."""
SMALLEST = 6
"""Least side of a box in pixels for which SSIM is defined."""


@dataclass(frozen=True)
class Shown:
    """One predicted frame and what it should show."""

    image: Float[Tensor, "H W 3"]
    target: Float[Tensor, "H W 3"]
    mask: Float[Tensor, "H W 1"]
    boxes: dict[str, tuple[slice, slice]]
    """Rows and columns of each region."""
    position: int
    """Place in the tracked video."""
    perceptual: bool
    """Measure the perceptual distance of this frame."""


def score(frames: Iterable[Shown], metrics: FrameMetrics) -> dict[str, dict[str, dict[str, float]]]:
    """Summaries of every metric, by region; `full` has `temporal` besides.

    The temporal error is the mean absolute difference between how much each pixel changes in the prediction and in the truth, from a
    frame of the video to the next one.
    """
    values: dict[str, dict[str, list[float]]] = {}

    def note(region: str, scores: dict[str, float]) -> None:
        for name, value in scores.items():
            values.setdefault(region, {}).setdefault(name, []).append(value)

    before: Shown | None = None
    for frame in frames:
        whole = (slice(None), slice(None))
        for region, (rows, columns) in {"full": whole, **frame.boxes}.items():
            target, mask = frame.target[rows, columns], frame.mask[rows, columns]
            smallest = min(target.shape[:2])
            if smallest < SMALLEST or float(mask.sum()) == 0:
                continue
            reference = metrics.reference(target, mask, perceptual=frame.perceptual and smallest >= MIN_SIZE)
            note(region, metrics.score(frame.image[rows, columns], reference))
        if before is not None and frame.position == before.position + 1:
            note("full", {"temporal": temporal_error(before, frame)})
        before = frame
    return {region: {name: summarize(series) for name, series in scores.items()} for region, scores in values.items()}


def temporal_error(before: Shown, after: Shown) -> float:
    """Mean absolute difference of the absolute changes of prediction and truth, where both frames count."""
    mask = before.mask * after.mask
    change = (after.image - before.image).abs() - (after.target - before.target).abs()
    return float((change.abs() * mask).sum() / (3 * mask.sum()).clamp_min(1))


def gain(ours: dict[str, dict[str, dict[str, float]]], theirs: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Difference of the whole picture's means, metric by metric."""
    names = ours["full"].keys() & theirs["full"].keys()
    return {name: round(ours["full"][name]["mean"] - theirs["full"][name]["mean"], 5) for name in sorted(names)}


def to_eight_bits(image: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
    """The picture as a file would hold it."""
    return (image.clamp(0, 1) * 255).round() / 255
