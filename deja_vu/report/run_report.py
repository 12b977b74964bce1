"""The report on a run: how good it is, what the video did not show, how to film a better one, how it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from deja_vu.avatars import Avatar
from deja_vu.bench.results import METRICS_FILE
from deja_vu.core import documents
from deja_vu.core.errors import FormatError, InputError
from deja_vu.core.image import to_uint8
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.video import read_frames
from deja_vu.motion.actor import PRESETS
from deja_vu.motion.appearance import Appearance, pose_subject
from deja_vu.report import html
from deja_vu.report.coverage import Shortcoming, find_shortcomings, follow
from deja_vu.report.filming import find_filming_faults
from deja_vu.report.metrics import check_metrics
from deja_vu.report.plots import line_chart
from deja_vu.report.run_charts import course_charts, training_charts
from deja_vu.report.sheets import render_poses
from deja_vu.report.verdicts import (
    MEANING,
    PERSON_HEADER,
    PERSON_MEANING,
    headline,
    judge_run,
    person_rows,
    score_regions,
    score_rows,
)
from deja_vu.report.worst import find_worst

EXPRESSIONS = tuple(Appearance(name, name) for name in PRESETS)
VIEWS = tuple(
    Appearance(f"{'above' if pitch < 0 else 'below'}, {f'{abs(yaw)}° {side}' if yaw else 'front'}", yaw=yaw, pitch=pitch)
    for pitch in (12, -12)
    for yaw, side in ((45, "left"), (25, "left"), (0, ""), (-25, "right"), (-45, "right"))
)
"""From where the avatar is shown; whoever looks up is seen from below."""
TILE_SIDE = 256
"""Side of the pictures in a gallery, pixels."""
OVERLAY_FRAMES = 4
OVERLAY_HEIGHT = 256
"""Of the tracker's pictures, pixels."""
CLIPS = {"turntable.mp4": "once round, through some expressions", "driven.mp4": "moved by another video"}
"""Files of a run that the page shows, with what they are."""


@dataclass(frozen=True)
class ReportedRun:
    """What a page is made from."""

    folder: Path
    name: str
    """As the user knows it."""
    avatar: Avatar
    """In evaluation mode."""
    sequence: TrackedSequence
    """What it was learned from: a video, or a photo as a video of one frame."""


def run_page(run: ReportedRun) -> str:
    """The page of a finished run.

    Raises:
        InputError: the run is not finished.
        FormatError: its files are damaged.
    """
    metrics = read_json(run.folder / METRICS_FILE)
    check_metrics(metrics, str(run.folder / METRICS_FILE))
    info, count = run.sequence.info, len(run.sequence)
    filmed = f"{count} frames at {info.fps:g} a second" if count > 1 else "one photo"
    lead = f"{info.source}: {filmed}, head {info.head_name}, commit {metrics.get('commit', 'unknown')}"
    rows = score_rows(metrics)
    header = ["held-out frames", "PSNR dB", "95 % of means", "SSIM", "ST-LPIPS", *(f"{name} dB" for name in score_regions(metrics))]
    scores = html.table(header, rows) if rows else ""
    parts = [
        html.section("In short", html.verdicts(judge_run(metrics)), html.tiles(headline(metrics))),
        *_clips(run.folder),
        *_comparison(run),
        html.section("Scores", scores, html.paragraph(MEANING), *_person_scores(metrics)) if rows else "",
        *_worst(run),
        *_coverage(run),
        html.section("Expressions", html.gallery(_appearances(run, EXPRESSIONS))),
        html.section("Views", html.gallery(_appearances(run, VIEWS))),
        *_tracking(run.sequence),
        *_training(run.folder),
        html.section("How it was made", *_recipe(run.folder, metrics)),
    ]
    return html.page(f"Avatar {run.name}", lead, [part for part in parts if part])


def _person_scores(metrics: Mapping[str, Any]) -> list[str]:
    """What a whole person's neck and torso were scored as, where there are such."""
    rows = person_rows(metrics)
    return [html.table(PERSON_HEADER, rows), html.paragraph(PERSON_MEANING)] if rows else []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run folder.

    Raises:
        InputError: it is not there.
        FormatError: it is no JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} has no {path.name}. Expected a finished run of `deja-vu personalize`; continue it with --resume.")
    try:
        value = documents.read_json(path)
    except FormatError as error:
        raise FormatError(f"{error} Run `deja-vu personalize` again with --resume.") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} is damaged: expected a JSON object. Run `deja-vu personalize` again with --resume.")
    return value


def _clips(folder: Path) -> list[str]:
    """Videos of the avatar, if the run has some."""
    shown = [html.clip(folder / name, caption) for name, caption in CLIPS.items() if (folder / name).is_file()]
    return [html.section("In motion", *shown)] if shown else []


def _comparison(run: ReportedRun) -> list[str]:
    """The comparison sheet, if the run has one."""
    path = run.folder / "compare.png"
    if not path.is_file():
        return []
    sheet = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if sheet is None:
        raise FormatError(f"{path} is damaged. Make the run again.")
    rgb = np.ascontiguousarray(sheet[..., ::-1])
    if len(run.sequence) == 1:
        return [html.section("The photo", html.picture(rgb, "The photo's head, the avatar from there, and from the sides and behind."))]
    return [html.section("Held-out frames", html.picture(rgb, "Frames that training never saw; errors are four times as bright."))]


def _worst(run: ReportedRun) -> list[str]:
    """Where the avatar follows worst, if there are frames that it has not seen."""
    if not run.sequence.test.any():
        return []
    worst = find_worst(run.avatar, run.sequence)
    shown = [html.picture(one.picture, f"{one.region}, frame {one.frame}: {one.psnr:.1f} dB") for one in worst]
    return [html.section("Where it follows worst", *shown, lead="Held-out frames, filmed and rendered.")] if shown else []


def _coverage(run: ReportedRun) -> list[str]:
    """What the person does, and what was not shown; a photo shows a moment only."""
    sequence = run.sequence
    if len(sequence) == 1:
        return []
    course = follow(sequence.params, run.avatar.host_head)
    train = sequence.times[~sequence.test]
    lacks = find_shortcomings(course, sequence.test, float(train[-1] - train[0]) if len(train) else 0.0)
    lacks += find_filming_faults(sequence)
    charts = html.charts([line_chart(chart) for chart in course_charts(course, sequence)])
    return [
        html.section("What the video did not show", _lacks(lacks, sequence.info.warnings)),
        html.section("What the person does", charts, lead="Over seconds. Gray: held-out frames."),
    ]


def _lacks(lacks: list[Shortcoming], notes: tuple[str, ...]) -> str:
    """All warnings, or the good news."""
    items = [html.Verdict("bad", lack.lack, lack.advice) for lack in lacks] + [html.Verdict("note", note) for note in notes]
    return html.verdicts(items or [html.Verdict("good", "Nothing is missing: both sides, mouth, eyes and brows are shown.")])


def _appearances(run: ReportedRun, appearances: tuple[Appearance, ...]) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """The avatar in some poses and expressions, by their labels."""
    params = pose_subject(run.avatar.host_head, run.sequence.params, appearances)
    window = run.sequence.person_window() if run.avatar.shows_person else run.sequence
    pictures = render_poses(run.avatar, window, params, TILE_SIDE)
    return {appearance.label: to_uint8(image) for appearance, image in zip(appearances, pictures, strict=True)}


def _tracking(sequence: TrackedSequence) -> list[str]:
    """Some frames of the tracker's overlay, if there is one."""
    path = sequence.folder / "overlay.mp4"
    if not path.is_file():
        return []
    wanted = set(evenly_spaced(OVERLAY_FRAMES, len(sequence)).tolist())
    shown = {}
    for place, _, image in read_frames(path, max_fps=None):
        if place in wanted:
            size = (round(OVERLAY_HEIGHT * image.shape[1] / image.shape[0]), OVERLAY_HEIGHT)
            shown[f"frame {int(sequence.index[place])}"] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return [html.section("Tracking", html.gallery(shown), lead="The video, and the fitted head over it.")]


def _training(folder: Path) -> list[str]:
    """Curves of the run's log, if it has one."""
    charts = [line_chart(chart) for chart in training_charts(folder / "metrics.jsonl")]
    return [html.section("Training", html.fold(f"{len(charts)} curves over steps", html.charts(charts)))] if charts else []


def _recipe(folder: Path, metrics: Mapping[str, Any]) -> list[str]:
    """Where the time went until this page was made, every value of the recipe, and the command."""
    parts = []
    if stages := metrics.get("stages"):
        speed = metrics["speed"]
        machine = f"{speed['matmul_gflops']:g} GFLOP/s on {speed['threads']} threads, standard scene in {speed['raster_ms']:g} ms"
        rows = [[name, f"{seconds:.1f}"] for name, seconds in stages.items()]
        parts.append(html.fold(f"where the time went, on a machine of {machine}", html.table(["stage", "seconds"], rows)))
    parts.append(html.fold("every value of the recipe", html.preformatted(json.dumps(metrics.get("config", {}), indent=2))))
    record = folder / "run.json"
    if record.is_file():
        facts = {name: value for name, value in read_json(record).items() if name != "files"}
        parts.append(html.fold("command and machine", html.preformatted(json.dumps(facts, indent=2))))
    return parts
