"""Drive an avatar with another video's motion, and the turntable that shows one off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from deja_vu.avatars import Avatar
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams, HeadSpec
from deja_vu.core.sequence import TrackedSequence
from deja_vu.export.motion import resting_frame, transfer, turntable
from deja_vu.pipelines.evaluate import to_bytes
from deja_vu.tracking.video import write_video


def render_motion(avatar: Avatar, motion: HeadParams, camera: Camera, label: str) -> Iterator[np.ndarray]:
    """Frames of an avatar going through a motion, over white, uint8 [H W 3]."""
    for position in tqdm(range(len(motion)), desc=label, unit="frame"):
        with torch.no_grad():
            yield to_bytes(avatar.render(motion[position : position + 1], camera, torch.ones(3)).rgb[0])


def drive(avatar: Avatar, person: TrackedSequence, motion: TrackedSequence, out: Path) -> None:
    """Write a video of the person's avatar following another tracked video, relative to both neutrals."""
    write_video(out, render_motion(avatar, transfer(motion, person), person.camera, "drive"), motion.info.fps)


def show(avatar: Avatar, spec: HeadSpec, person: TrackedSequence, out: Path, frames: int = 150) -> None:
    """Write the turntable video: the head turns by 30 degrees to both sides and goes through some expressions."""
    motion = turntable(spec, resting_frame(person), frames)
    write_video(out, render_motion(avatar, motion, person.camera, "turntable"), 30.0)
