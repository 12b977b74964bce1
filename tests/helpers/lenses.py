"""Films of the sample subject through other lenses and in other frames, with the exact truth."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.datasets.synthetic import SyntheticSubject
from deja_vu.datasets.synthetic.acting import DISTANCE
from deja_vu.datasets.synthetic.subject import FOCAL
from deja_vu.heads.skinning import invert_motion
from deja_vu.io.video import write_video

NEAREST = 0.28
"""Least distance of the head before a wide lens, meters."""


@dataclass(frozen=True)
class Setting:
    """How a film is made."""

    focal: float = FOCAL
    """Focal length over the longer side of the picture that is stored."""
    bars: tuple[int, int] = (0, 0)
    """Width of black bars at the sides, and above and below, pixels of the stored picture; the camera's middle stays."""
    room: tuple[int, int] = (0, 0)
    """The same of a plain wall."""
    zoom: float = 1.0
    """Size of the person against the usual one."""
    turn: int = 0
    """Quarter turns to the left by which the picture is stored."""
    fps: float = 12.0
    frames: int = 20
    size: int = 320
    """Side of the picture without bars and room, pixels."""
    seed: int = 2


@dataclass(frozen=True)
class Film:
    """A film, and what it shows."""

    path: Path
    params: HeadParams
    """Of every frame, the neck's turn in the pose, as a tracker gives them."""
    camera: Camera
    """On the pixels of the upright picture."""
    setting: Setting


@cache
def make_subject(frames: int, size: int, seed: int, fps: float) -> SyntheticSubject:
    """A subject, made once: painting it takes longer than filming it. Copy it before changing it."""
    return SyntheticSubject(frames, size, seed, fps)


def film(path: Path, setting: Setting) -> Film:
    """Make a film, and say what it shows."""
    subject = copy(make_subject(setting.frames, setting.size, setting.seed, setting.fps))
    around = [bar + room for bar, room in zip(setting.bars, setting.room, strict=True)]
    width, height = (setting.size + 2 * pad for pad in around)
    focal = setting.focal * max(width, height)
    distance = max(DISTANCE * focal / (FOCAL * setting.size) / setting.zoom, NEAREST)
    subject.camera = Camera.from_focal(focal, setting.size, setting.size)
    pose = subject.params.world_from_head.clone()
    pose[:, 2, 3] += distance - DISTANCE
    subject.params = replace(subject.params, world_from_head=pose)
    write_video(path, (_frame(image, setting) for image in subject.frames()), setting.fps)
    return Film(path, as_tracked(subject), Camera.from_focal(focal, width, height), setting)


def _frame(image: UInt8[np.ndarray, "H W 3"], setting: Setting) -> UInt8[np.ndarray, "h w 3"]:
    for (across, down), color in ((setting.room, (130, 118, 124)), (setting.bars, (0, 0, 0))):
        image = cv2.copyMakeBorder(image, down, down, across, across, cv2.BORDER_CONSTANT, value=color)
    return np.ascontiguousarray(np.rot90(image, setting.turn))


def as_tracked(subject: SyntheticSubject) -> HeadParams:
    """Truth of all frames with the neck's turn in the pose, as a tracker gives it."""
    params, neck = subject.params, subject.head.spec.joint_names.index("neck")
    skull, joints = subject.head.world_from_parts(params)[:, neck + 1], params.joints.clone()
    joints[:, neck] = 0
    return replace(params, joints=joints, world_from_head=skull, torso=invert_motion(skull) @ params.world_from_torso)
