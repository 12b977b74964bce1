"""Reader of phone captures: a CSV file with a column for each ARKit expression, head and eye angles, and time."""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.motion import MotionSource
from deja_vu.heads.base import HeadModel
from deja_vu.motion.actor import Actor, Angles
from deja_vu.motion.neutral import mean_rotation, take_neutral
from deja_vu.motion.resample import close_pauses

ANGLE_NAMES = tuple(f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll"))
"""Radians; yaw to the actor's own left, pitch up, roll towards the right shoulder."""
SECONDS_NAMES = ("time", "timestamp", "seconds")
"""Columns in which other apps give the time; its unit may follow, as in `Time (ms)`, and is taken from the values all the same."""
UNIT_NAMES = r"(s|secs?|seconds|ms|millis|milliseconds|us|microseconds|ns|nanoseconds)?"
MOMENT = re.compile(r"\s*(\d+([.,]\d+)?(e[+-]?\d+)?|\d{1,2}:\d{2}:\d{2}([.,]\d+)?|\d{4}-\d{2}-\d{2}[T ].*)\s*", re.IGNORECASE)
"""A time that is no timecode: a number, a time of day, or a date with one."""
COUNT_NAME = "blendshapecount"
OPTIONAL_NAMES = ("tongueOut", *ANGLE_NAMES)
"""Columns without which a motion is complete enough; they count as zero."""
FRAME_RATES = (24, 25, 30, 48, 50, 60, 90, 100, 120)
DEFAULT_RATE = 60
"""Frame rate of a timecode that is too short to tell: what phones record at."""
MAX_WEIGHT = 2.0
"""Weights above are no ARKit weights; other programs count to 100."""
MOST = 1e20
"""Largest number of any column: nanoseconds since 1970 are a hundredth of it."""
MOST_TURN = 3600.0
"""Largest angle: ten turns in degrees, which some programs count up."""
MOST_BYTES = 512 << 20
"""Largest file: an hour at 60 lines a second has 120 MB."""
MAX_GAP = 0.5
"""Seconds without a face, or without a line, beyond which the motion is said to be bridged."""
UNITS = {1.0: "seconds", 1e-3: "milliseconds", 1e-6: "microseconds", 1e-7: "ticks of 100 nanoseconds", 1e-9: "nanoseconds"}
"""In which programs count time, by their length in seconds."""
USUAL_STEPS, POSSIBLE_STEPS = (1 / 130, 1 / 14), (1 / 500, 0.5)
"""Seconds from line to line of captures: the unit is the one in which the median step is of the first kind, or else of the second."""
LOOK_ANGLE = 0.6
"""Eye turn that a look weight of one stands for where the file has no eye angles, radians."""


@dataclass(frozen=True)
class _Table:
    """A file's R lines in which there is a face, as they stand there."""

    times: Float[np.ndarray, " R"]
    values: dict[str, Float[np.ndarray, " R"]]
    notes: tuple[str, ...]


class ArkitCsvMotion(MotionSource):
    """The synthetic actor moved by a capture. Uneven times are resampled by linear interpolation."""

    def __init__(self, path: Path, head: HeadModel, neutral_at: float | None = None) -> None:
        """Read a capture.

        Args:
            path: CSV file.
            head: model of the avatar to be moved.
            neutral_at: moment at which the actor's face is neutral, seconds; None takes ARKit's own zero.

        Raises:
            InputError: no such file, expressions missing, a cell that is no number, weights that are no ARKit weights, or time that
                runs backwards; the message names the line.
        """
        actor = Actor(head)
        known = [name for name in ARKIT_NAMES if name in actor.names]
        if not known:
            raise InputError(
                f"Head '{head.spec.name}' has none of ARKit's expressions, so {path.name} cannot move it. Use a head that has."
            )
        table = _read(path)
        times, values, fps = _resample_evenly(table)
        weights = torch.zeros(len(times), len(actor.names))
        for name in known:
            weights[:, actor.names.index(name)] = torch.from_numpy(values[name]).float()
        self._params = actor.act(weights, _parse_angles(values))
        self.acted = True
        self.head_name, self.fps, self.notes = head.spec.name, fps, table.notes
        if neutral_at is None:
            self.neutral = actor.neutral
            self.neutral.world_from_head[0, :3, :3] = mean_rotation(self._params.world_from_head)  # phones are held below the face
        else:
            self.neutral = take_neutral(self._params, torch.from_numpy(times), neutral_at)

    def frames(self) -> Iterator[HeadParams]:
        for position in range(len(self)):
            yield self._params[position : position + 1]

    def __len__(self) -> int:
        return len(self._params)


def _normalize_name(name: str) -> str:
    """A column's name without the ways in which apps differ: case, separators, L or Left at the end."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    marked = re.search(r"[_\s-](l|r)$", name.strip().lower())
    return plain[:-1] + {"l": "left", "r": "right"}[marked[1]] if marked else plain


KNOWN = {_normalize_name(name): name for name in (*ARKIT_NAMES, *ANGLE_NAMES)}


def _read(path: Path) -> _Table:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has {path.stat().st_size >> 20} MB, more than four hours of capture. Cut it first.")
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, PermissionError) as error:
        raise InputError(f"{path} cannot be read as text ({error}). Expected a CSV file.") from error
    written = text.splitlines()
    if written and (told := re.fullmatch(r"sep=(.)", written[0].strip())):  # as spreadsheets write it
        delimiter, written = told[1], written[1:]
    else:
        delimiter = max(",;\t|", key=text.split("\n", 1)[0].count)
    try:
        lines = list(csv.reader(written, delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file that can be read ({error}). Export the capture again.") from error
    if len(lines) < 2:
        raise InputError(f"{path} holds no motion: expected a line of column names, and a line for every frame.")
    header = [cell.strip() for cell in lines[0]]
    columns, notes = _find_columns(header, path)
    clock = _find_clock(header, path)
    count = next((place for place, name in enumerate(header) if _normalize_name(name) == COUNT_NAME), None)
    kept, faceless = [], 0
    for number, cells in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if count is not None and len(cells) > count and cells[count].strip() == "0":
            faceless += 1  # the app saw no face, and leaves the rest of the line out
            continue
        if len(cells) != len(header):
            why = "The file is damaged; export it again."
            if delimiter == "," and len(cells) > 1.5 * len(header):
                why = "Are there decimal commas? Then something else must stand between cells: export with semicolons or points."
            raise InputError(f"{path}, line {number}: {len(cells)} cells under {len(header)} column names. {why}")
        kept.append((number, cells))
    if not kept:
        raise InputError(f"{path} holds no line in which a face was seen.")
    if faceless:
        notes.append(f"{path.name}: no face in {faceless} of {faceless + len(kept)} lines; these are bridged.")
    values = {name: np.array([_parse_value(cells[place], name, n, path) for n, cells in kept]) for name, place in columns.items()}
    zeros = np.zeros(len(kept))
    values = {name: values.get(name, zeros) for name in KNOWN.values()}
    if any("," in cells[place] for _, cells in kept for place in columns.values()):
        notes.append(f"{path.name}: decimal commas are read as points.")
    times = _parse_times([(number, cells[clock]) for number, cells in kept], header[clock], path, notes)
    times, values = _drop_repeats(times, values, [number for number, _ in kept], path, notes)
    closed, pauses = close_pauses(torch.from_numpy(times), path.name)
    times = closed.numpy()
    notes += pauses
    if len(times) > 1 and (gap := float(np.diff(times).max())) > MAX_GAP:
        notes.append(f"{path.name}: {gap:.1f} s without a line; the motion is bridged there.")
    return _Table(times - times[0], values, tuple(notes))


def _find_columns(header: list[str], path: Path) -> tuple[dict[str, int], list[str]]:
    """Place of every known column, and a note on columns that nobody knows or that are left out."""
    places: dict[str, int] = {}
    unknown = []
    for place, name in enumerate(header):
        key = _normalize_name(name)
        if key in KNOWN:
            if KNOWN[key] in places:
                raise InputError(f"{path}: two columns mean {KNOWN[key]} ('{header[places[KNOWN[key]]]}' and '{name}'). Remove one.")
            places[KNOWN[key]] = place
        elif key not in ("timecode", COUNT_NAME, "") and not any(_tells_time(key, known) for known in SECONDS_NAMES):
            unknown.append(name)
    missing = [name for name in KNOWN.values() if name not in places]
    fatal = [name for name in missing if name not in OPTIONAL_NAMES]
    if fatal:
        near = difflib.get_close_matches(fatal[0], unknown, n=1, cutoff=0.7)
        hint = f" Is '{near[0]}' meant to be {fatal[0]}?" if near else ""
        raise InputError(
            f"{path} lacks {len(fatal)} of ARKit's {len(ARKIT_NAMES)} expressions: {_join_names(fatal)}."
            f"{hint} Export the capture with all of them."
        )
    notes = [f"{path.name}: unknown columns are ignored: {_join_names(unknown)}."] if unknown else []
    if missing:
        notes.append(f"{path.name}: no column {', '.join(missing)}; taken as zero.")
    return places, notes


def _find_clock(header: list[str], path: Path) -> int:
    keys = [_normalize_name(name) for name in header]
    for name in ("timecode", *SECONDS_NAMES):
        for place, key in enumerate(keys):
            if _tells_time(key, name):
                return place
    raise InputError(f"{path} has no column Timecode (HH:MM:SS:FF), nor one of {', '.join(SECONDS_NAMES)} in seconds.")


def _tells_time(key: str, name: str) -> bool:
    """Whether a column's normalized name is one of a time, with or without its unit."""
    return re.fullmatch(f"{name}{UNIT_NAMES}", key) is not None


def _parse_value(cell: str, name: str, number: int, path: Path) -> float:
    try:
        value = float(_point(cell))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {number}: {name} is '{cell[:40]}', not a number. Delete that line, or export the capture again.")
    if abs(value) > (MOST_TURN if name in ANGLE_NAMES else MOST):
        raise InputError(f"{path}, line {number}: {name} is {value:g}, which is nothing that can be measured. Export the capture again.")
    if name in ARKIT_NAMES and not -0.5 <= value <= MAX_WEIGHT:
        raise InputError(f"{path}, line {number}: {name} is {value:g}. Expected ARKit weights from 0 to 1; divide percentages by 100.")
    return value


def _point(cell: str) -> str:
    """A number as Python reads it: a decimal comma becomes a point, and what groups its thousands goes."""
    if "," not in cell:
        return cell
    return cell.replace(".", "").replace(",", ".") if cell.rfind(".") < cell.rfind(",") else cell.replace(",", "")


def _parse_moment(cell: str, column: str, number: int, path: Path) -> float:
    """A time as a number, as a date with the time of day, or as the time of day alone."""
    if clock := re.fullmatch(r"\s*(\d{1,2}):(\d{2}):(\d{2}(?:[.,]\d+)?)\s*", cell):
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3].replace(",", "."))
    if re.match(r"\s*\d{4}-\d{2}-\d{2}[T ]", cell):
        try:
            return datetime.fromisoformat(cell.strip().replace(",", ".")).timestamp()
        except ValueError:
            return _parse_value("", column, number, path)
    return _parse_value(cell, column, number, path)


def _to_seconds(times: Float[np.ndarray, " R"], path: Path, notes: list[str]) -> Float[np.ndarray, " R"]:
    """Times in the unit in which their steps are those of frames.

    Raises:
        InputError: there is none.
    """
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        return times
    step = float(np.median(steps))
    for low, high in (USUAL_STEPS, POSSIBLE_STEPS):
        for length, unit in UNITS.items():
            if low <= step * length <= high:
                if length != 1:
                    notes.append(f"{path.name}: times count {unit}, as their steps of {step:g} tell.")
                return (times - times[0]) * length
    raise InputError(
        f"{path}: from line to line the time grows by {step:g}, not the time of a frame in seconds, milli-, micro- or nanoseconds. "
        "Export the capture with times in seconds."
    )


def _parse_times(cells: list[tuple[int, str]], column: str, path: Path, notes: list[str]) -> Float[np.ndarray, " R"]:
    """Seconds of every line. A timecode's rate follows from its largest frame number; midnight is passed at most once."""
    if _normalize_name(column) != "timecode" or MOMENT.fullmatch(cells[0][1]):
        moments = np.array([_parse_moment(cell, column, number, path) for number, cell in cells])
        return _to_seconds(_pass_midnight(moments), path, notes)
    parts = []
    for number, cell in cells:
        match = re.fullmatch(r"\s*(\d{1,2})[:;](\d{1,2})[:;](\d{1,2})[:;](\d{1,3}(?:[.,]\d*)?)\s*", cell)
        if match is None:
            raise InputError(f"{path}, line {number}: the timecode is '{cell[:40]}'. Expected HH:MM:SS:FF, such as 14:03:52:28.207.")
        parts.append([float(_point(part)) for part in match.groups()])
    hours, minutes, seconds, frame = np.array(parts).T
    whole = hours * 3600 + minutes * 60 + seconds
    rate = next((rate for rate in FRAME_RATES if rate > frame.max()), math.ceil(frame.max()) + 1)
    if whole[0] == whole[-1]:
        rate = max(rate, DEFAULT_RATE)
    return _pass_midnight(whole + frame / rate)


def _pass_midnight(times: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """Times of day that begin again at most once."""
    passed = np.flatnonzero((np.diff(times) < -43200) & (times[:-1] < 86401) & (times[1:] >= 0))
    if len(passed):
        times[passed[0] + 1 :] += 86400
    return times


def _drop_repeats(
    times: Float[np.ndarray, " R"], values: dict[str, Float[np.ndarray, " R"]], numbers: list[int], path: Path, notes: list[str]
) -> tuple[Float[np.ndarray, " K"], dict[str, Float[np.ndarray, " K"]]]:
    """Leave out lines at the time of the line before; refuse time that runs backwards."""
    steps = np.diff(times)
    backwards = np.flatnonzero(steps < 0)
    if len(backwards):
        line = numbers[int(backwards[0]) + 1]
        raise InputError(
            f"{path}, line {line}: time runs backwards by {-steps[backwards[0]]:.3f} s. Sort the lines, or export the capture again."
        )
    fresh = np.concatenate([[True], steps > 1e-6])
    if not fresh.all():
        notes.append(f"{path.name}: {int((~fresh).sum())} lines repeat the time of the line before and are left out.")
    return times[fresh], {name: value[fresh] for name, value in values.items()}


def _resample_evenly(table: _Table) -> tuple[Float[np.ndarray, " T"], dict[str, Float[np.ndarray, " T"]], float]:
    """Times, values and rate on an even grid, at the rate of most steps, 60 frames a second at most."""
    if len(table.times) == 1:
        return table.times, table.values, float(DEFAULT_RATE)
    rate = min(1 / float(np.median(np.diff(table.times))), float(DEFAULT_RATE))
    nearest = min(FRAME_RATES, key=lambda known: abs(known - rate))
    rate = float(nearest) if abs(nearest - rate) < 0.03 * nearest else rate
    times = np.arange(math.floor(table.times[-1] * rate + 0.1) + 1) / rate  # stamps are rounded, to milliseconds at worst
    return times, {name: np.interp(times, table.times, value) for name, value in table.values.items()}, rate


def _parse_angles(values: dict[str, Float[np.ndarray, " T"]]) -> Angles:
    """Angles of head and eyes; eyes without angles look where the look weights say, and these settle the angles' signs."""
    parts = [np.stack([values[f"{part}{axis}"] for axis in ("Yaw", "Pitch", "Roll")], -1) for part in ("Head", "LeftEye", "RightEye")]
    head = _to_radians(parts[0])
    eyes = []
    for side, given in (("Left", parts[1]), ("Right", parts[2])):
        outwards = values[f"eyeLookOut{side}"] - values[f"eyeLookIn{side}"]
        looked = np.stack([outwards if side == "Left" else -outwards, values[f"eyeLookUp{side}"] - values[f"eyeLookDown{side}"]], -1)
        turned = _to_radians(given)[:, :2] if given.any() else LOOK_ANGLE * looked
        agreement = ((turned - turned.mean(0)) * (looked - looked.mean(0))).sum(0)
        turned = turned * np.where(agreement < 0, -1.0, 1.0)
        eyes.append(np.concatenate([turned, np.zeros((len(turned), 1))], -1))
    return Angles(*(_to_tensor(part) for part in (head, *eyes)))


def _to_radians(angles: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    """No head turns by more than half a circle: larger numbers are degrees."""
    return np.deg2rad(angles) if np.abs(angles).max(initial=0.0) > math.pi else angles


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def _to_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).float()
