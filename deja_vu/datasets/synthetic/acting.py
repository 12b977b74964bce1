"""Motion of a synthetic person: talks, blinks, looks around and turns the head."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from deja_vu.core.conventions import FACING_CAMERA
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix

SCRIPT_SHARE = 0.8
"""Share of the clip that plays the script once; the rest plays its beginning again, faster and with other offsets."""
REPLAY_SPEED = 1.3
MAX_YAW = math.radians(30.0)
"""Largest turn of the head to either side, radians."""
MAX_PITCH = math.radians(12.0)
"""Largest nod of the head, radians."""
MAX_ROLL = math.radians(5.0)
"""Largest tilt of the head, radians."""
NECK_SHARE = 0.85
"""Part of a turn that the neck makes; the torso follows with the rest."""
SWAY = (0.012, 0.008, 0.02)
"""Largest shifts of the torso in camera axes, meters."""
TORSO_TURN = (math.radians(1.0), math.radians(2.5), math.radians(1.0))
"""Largest turns of the torso against the head besides: down, to the subject's left, and sidewards, radians."""
TORSO_SHIFT = (0.003, 0.002, 0.003)
"""Largest shifts of the torso against the head, to the subject's left, up and ahead, meters."""
TORSO_SECONDS = 5.0
"""Period of the torso's slowest motion."""
NECK_BASE = (0.0, -0.13, -0.01)
"""Point in head space about which the torso turns, meters."""
DISTANCE = 0.62
"""Of the head joint in front of the camera, meters."""
HEIGHT = 0.032
"""Of the head joint below the camera's axis, meters."""
TURN_SECONDS = 2.4
"""Period of a turn of the head."""
VISEME_SECONDS = 0.26
"""Time from one mouth shape to the next."""
GAZE_SECONDS = 0.7
"""Time from one fixation to the next."""
BLINK_SECONDS = 1.7
"""Longest usual time between blinks."""
BLINK_CLOSING = 0.1
"""First phase of a blink, seconds."""
BLINK_CLOSED = 0.05
"""Second phase of a blink, seconds."""
BLINK_OPENING = 0.16
"""Last phase of a blink, seconds."""
VISEMES: dict[str, dict[str, float]] = {
    "aa": {"jawOpen": 0.6, "mouthLowerDown": 0.25, "mouthUpperUp": 0.2},
    "ee": {"jawOpen": 0.16, "mouthSmile": 0.45, "mouthStretch": 0.35, "mouthUpperUp": 0.2},
    "oo": {"jawOpen": 0.12, "mouthPucker": 0.75, "mouthFunnel": 0.2},
    "mm": {"mouthPress": 0.4, "mouthRollLower": 0.25, "mouthRollUpper": 0.2},
    "oh": {"jawOpen": 0.4, "mouthFunnel": 0.6},
    "ff": {"jawOpen": 0.1, "mouthRollLower": 0.45, "mouthUpperUp": 0.25},
    "wide": {"jawOpen": 0.9, "mouthLowerDown": 0.2},
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.4, "eyeSquint": 0.25, "jawOpen": 0.06},
}
"""Mouth shapes by ARKit name; a name without a side means both."""
BROWS: tuple[dict[str, float], ...] = ({}, {"browInnerUp": 0.7, "browOuterUp": 0.6}, {}, {"browDown": 0.6}, {"browOuterUp": 0.5})


def act(head: HeadModel, shape: Float[torch.Tensor, " S"], frames: int, fps: float, seed: int) -> HeadParams:
    """Parameters of every frame; the first one is neutral and frontal.

    Whatever happens in the last fifth happens in a similar, not the same, way before.

    Args:
        head: model with ARKit's expressions and joints neck, eye_left and eye_right.
        shape: identity.
        frames: length T, at least 1.
        fps: frame rate, 1/s.
        seed: chooses the order and strength of what is said.
    """
    rng = np.random.default_rng(seed)
    length = max(SCRIPT_SHARE * frames / fps, 1e-6)
    time = np.arange(frames) / fps
    again = np.maximum(time - length, 0.0)
    new = _ease(again / 0.3)
    script = np.where(time > length, again * REPLAY_SPEED, time)
    tracks = _move_mouth(script, length, rng) | _cycle_shapes(script, length, list(BROWS), 1.1, rng)
    tracks = {name: value * (1 - 0.12 * new) for name, value in tracks.items()}
    blink = _blink(script, length, rng)
    turn = _turn_head(script, length) + new[:, None] * np.radians([2.5, -1.5, 1.0]) * np.sin(4.0 * again)[:, None]
    gaze = _move_eyes(script, length, rng) + new[:, None] * np.radians([2.0, -1.0])
    gaze[:, 0] -= 0.45 * turn[:, 0]  # eyes stay behind when the head turns away from the camera
    gaze[:, 1] -= 0.35 * turn[:, 1]
    tracks |= {"eyeBlink": blink} | _lids_from_gaze(gaze, blink)
    expression = np.zeros((frames, head.spec.num_expression), np.float32)
    for name, value in _expand_sides(tracks, head.spec.expression_names).items():
        expression[:, head.spec.expression_names.index(name)] = np.clip(value, 0.0, 1.0)
    joints = np.zeros((frames, head.spec.num_joints, 3), np.float32)
    for eye in ("eye_left", "eye_right"):
        joints[:, head.spec.joint_names.index(eye), :2] = np.stack([-gaze[:, 1], gaze[:, 0]], axis=1)
    joints[:, head.spec.joint_names.index("neck")] = NECK_SHARE * turn[:, [1, 0, 2]]
    return HeadParams(
        shape.expand(frames, -1),
        torch.from_numpy(expression),
        torch.from_numpy(joints),
        _torso_pose((1 - NECK_SHARE) * turn, script, length),
        _move_torso(script, length),
    )


def _torso_pose(turn: np.ndarray, time: np.ndarray, length: float) -> Float[torch.Tensor, "T 4 4"]:
    """Pose of the torso, facing the camera."""
    pose = torch.eye(4).repeat(len(turn), 1, 1)
    pose[:, :3, :3] = FACING_CAMERA @ axis_angle_to_matrix(torch.from_numpy(turn[:, [1, 0, 2]]).float())
    wave = np.stack([np.sin(2 * np.pi * cycles * time / length) for cycles in _count_cycles(length, 1, 3, 2)], axis=1)
    pose[:, :3, 3] = torch.from_numpy(wave * SWAY + [0.0, HEIGHT, DISTANCE]).float()
    return pose


def _move_torso(time: np.ndarray, length: float) -> Float[torch.Tensor, "T 4 4"]:
    """Slow motion of the torso below the head, about the base of the neck; none at both ends of the script."""
    slow = [max(1, round(length / TORSO_SECONDS)) + more for more in (0, 1, 2)]
    wave = np.stack([np.sin(2 * np.pi * cycles * time / length) for cycles in slow], axis=1)
    motion = torch.eye(4).repeat(len(time), 1, 1)
    motion[:, :3, :3] = axis_angle_to_matrix(torch.from_numpy(wave[:, [1, 0, 2]] * TORSO_TURN).float())
    base = torch.tensor(NECK_BASE)
    motion[:, :3, 3] = base - motion[:, :3, :3] @ base + torch.from_numpy(wave[:, [2, 1, 0]] * TORSO_SHIFT).float()
    return motion


def _count_cycles(length: float, *extra: int) -> list[int]:
    turns = max(2, round(length / TURN_SECONDS))
    return [turns + more for more in extra]


def _turn_head(time: np.ndarray, length: float) -> np.ndarray:
    """Yaw (to the subject's left), pitch (down) and roll of the head, radians [T 3]; zero at both ends of the script."""
    cycles = _count_cycles(length, 0, 1, -1)
    return np.stack(
        [most * np.sin(2 * np.pi * n * time / length) for most, n in zip((MAX_YAW, MAX_PITCH, MAX_ROLL), cycles, strict=True)], axis=1
    )


def _move_mouth(time: np.ndarray, length: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    names: list[str] = []
    while len(names) * VISEME_SECONDS < length:
        names += list(rng.permutation(list(VISEMES)))
    shapes = [VISEMES[name] for name in names]
    return _cycle_shapes(time, length, shapes, VISEME_SECONDS, rng)


def _cycle_shapes(
    time: np.ndarray, length: float, shapes: list[dict[str, float]], seconds: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Interpolate shapes at even steps with easing, neutral at both ends of the script."""
    count = max(3, round(length / seconds) + 1)
    keys = [shapes[k % len(shapes)] for k in range(count)]
    strength = rng.uniform(0.75, 1.1, count)
    strength[[0, -1]] = 0.0
    names = sorted({name for shape in shapes for name in shape})
    return {name: _interpolate(time, length, [s * key.get(name, 0.0) for s, key in zip(strength, keys, strict=True)]) for name in names}


def _interpolate(time: np.ndarray, length: float, values: list[float] | np.ndarray) -> np.ndarray:
    """Eased passage through values at even steps from 0 to `length`."""
    position = np.clip(time / length, 0.0, 1.0) * (len(values) - 1)
    left = np.minimum(position.astype(int), len(values) - 2)
    blend = _ease(position - left)
    array = np.asarray(values)
    return array[left] * (1 - blend) + array[left + 1] * blend


def _blink(time: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    closed = np.zeros_like(time)
    start = 0.95 * min(1.0, length / BLINK_SECONDS)
    whole = BLINK_CLOSING + BLINK_CLOSED + BLINK_OPENING
    while start + whole < length:
        since = time - start
        opening = 1 - _ease((since - BLINK_CLOSING - BLINK_CLOSED) / BLINK_OPENING)
        closed = np.maximum(closed, np.minimum(_ease(since / BLINK_CLOSING), opening))
        start += BLINK_SECONDS * rng.uniform(0.7, 1.1)
    return closed


def _move_eyes(time: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Direction of both eyes in the head, yaw to the subject's left and pitch down, radians [T 2]: fixations with quick passages."""
    count = max(3, round(length / GAZE_SECONDS) + 1)
    targets = rng.uniform([-0.3, -0.14], [0.3, 0.14], (count, 2))
    targets[[0, 1, -1]] = 0.0
    position = np.clip(time / length, 0.0, 1.0) * (count - 1)
    left = np.minimum(position.astype(int), count - 2)
    blend = _ease((position - left - 0.8) / 0.2)[:, None]
    return targets[left] * (1 - blend) + targets[left + 1] * blend


def _lids_from_gaze(gaze: np.ndarray, blink: np.ndarray) -> dict[str, np.ndarray]:
    """Lids follow the eyeballs: ARKit's eyeLook shapes from the angle, which reach one at about 25 degrees."""
    yaw, pitch = gaze.T / math.radians(25.0) * (1 - blink)
    return {
        "eyeLookDown": np.maximum(pitch, 0),
        "eyeLookUp": np.maximum(-pitch, 0),
        "eyeLookOutLeft": np.maximum(yaw, 0),
        "eyeLookInRight": np.maximum(yaw, 0),
        "eyeLookInLeft": np.maximum(-yaw, 0),
        "eyeLookOutRight": np.maximum(-yaw, 0),
    }


def _expand_sides(tracks: Mapping[str, np.ndarray], known: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Names as the head has them: one that it lacks stands for its left and right."""
    sided: dict[str, np.ndarray] = {}
    for name, value in tracks.items():
        for full in (name,) if name in known else (f"{name}Left", f"{name}Right"):
            sided[full] = value
    return sided


def _ease(x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at 0 to 1 at 1."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)
