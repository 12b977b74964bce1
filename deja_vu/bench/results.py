"""The results of runs and benchmarks, as dataclasses that one function turns into JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deja_vu.bench.evaluate import FULL, Protocol, Scores, means, region_means
from deja_vu.bench.metrics import METRICS
from deja_vu.io.files import write_json

METRICS_FILE = "metrics.json"
"""Of a run."""
RESULT_FILE = "result.json"
"""Of one path on one clip of a benchmark."""
RESULT_SCHEMA = 2
FITTED = "fitted"
"""Name of the avatar where its codes are fitted to the scored frames."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How a video became an avatar: the part of metrics.json that is known before anything is scored."""

    video: str
    """Name of the file."""
    frames: int
    resolution: int
    """Side of the crop, pixels."""
    device: str
    path: str
    """Kind of avatar."""
    parameters: int
    """Trained numbers."""
    gaussians: int | None
    """None where there are none."""
    seconds: Mapping[str, float]
    """`track` and `personalize` (`teacher` besides, where one was trained); `avatar` from the command's start until the avatar's file was
    there; `total` until all was done, scores, pictures and report included. Those of a run that was resumed count all attempts."""
    stages: Mapping[str, float]
    """Of the last attempt: seconds of every stage, which add up to what it took."""
    speed: Mapping[str, float]
    """Of the machine while it ran, see `deja_vu.bench.speed.Speed`: seconds times `matmul_gflops` is work, whatever the machine."""
    peak_mb: int
    config: Mapping[str, Any]
    """The whole recipe."""
    commit: str


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """The part of metrics.json that is measured on held-out frames."""

    test: Mapping[str, Any]
    """Means of the avatar, by metric; `regions` holds PSNR and ST-LPIPS of lips, eyes, brows and face."""
    baselines: Mapping[str, Mapping[str, Any]]
    """The same of everything it is compared with, by name."""
    fitted: Mapping[str, Any] | None = None
    """As `test`, but with expression and joints fitted through the avatar to the frames that are scored, pose and identity as tracked; None
    where a kind of avatar or head has no such fit."""
    person: Mapping[str, Any] | None = None
    """The same of everything that was filmed of the person: means of the avatar by metric, and `baselines`; None for a head alone."""
    body: Mapping[str, Any] | None = None
    """The same of neck, torso and clothes alone; None where none was filmed."""
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    """95 % interval of every mean above, by name (the avatar's is `test`) and metric."""
    frames_scored: int
    frames_held_out: int

    @staticmethod
    def of(scores: Mapping[str, Scores], held_out: int, others: Mapping[Protocol, Mapping[str, Scores]]) -> RunScores:
        """From evaluations in which the avatar is called `test`, and `fitted` where its codes are fitted to the frames.

        Args:
            scores: by protocol `head`.
            held_out: frames that could be scored.
            others: by the other protocols.
        """
        rows = _rows(scores)
        intervals = {
            name: {metric: (estimate.low, estimate.high) for metric, estimate in of_one[FULL].items() if metric in METRICS}
            for name, of_one in scores.items()
        }
        scored = scores["test"][FULL]["psnr"].frames
        besides: dict[str, Any] = {}
        for protocol, found in others.items():
            theirs = _rows(found)
            if theirs["test"]:
                besides[protocol] = {**theirs.pop("test"), "baselines": theirs}
        fitted = rows.pop(FITTED, None)
        return RunScores(
            test=rows.pop("test"),
            fitted=fitted,
            baselines=rows,
            intervals=intervals,
            frames_scored=scored,
            frames_held_out=held_out,
            **besides,
        )


def _rows(scores: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """Mean of every metric by predictor, and those of the regions that were scored."""
    rows: dict[str, dict[str, Any]] = {}
    for name, of_one in scores.items():
        rows[name] = {metric: value for metric, value in means(of_one).items() if metric in METRICS}
        if regions := region_means(of_one):
            rows[name]["regions"] = regions
    return rows


@dataclass(frozen=True, kw_only=True)
class PhotoScores:
    """The part of metrics.json that is measured for a photo's avatar, which has no held-out frame."""

    input_view: Mapping[str, float]
    """How well the photo itself is matched, by metric."""


@dataclass(frozen=True, kw_only=True)
class PhotoFacts(PhotoScores):
    """How a photo became an avatar: metrics.json of a photo's run."""

    photo: str
    """Name of the file; of several, of the first, from which the person is seen and scored."""
    photos: tuple[str, ...] = ()
    """Names of all files, where there are several."""
    gaussians: int | None
    """None of an avatar that is not made of them."""
    device: str
    commit: str
    config: Mapping[str, Any]
    """The whole recipe."""
    landmark_error_px: float
    """Of the fitted head, pixels of the portrait."""
    seconds: Mapping[str, float]
    """`avatar`, and `total` with its pictures."""


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """What it took to train one path."""

    seconds: float
    """Without the teacher's, and without measuring."""
    teacher_seconds: float
    cpu_seconds: float
    """Of all threads."""
    peak_mb: int
    curve: list[dict[str, float]]
    """Points of a `Curve`."""
    pseudo_images: int
    """Frames that a teacher is expected to draw."""


@dataclass(frozen=True, kw_only=True)
class PathResult:
    """One path, baseline or other system on one clip: a benchmark's result.json. What was not measured is left out of the file."""

    clip: str
    path: str
    """Name of the path, the baseline, or the other system's video."""
    bundle_sha256: str
    """Of the tracked video; results of one clip must agree."""
    split: Mapping[str, Any]
    """`kind`, `test_frames`, `train_frames`."""
    resolution: int
    device: str
    threads: int
    torch: str
    commit: str
    quality: Scores
    delta_vs: Mapping[str, Mapping[str, float]]
    """Gain over each baseline, by metric."""
    pictures: Mapping[str, Mapping[str, list[str]]]
    """Files beside the JSON, by sheet (`test`, `sweep`, `driven`) and row (`frames`, `truth`)."""
    schema: int = RESULT_SCHEMA
    kind: str | None = None
    """Kind of avatar."""
    sizes: str | None = None
    """Shipped recipe whose sizes these are."""
    train: TrainingCost | None = None
    config: Mapping[str, Any] | None = None
    delta_vs_teacher: Mapping[str, Any] | None = None
    render: Mapping[str, Any] | None = None
    size: Mapping[str, int] | None = None
    flops: Mapping[str, int] | None = None
    driven: Mapping[str, float] | None = None


Result = RunFacts | RunScores | PhotoScores | PathResult


def result_fields(result: Result) -> dict[str, Any]:
    """Fields of a result as JSON holds them, without those that are None."""
    return {name: value for name, value in dataclasses.asdict(result).items() if value is not None}


def write_result(path: Path, result: Result, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write results as JSON.

    Args:
        path: of the file.
        result: what is known now.
        earlier: what the file said before; what is known now replaces it.

    Returns:
        What the file says.
    """
    value = {**(earlier or {}), **result_fields(result)}
    write_json(path, value)
    return value
