"""The protocols of scoring, used alike for metrics.json of a run and result.json of a benchmark.

* Three protocols. `head`: the head alone, in its own window. `person`: all that was filmed of the person, in the window that holds neck and
  torso. `body`: the same window, of which only neck, torso and clothes count.
* Frames: those that training never saw, all of them or an even sample. A photo's run has none; there the photo itself is scored, which
  says how well it is met and nothing about other views.
* A predictor gets a frame's tracked parameters and camera. Its picture is compared with the frame's head over white, or with the whole
  person over white if that is what it shows, both at the resolution of the tracked video.
* In protocol `head` pixels count by `Batch.loss_mask`: head and true background; neck, torso and what was not filmed are ignored. In
  `person` all that was filmed counts; in `body` the person does where it is no head.
* Pictures are compared as they are computed, not rounded to 8 bits. Rounding adds the error of the file format to that of the avatar,
  and the more the better the avatar is: 0.008 dB at 35 dB, measured; calculated, 0.013 dB at 37.6 and, for other systems' videos, which
  do come rounded, 0.002 dB at the 27 dB they have.
* Regions besides the whole picture, in protocol `head` and where the head is known: boxes around lips, eyes, brows and face, as the tracked
  parameters pose them. Of eyes and brows each side is measured by itself, and the two are averaged.
* Every metric is measured on every scored frame, for every predictor on the same ones. A mean comes with its 95 % interval by
  moving-block bootstrap, blocks being half a second of the video.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from deja_vu.bench.metrics import FrameMetrics, Reference
from deja_vu.bench.predictors import Predictor, take_off_neck
from deja_vu.bench.statistics import BLOCK, Estimate, summarize
from deja_vu.core.ahead import compute_ahead
from deja_vu.core.batch import Batch
from deja_vu.core.image import WHITE, over
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import PixelBox, followed_parts, points_box
from deja_vu.io.frames import CPU, FrameSource
from deja_vu.losses.perceptual import MIN_SIZE, PerceptualDistance

SAMPLE = 8
"""Frames that are scored where nobody asks for all. ST-LPIPS takes a third of a second of one core for a picture of 512², and each frame
has one of the target and one of each predictor: with baselines, and the whole person scored besides, eight take a tenth of a run."""
FULL = "full"
"""Region of the whole picture."""
REGIONS = ("lips", "eyes", "brows", "face")
"""Parts that can be scored besides, as far as the head has them, see `followed_parts`."""
REGION_METRICS = ("psnr", "st_lpips")
"""Metrics of theirs that are written down."""
Protocol: TypeAlias = Literal["head", "person", "body"]
"""What is looked at, and which of its pixels count."""
PERSON_SAMPLE = 4
"""The same as `SAMPLE` for each of the protocols that look at the whole person: they are scored besides."""
LEAST_BODY = 0.002
"""Share of the picture under which a frame shows no body worth scoring."""
REGION_MARGIN = 0.2
"""Share of a box's size added on every side."""
SMALLEST = 6
"""Least side of a box in pixels for which SSIM is defined."""

Scores: TypeAlias = Mapping[str, Mapping[str, Estimate]]
"""Estimate of every metric, by region; `full` has `temporal` besides where neighboring frames were scored: the mean absolute difference
between how much each pixel changes in the prediction and in the truth, from a frame of the video to the next."""


WORKERS = min(2, os.cpu_count() or 1)
"""Frames that are scored at once on a CPU, while the next are drawn."""


@dataclass(frozen=True)
class FramePair:
    """One predicted frame and what it should show."""

    image: Float[Tensor, "H W 3"]
    target: Float[Tensor, "H W 3"]
    """Head, or whole person, over white."""
    mask: Float[Tensor, "H W 1"]
    """Weight of each pixel."""
    position: int
    """Place in the tracked video."""


Keep: TypeAlias = Callable[[Predictor, int, FramePair], None]
"""Is shown every pair, with the number of the frame among those that are scored."""


def held_out(sequence: TrackedSequence) -> TrackedSequence:
    """The frames that can be scored: those that training never saw, or all of a video without such."""
    return sequence.test_part() if sequence.test.any() else sequence


class Evaluator:
    """Scores predictors on the same frames of one video.

    Attributes:
        chosen: places of the scored frames among those that can be scored.
    """

    def __init__(
        self,
        sequence: TrackedSequence,
        frames: int | None = SAMPLE,
        head: HeadModel | None = None,
        cache_bytes: int = 0,
        *,
        protocol: Protocol = "head",
        device: torch.device = CPU,
    ) -> None:
        """Choose the frames.

        Args:
            sequence: tracked video with its split.
            frames: how many are scored, evenly spread; None scores all.
            head: of the video; with it, lips, eyes, brows and face are scored besides.
            cache_bytes: memory for decoded frames, where they are scored again and again.
            protocol: what is looked at.
            device: where pictures are compared.

        Raises:
            InputError: the protocol wants the whole person, and the head alone is stored.
        """
        self._protocol = protocol
        sequence = sequence if protocol == "head" else sequence.person_window()
        part = held_out(sequence)
        self.chosen: Int[Tensor, " n"] = evenly_spaced(len(part) if frames is None else frames, len(part))
        places = sequence.test.nonzero()[:, 0] if sequence.test.any() else torch.arange(len(sequence))
        self._places: list[int] = places[self.chosen].tolist()
        self._source = FrameSource(part, sequence.info.resolution, cache_bytes)
        self._block = max(1, round(BLOCK * len(self.chosen) / len(part)))
        self._metrics, self._head, self._device = FrameMetrics(PerceptualDistance.load().to(device)), head, device
        self._parts = {} if head is None else followed_parts(head.topology)

    def evaluate(self, predictors: Sequence[Predictor], keep: Keep | None = None, *, quiet: bool = False) -> dict[str, Scores]:
        """Scores of every predictor by name.

        Args:
            predictors: of different names.
            keep: is shown every pair.
            quiet: show no progress.
        """
        series = {predictor.name: _Series() for predictor in predictors}
        stream = self._source.stream(iter(self.chosen[:, None]))
        shown = (self._show(batch, place, predictors) for place, batch in zip(self._places, stream, strict=True))
        scored = compute_ahead(self._score, shown, WORKERS if self._device.type == "cpu" else 1)
        for number, found in enumerate(
            tqdm(scored, total=len(self.chosen), desc=f"evaluate {self._protocol}", unit="frame", disable=quiet)
        ):
            for predictor, (pair, scores) in zip(predictors, found, strict=True):
                for name, values in scores.items():
                    series[predictor.name].add(name, values)
                series[predictor.name].follow(pair)
                if keep is not None:
                    keep(predictor, number, pair)
        return {name: one.summarize(self._block) for name, one in series.items()}

    def _show(self, batch: Batch, place: int, predictors: Sequence[Predictor]) -> _ShownFrame:
        """Every predictor's picture of a frame beside what it should show, head or person."""
        mask = count_pixels(batch, self._protocol)[0]
        covers = {True: batch.foreground, False: batch.head}
        targets = {person: over(batch.image, covers[person], WHITE)[0] for person in {one.shows_person for one in predictors}}
        pairs = []
        for one in predictors:
            picture = one.predict(batch)
            picture = take_off_neck(picture, batch) if one.on_neck else picture
            pairs.append(FramePair(picture, targets[one.shows_person], mask, place))
        return _ShownFrame(pairs, [one.shows_person for one in predictors], self._windows(batch))

    def _score(self, frame: _ShownFrame) -> list[tuple[FramePair, dict[str, dict[str, float]]]]:
        """Every predictor's pair, and its scores by region; each target is prepared once."""
        references: dict[bool, dict[str, list[Reference | None]]] = {}
        found = []
        for person, pair in zip(frame.persons, frame.pairs, strict=True):
            if person not in references:
                references[person] = {
                    name: [self._reference(pair.target[window], pair.mask[window]) for window in boxes]
                    for name, boxes in frame.windows.items()
                }
            image, scores = pair.image.to(self._device), {}
            for name, prepared in references[person].items():
                values = [
                    self._metrics.score(image[window], reference)
                    for window, reference in zip(frame.windows[name], prepared, strict=True)
                    if reference is not None
                ]
                if values:
                    scores[name] = _average(values)
            found.append((pair, scores))
        return found

    def _windows(self, batch: Batch) -> dict[str, list[PixelBox]]:
        """Rows and columns of the windows of every region."""
        windows = {FULL: [(slice(None), slice(None))]}
        if self._head is None:
            return windows
        vertices = self._head(batch.params)[0]
        for name in REGIONS:
            if name in self._parts:
                windows[name] = [points_box(vertices[part], batch.camera, REGION_MARGIN, MIN_SIZE) for part in self._parts[name]]
        return windows

    def _reference(self, target: Float[Tensor, "h w 3"], mask: Float[Tensor, "h w 1"]) -> Reference | None:
        """The prepared target; None where nothing can be measured."""
        smallest = min(target.shape[:2])
        if smallest < SMALLEST or float(mask.mean()) <= (LEAST_BODY if self._protocol == "body" else 0):
            return None
        return self._metrics.reference(target.to(self._device), mask.to(self._device), perceptual=smallest >= MIN_SIZE)


def count_pixels(batch: Batch, protocol: Protocol) -> Float[Tensor, "B H W 1"]:
    """Weight of each pixel in a protocol."""
    if protocol == "head":
        return batch.loss_mask
    return batch.valid if protocol == "person" else (batch.foreground - batch.head).clamp_min(0) * batch.valid


def evaluate(
    sequence: TrackedSequence,
    predictors: Sequence[Predictor],
    *,
    frames: int | None = SAMPLE,
    head: HeadModel | None = None,
    keep: Keep | None = None,
    protocol: Protocol = "head",
    device: torch.device = CPU,
) -> dict[str, Scores]:
    """Scores of predictors on frames that training never saw, by name; see `Evaluator`."""
    return Evaluator(sequence, frames, head, protocol=protocol, device=device).evaluate(predictors, keep)


@dataclass(frozen=True)
class _ShownFrame:
    """One frame as every predictor shows it."""

    pairs: list[FramePair]
    persons: list[bool]
    """Whether each shows the person; else the head alone."""
    windows: dict[str, list[PixelBox]]
    """Rows and columns of the windows of every region."""


class _Series:
    """Frame by frame, the scores of one predictor."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}
        self._before: FramePair | None = None

    def add(self, region: str, scores: Mapping[str, float]) -> None:
        for name, value in scores.items():
            self._values.setdefault(region, {}).setdefault(name, []).append(value)

    def follow(self, pair: FramePair) -> None:
        """Compare a frame with the one before it, if that is its neighbor in the video."""
        if self._before is not None and pair.position == self._before.position + 1:
            self.add(FULL, {"temporal": temporal_error(self._before, pair)})
        self._before = pair

    def summarize(self, block: int) -> Scores:
        return {region: {name: summarize(values, block) for name, values in scores.items()} for region, scores in self._values.items()}


def temporal_error(before: FramePair, after: FramePair) -> float:
    """Mean absolute difference of the absolute changes of prediction and truth, where both frames count."""
    mask = before.mask * after.mask
    change = (after.image - before.image).abs() - (after.target - before.target).abs()
    return float((change.abs() * mask).sum() / (3 * mask.sum()).clamp_min(1))


def _average(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every metric that all windows have."""
    common = set.intersection(*(set(one) for one in scores))
    return {name: sum(one[name] for one in scores) / len(scores) for name in scores[0] if name in common}


def region_means(scores: Scores) -> dict[str, dict[str, float]]:
    """Mean of PSNR and ST-LPIPS of every region that was scored."""
    return {
        region: {name: value for name, value in means(scores, region).items() if name in REGION_METRICS}
        for region in REGIONS
        if region in scores
    }


def means(scores: Scores, region: str = FULL) -> dict[str, float]:
    """Mean of every metric of a region."""
    return {name: estimate.mean for name, estimate in scores.get(region, {}).items()}


def gain(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """Difference of means, metric by metric, where both have it."""
    return {name: round(ours[name] - theirs[name], 5) for name in sorted(ours.keys() & theirs.keys())}
