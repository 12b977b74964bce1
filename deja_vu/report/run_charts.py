"""Curves of a run: what the person does, and how training went."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from deja_vu.core.documents import parse_json
from deja_vu.core.errors import FormatError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.report.coverage import Course
from deja_vu.report.plots import Chart

LOSSES = "loss/"


def course_charts(course: Course, sequence: TrackedSequence) -> list[Chart]:
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
        Chart(title, {name: (times, values.tolist()) for name, values in lines.items() if values is not None}, shaded=shaded)
        for title, lines in rows.items()
    ]


def training_charts(path: Path) -> list[Chart]:
    """Every scalar of a run's log, losses on a logarithmic axis; none where there is no log.

    Raises:
        FormatError: a line is damaged.
    """
    if not path.is_file():
        return []
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        for name, (step, value) in _read_entry(line, f"{path}, line {number}").items():
            xs, ys = lines.setdefault(name, ([], []))
            xs.append(step)
            ys.append(value)
    ordered = sorted(lines, key=lambda name: (name != "metric/psnr", name != "loss/total", name))
    return [Chart(name, {name: lines[name]}, log_y=name.startswith(LOSSES) or name == "lr") for name in ordered]


def _read_entry(line: str, where: str) -> dict[str, tuple[float, float]]:
    """Step and value of everything in a line of the log; nan for what was not finite."""
    entry = parse_json(line, where)
    if not isinstance(entry, dict) or not _is_number(entry.get("step")):
        raise FormatError(f"{where} has no step. Continue the run with --resume, which mends its log.")
    named = {name: value for name, value in entry.items() if name not in ("step", "seconds")}
    if wrong := [name for name, value in named.items() if value is not None and not _is_number(value)]:
        raise FormatError(f"{where}: {wrong[0]} is not a number. Continue the run with --resume, which mends its log.")
    return {name: (float(entry["step"]), math.nan if value is None else float(value)) for name, value in named.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
