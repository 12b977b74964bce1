"""One page about a run: how good it is, how it was learned, what the video did not show, and how to film a better one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.core.errors import FormatError, InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.io.files import write_atomic
from deja_vu.io.video import read_frames
from deja_vu.motion.actor import PRESETS, Actor, Angles
from deja_vu.motion.neutral import estimate_neutral, face_camera
from deja_vu.motion.retarget import Retargeter
from deja_vu.pipelines.own_files import RECORD, STAGE, claim
from deja_vu.pipelines.painter import Painter
from deja_vu.pipelines.person import load_pair
from deja_vu.pipelines.run_folder import amended, read_by_look
from deja_vu.report import html as page
from deja_vu.report.coverage import Course, Finding, findings, follow

REPORT = "report.html"
VIEWS = tuple((yaw, pitch) for pitch in (12, -12) for yaw in (-45, -25, 0, 25, 45))
"""Yaw and pitch of the views shown, degrees."""
LOOKED_AT = 24
"""Frames that are looked at for light and framing."""
UNSTEADY_LIGHT = 0.12
"""Relative spread of the head's brightness from which it is reported."""
BURNT = 0.02
"""Share of the head's pixels at the top of the scale from which it is reported."""
CUT_OFF = 0.2
"""Share of the frames in which the head may touch the border."""
SMALL_CROP = 320
"""Side of the head crop in the video's pixels below which detail is lost."""
LOSSES = "loss/"


def report(run: Path, out: Path | None, *, overwrite: bool = False) -> Path:
    """Write the page of a finished run, in its folder or elsewhere; see `write_report`.

    Raises:
        OutputError: `out` is taken.
    """
    if out is None:
        with amended(run, REPORT) as page_of_run:
            return write_report(run, page_of_run)
    claim(out, overwrite=overwrite, inputs=read_by_look(run))
    return write_report(run, out)


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of a finished run.

    Args:
        run: run folder.
        out: file; None for report.html in the run folder.

    Raises:
        InputError: the run is not finished.
        FormatError: its files are damaged.
    """
    avatar, sequence = load_pair(run)
    metrics = read_json(run / "metrics.json")
    head = load_head(sequence.info.head_name)
    course = follow(sequence.params, head)
    train = sequence.times[~sequence.test]
    lacks = findings(course, sequence.test, float(train[-1] - train[0]) if len(train) else 0.0)
    lacks += filming(sequence) + doubts(metrics)
    info = sequence.info
    lead = (
        f"{info.source}: {len(sequence)} frames at {info.fps:g} a second, head {info.head_name}, commit {metrics.get('commit', 'unknown')}"
    )
    parts = [
        page.section("Summary", page.tiles(summary(metrics)), scores(metrics)),
        page.section("What the video did not show", said(lacks, info.warnings)),
        page.section("Held-out frames", *compared(run), lead="Frames that training never saw: target, render, error times four."),
        page.section("Expressions", page.picture(expression_sheet(avatar, sequence), ", ".join(PRESETS))),
        page.section(
            "Views", page.picture(view_sheet(avatar, sequence), "45° and 25° to both sides and straight, from below and from above")
        ),
        *turned(run),
        page.section("What the person does", page.charts(course_charts(course, sequence)), lead="Grey: test frames. Over seconds."),
        *tracked(sequence),
        page.section("Training", page.charts(curves(run / "metrics.jsonl")), lead="Over steps."),
        page.section("Recipe", page.folded("every value", json.dumps(metrics.get("config", {}), indent=2)), *command(run)),
    ]
    path = out or run / REPORT
    folder = run.resolve()
    name = folder.parent.name if folder.name == STAGE else folder.name
    write_atomic(path, page.page(f"Avatar {name}", lead, parts))
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run folder.

    Raises:
        InputError: it is not there.
        FormatError: it is no JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} has no {path.name}. Expected a finished run of `deja-vu personalize`; continue it with --resume.")
    try:
        value = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is damaged ({error}). Run `deja-vu personalize` again with --resume.") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} is damaged: expected a JSON object. Run `deja-vu personalize` again with --resume.")
    return value


def summary(metrics: dict[str, Any]) -> dict[str, str]:
    """The numbers one asks for first."""
    shown: dict[str, str] = {}
    if "test" in metrics:
        test = metrics["test"]
        shown |= {"dB PSNR": f"{test['psnr']:.2f}", "SSIM": f"{test['ssim']:.3f}", "ST-LPIPS": f"{test['st_lpips']:.3f}"}
    if "seconds" in metrics:
        seconds = metrics["seconds"]
        shown |= {
            "s tracking": f"{seconds['track']:.0f}" if seconds["track"] > 1 else "before",
            "s personalizing": f"{seconds['personalize']:.0f}",
        }
    shown |= {label: f"{metrics[key]:,}" for key, label in (("gaussians", "Gaussians"), ("peak_mb", "MB peak memory")) if key in metrics}
    return shown


def scores(metrics: dict[str, Any]) -> str:
    """The avatar beside what costs nothing."""
    if "test" not in metrics:
        return ""
    rows = {"avatar": metrics["test"], **metrics.get("baselines", {})}
    lines = [[name.replace("_", " "), *(round(row[key], 4) for key in ("psnr", "ssim", "st_lpips"))] for name, row in rows.items()]
    return page.table(["held-out frames", "PSNR", "SSIM", "ST-LPIPS"], lines)


def doubts(metrics: dict[str, Any]) -> list[Finding]:
    """Scores that should make one look twice."""
    nearest = metrics.get("baselines", {}).get("nearest_frame")
    if nearest is None or metrics["test"]["psnr"] >= nearest["psnr"]:
        return []
    ours, theirs = metrics["test"]["psnr"], nearest["psnr"]
    lack = f"The training frame nearest to each test frame scores higher than the avatar ({theirs:.1f} dB against {ours:.1f})."
    return [Finding(lack, "Hardly anything moves in this video, or tracking failed: look at overlay.mp4 in the tracked folder.")]


def filming(sequence: TrackedSequence) -> list[Finding]:
    """What is wrong with light and framing, from some frames."""
    places = torch.linspace(0, len(sequence) - 1, min(LOOKED_AT, len(sequence))).round().long().unique()
    brightness, burnt, touching = [], [], 0
    for place in places.tolist():
        frame = sequence.frame(place)
        inside = (frame.head > 200) & (frame.valid > 127)
        if not inside.any():
            continue
        values = frame.image[inside].float()
        brightness.append(float(values.mean()))
        burnt.append(float((values.min(-1).values > 250).float().mean()))
        touching += touches_border(frame.head > 128, frame.valid > 127)
    found = []
    if sequence.info.crop[2] - sequence.info.crop[0] < SMALL_CROP:
        side = sequence.info.crop[2] - sequence.info.crop[0]
        found.append(Finding(f"The head fills only {side} pixels of the video.", "Film closer, or at a higher resolution."))
    if brightness and np.std(brightness) / np.mean(brightness) > UNSTEADY_LIGHT:
        found.append(Finding("The light on the face changes.", "Lock the exposure, and stay where the light is even."))
    if burnt and np.mean(burnt) > BURNT:
        found.append(Finding(f"{np.mean(burnt):.0%} of the face is burnt out.", "Use less light, or expose darker."))
    if touching > CUT_OFF * len(places):
        found.append(Finding(f"The head is cut by the border in {touching} of {len(places)} frames.", "Leave room around the hair."))
    return found


def touches_border(head: Tensor, valid: Tensor) -> bool:
    """Whether a head [H W] bool is cut at its sides or above; below, the neck always is."""
    unknown = ~valid
    near = torch.zeros_like(head)
    near[1:] |= unknown[:-1]
    near[:, 1:] |= unknown[:, :-1]
    near[:, :-1] |= unknown[:, 1:]
    near[0], near[:, 0], near[:, -1] = True, True, True
    return int((head & near).sum()) > 0.03 * head.shape[0]


def said(lacks: list[Finding], notes: tuple[str, ...]) -> str:
    """All warnings, or the good news."""
    items = [(lack.lack, lack.advice) for lack in lacks] + [(note, "") for note in notes]
    return page.warnings(items) if items else "<p>Nothing is missing: both sides, mouth, eyes and brows are shown.</p>"


def compared(run: Path) -> list[str]:
    """The comparison sheet, if the run has one."""
    sheet = cv2.imread(str(run / "compare.png"))
    return [] if sheet is None else [page.picture(np.ascontiguousarray(sheet[..., ::-1]), "target, render, error x 4")]


def turned(run: Path) -> list[str]:
    """The turntable, if the run has one."""
    path = run / "turntable.mp4"
    return [page.section("Turntable", page.clip(path, "30° to both sides, through some expressions"))] if path.is_file() else []


def acted(subject: TrackedSequence, weights: list[dict[str, float]], yaw_pitch: list[tuple[float, float]]) -> HeadParams:
    """The person with some ARKit weights, and turned by some degrees, a frame each."""
    head = load_head(subject.info.head_name)
    actor, angles = Actor(head), Angles.zeros(len(weights))
    angles.head[:, :2] = torch.deg2rad(torch.tensor(yaw_pitch, dtype=torch.float32))
    rest = face_camera(estimate_neutral(subject.params, head))
    return Retargeter(head, actor.neutral, rest)(actor.act(torch.cat([actor.weights(named) for named in weights]), angles))


def expression_sheet(avatar: Avatar, subject: TrackedSequence) -> UInt8[np.ndarray, "H W 3"]:
    """The avatar with every preset, five in a row."""
    weights = list(PRESETS.values())
    return sheet(avatar, subject, acted(subject, weights, [(0.0, 0.0)] * len(weights)))


def view_sheet(avatar: Avatar, subject: TrackedSequence) -> UInt8[np.ndarray, "H W 3"]:
    """The avatar at rest from several sides, five in a row."""
    return sheet(avatar, subject, acted(subject, [{}] * len(VIEWS), list(VIEWS)))


def sheet(avatar: Avatar, subject: TrackedSequence, params: HeadParams, side: int = 256) -> UInt8[np.ndarray, "H W 3"]:
    """Renders over white, five in a row."""
    paint = Painter(avatar, subject.camera.resize(side, side), torch.ones(3))
    tiles = [paint(params[place : place + 1]) for place in range(len(params))]
    return np.concatenate([np.concatenate(tiles[row : row + 5], axis=1) for row in range(0, len(tiles), 5)], axis=0)


def tracked(sequence: TrackedSequence) -> list[str]:
    """Some frames of the tracker's overlay, if there is one."""
    path = sequence.folder / "overlay.mp4"
    if not path.is_file():
        return []
    wanted = set(np.linspace(0, len(sequence) - 1, 4).round().astype(int).tolist())
    frames = [image for place, _, image in read_frames(path) if place in wanted]
    size = (round(256 * frames[0].shape[1] / frames[0].shape[0]), 256)
    shown = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    rows = [np.concatenate(shown[row : row + 2], axis=1) for row in range(0, len(shown) - len(shown) % 2, 2)] or shown
    return [page.section("Tracking", page.picture(np.concatenate(rows), "the video, and the fitted head over it"))]


def course_charts(course: Course, sequence: TrackedSequence) -> list[page.Chart]:
    """Turns, mouth and eyes over time; test frames are set off."""
    times = (sequence.times - sequence.times[0]).tolist()
    edges = torch.nonzero(torch.diff(torch.cat([torch.zeros(1), sequence.test.float(), torch.zeros(1)])))[:, 0].tolist()
    shaded = tuple((times[start], times[end - 1]) for start, end in zip(edges[::2], edges[1::2], strict=True))
    rows: dict[str, dict[str, Tensor | None]] = {
        "turn to the left, up (degrees)": {"left": course.yaw, "up": course.pitch},
        "opening of the mouth over its width": {"mouth": course.lips},
        "opening of the eyes over that at rest": {"eyes": course.eyes},
        "smile, brows over rest": {"smile": course.smile, "brows": course.brows},
    }
    return [
        page.Chart(title, {name: (times, values.tolist()) for name, values in lines.items() if values is not None}, shaded=shaded)
        for title, lines in rows.items()
    ]


def curves(path: Path) -> list[page.Chart]:
    """Every scalar of the run's log, losses on a logarithmic axis."""
    if not path.is_file():
        return []
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise FormatError(f"{path}, line {number}: {error}. Continue the run with --resume, which mends its log.") from error
        for name, value in entry.items():
            if name not in ("step", "seconds"):
                xs, ys = lines.setdefault(name, ([], []))
                xs.append(float(entry["step"]))
                ys.append(float("nan") if value is None else float(value))
    ordered = sorted(lines, key=lambda name: (name != "metric/psnr", name != "loss/total", name))
    return [page.Chart(name, {name: lines[name]}, log=name.startswith(LOSSES) or name == "lr") for name in ordered]


def command(run: Path) -> list[str]:
    """How the run was made."""
    path = run / RECORD
    if not path.is_file():
        return []
    facts = {name: value for name, value in read_json(path).items() if name != "files"}
    return [page.folded("command and machine", json.dumps(facts, indent=2))]
