"""Reader of motions written by hand: a YAML file of keyframes.

    fps: 30                                  # optional
    keyframes:
      - {at: 0.0, face: neutral}             # a preset by name (neutral, smile, blink, a, e, i, o, u, surprise, frown)
      - {at: 0.6, face: smile, weights: {jawOpen: 0.2}, head: {yaw: 15, pitch: -5}, gaze: {yaw: 10}}
      - {at: 1.0, weights: {eyeBlinkLeft: 1.0}}

Times are seconds and must grow; weights are ARKit's, between 0 and 1, and come on top of the preset. Angles are degrees: yaw to the
actor's own left, pitch up, roll towards the right shoulder. A keyframe says everything: what it does not name is neutral.
Between keyframes all values ease in and out.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deja_vu.core.documents import read_yaml
from deja_vu.core.errors import FormatError, InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.motion import MotionSource
from deja_vu.heads.base import HeadModel
from deja_vu.motion.actor import PRESETS, Actor, Angles

KEYS = ("at", "face", "weights", "head", "gaze")
ANGLES = ("yaw", "pitch", "roll")
MAX_SECONDS = 3600.0
"""Longest script, seconds."""
LIKENESS = 0.6
"""How alike an unknown name is to a known one for the latter to be offered instead, from 0 to 1."""
LISTED = 20
"""Most known names that an error lists."""


class ScriptMotion(MotionSource):
    """The synthetic actor going through keyframes."""

    def __init__(self, path: Path, head: HeadModel) -> None:
        """Read a script.

        Args:
            path: YAML file.
            head: model of the avatar to be moved.

        Raises:
            InputError: no such file, not YAML, an unknown key or name (the nearest known one is suggested), a value out of range,
                or times that do not grow.
        """
        rate, keyframes = _read(path)
        actor = Actor(head)
        times, weights, angles = _parse(keyframes, path, actor)
        frames = round(times[-1] * rate) + 1
        at = torch.arange(frames, dtype=torch.float64) / rate
        place = torch.bucketize(at, torch.tensor(times, dtype=torch.float64), right=True).clamp(1, max(len(times) - 1, 1))
        moments = torch.tensor(times if len(times) > 1 else [*times, 1.0], dtype=torch.float64)
        share = ((at - moments[place - 1]) / (moments[place] - moments[place - 1])).clamp(0, 1)
        eased = (0.5 - 0.5 * torch.cos(math.pi * share)).float()[:, None]
        values = torch.cat([weights, angles], 1)
        values = values if len(values) > 1 else values.expand(2, -1)
        moved = values[place - 1] * (1 - eased) + values[place] * eased
        eyes = torch.cat([moved[:, -3:-1], torch.zeros(frames, 1)], 1)
        self._params = actor.act(moved[:, : weights.shape[1]], Angles(moved[:, -6:-3], eyes, eyes))
        self.acted = True
        self.head_name, self.fps, self.neutral = head.spec.name, rate, actor.neutral

    def frames(self) -> Iterator[HeadParams]:
        for position in range(len(self)):
            yield self._params[position : position + 1]

    def __len__(self) -> int:
        return len(self._params)


def _read(path: Path) -> tuple[float, list[Any]]:
    if not path.is_file():
        raise InputError(f"There is no script {path}.")
    try:
        script = read_yaml(path)
    except FormatError as error:
        raise InputError(str(error)) from error
    if not isinstance(script, dict) or not isinstance(script.get("keyframes"), list) or not script["keyframes"]:
        raise InputError(f"{path} is not a script: expected a mapping with a list `keyframes`, as: keyframes: [{{at: 0, face: smile}}]")
    _refuse_unknown(script, ("fps", "keyframes"), f"{path}")
    rate = _read_number(script.get("fps", 30.0), f"{path}: fps", 1.0, 240.0)
    return rate, script["keyframes"]


def _parse(keyframes: list[Any], path: Path, actor: Actor) -> tuple[list[float], Tensor, Tensor]:
    """Times, weights [k E] and angles in radians (head yaw, pitch, roll, gaze yaw, pitch, roll) [k 6] of the keyframes."""
    names, spec = actor.names, actor.head.spec
    times, weights, angles = [], torch.zeros(len(keyframes), len(names)), torch.zeros(len(keyframes), 6)
    for number, key in enumerate(keyframes):
        where = f"{path}: keyframe {number + 1}"
        if not isinstance(key, dict) or "at" not in key:
            raise InputError(f"{where} must be a mapping with its time `at` in seconds, such as: {{at: {number}, face: smile}}")
        _refuse_unknown(key, KEYS, where)
        times.append(_read_number(key["at"], f"{where}: at", 0.0, MAX_SECONDS))
        if number and times[-1] <= times[-2]:
            raise InputError(f"{where} is at {times[-1]:g} s, not after the one before it at {times[-2]:g} s. Expected growing times.")
        face = key.get("face", "neutral")
        _refuse_unknown([face], tuple(PRESETS), f"{where}: face")
        given = _read_mapping(key, "weights", where)
        _refuse_unknown(given, names, f"{where}: weights")
        ranges = {name: spec.expression_limits if name in spec.expression_names else (0.0, 1.0) for name in given}
        named = PRESETS[face] | {name: _read_number(value, f"{where}: {name}", *ranges[name]) for name, value in given.items()}
        for name, value in named.items():
            if name in names:
                weights[number, names.index(name)] = value
        for first, part in ((0, "head"), (3, "gaze")):
            degrees = _read_mapping(key, part, where)
            _refuse_unknown(degrees, ANGLES if part == "head" else ANGLES[:2], f"{where}: {part}")
            for name, value in degrees.items():
                angles[number, first + ANGLES.index(name)] = math.radians(_read_number(value, f"{where}: {part} {name}", -90.0, 90.0))
    return times, weights, angles


def _read_mapping(key: dict[str, Any], part: str, where: str) -> dict[str, Any]:
    value = key.get(part) or {}
    if not isinstance(value, dict):
        raise InputError(f"{where}: {part} must be a mapping of names to numbers, not {type(value).__name__}.")
    return value


def _read_number(value: object, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{where} is {value!r}. Expected a number from {low:g} to {high:g}.")
    return float(value)


def _refuse_unknown(given: Iterable[object], known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1, cutoff=LIKENESS)
            meant = f" Did you mean '{close[0]}'?" if close else ""
            others = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
            raise InputError(f"{where}: unknown name '{name}'.{meant} Known here: {', '.join(known[:LISTED])}{others}.")
