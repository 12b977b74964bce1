"""An avatar together with its person, from a run folder or its file alone: what commands show and notebooks render."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deja_vu.avatars import Avatar, load_avatar, read_subject
from deja_vu.core.errors import FormatError, InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.orbit import filmed_yaws
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.subject import Subject
from deja_vu.heads.base import HeadModel
from deja_vu.motion.actor import PRESETS, Actor, Angles
from deja_vu.motion.neutral import estimate_neutral, face_camera
from deja_vu.motion.retarget import Retargeter
from deja_vu.pipelines.painter import Painter, open_background
from deja_vu.pipelines.run_folder import find_avatar, find_track

Face = str | Mapping[str, float]
"""A preset by name (`smile`), or ARKit weights by name, mostly in [0, 1]."""


@dataclass(frozen=True)
class Person:
    """An avatar that can be posed and shown; see `load`.

        me = deja_vu.load("runs/me")
        me.render({"jawOpen": 0.6, "mouthSmileLeft": 0.5}, yaw=15, size=512).save("me.png")

    In a notebook the value itself shows the neutral face.
    """

    avatar: Avatar
    """In evaluation mode."""
    subject: Subject
    """Neutral face, camera, name."""
    name: str
    """Of the run's folder, or of the avatar's file."""
    video: TrackedSequence | None = None
    """The tracked video that the avatar was learned from, if it is at hand."""

    @property
    def head(self) -> HeadModel:
        """Head model that the avatar moves with, on the CPU, where motion is computed."""
        return self.avatar.host_head

    def params(
        self,
        face: Face = "neutral",
        *,
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        gaze: tuple[float, float] = (0.0, 0.0),
    ) -> HeadParams:
        """Parameters of one pose [1], where the person usually was before the camera.

        Args:
            face: preset or ARKit weights; 1 is the whole movement.
            yaw: of the head, to the person's own left, degrees; a whole person's head turns as far as the neck lets it.
            pitch: up, degrees.
            roll: towards the person's right shoulder, degrees.
            gaze: yaw and pitch of the eyes, degrees.

        Raises:
            InputError: there is no such preset or expression.
        """
        angles = Angles.zeros(1)
        angles.head[0] = torch.deg2rad(torch.tensor([yaw, pitch, roll]))
        for eye in (angles.left_eye, angles.right_eye):
            eye[0, :2] = torch.deg2rad(torch.tensor(gaze))
        actor, retarget = self._acting
        return retarget(actor.act(actor.weights(self._weights(face)), angles))

    def render(
        self,
        face: Face = "neutral",
        *,
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        gaze: tuple[float, float] = (0.0, 0.0),
        size: int = 512,
        background: str | None = "white",
    ) -> Image.Image:
        """A picture of one pose by the camera that filmed the person; see `params`.

        Args:
            face: preset or ARKit weights.
            yaw: to the person's own left, degrees.
            pitch: up, degrees.
            roll: towards the person's right shoulder, degrees.
            gaze: yaw and pitch of the eyes, degrees.
            size: side, pixels.
            background: a color (name or RRGGBB) or the path of a picture; None makes it transparent.

        Returns:
            A Pillow image, RGB or RGBA, with `save`, `show` and all else that such have.

        Raises:
            InputError: a name or the background is not known, or the size is none.
        """
        if not 1 <= size <= 8192:
            raise InputError(f"A picture cannot have a side of {size} pixels. Expected 1 to 8192.")
        painter = Painter(self.avatar, self.subject.camera.resize(size, size), None if background is None else open_background(background))
        return Image.fromarray(np.ascontiguousarray(painter(self.params(face, yaw=yaw, pitch=pitch, roll=roll, gaze=gaze))))

    def show(self, face: Face = "neutral", *, size: int = 512) -> None:
        """Open a picture in the system's viewer; see `render`."""
        self.render(face, size=size).show()

    def _repr_png_(self) -> bytes:
        with io.BytesIO() as file:
            self.render(size=320).save(file, "png")
            return file.getvalue()

    def _weights(self, face: Face) -> Mapping[str, float]:
        known = PRESETS if isinstance(face, str) else self._acting[0].names
        for name in [face] if isinstance(face, str) else face:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(list(known)[:12])} ..."
                raise InputError(f"There is no {'face' if isinstance(face, str) else 'expression'} '{name}'. {hint}")
        return PRESETS[face] if isinstance(face, str) else face

    @cached_property
    def _acting(self) -> tuple[Actor, Retargeter]:
        actor = Actor(self.head)
        ours = face_camera(self.subject.neutral)
        return actor, Retargeter(self.head, actor.neutral, ours, body=self.avatar.shows_person, acted=True)


def load(path: Path | str, device: torch.device | str = "cpu") -> Person:
    """A person from a run folder, or from an avatar's file alone.

    Args:
        path: folder of `deja-vu personalize` or `reconstruct`, or its avatar.safetensors.
        device: where the avatar is drawn.

    Raises:
        InputError: there is no avatar, or it is of an older version and its tracked video is not there.
        FormatError: a file is damaged, or avatar and video belong to different heads.
    """
    run = Path(path)
    file = find_avatar(run)
    avatar, subject, video = load_avatar(file), read_subject(file), own_video(run)
    if video is not None and video.info.head_name != avatar.head.spec.name:
        raise FormatError(
            f"{run}: the avatar has head '{avatar.head.spec.name}', but the video was tracked with head '{video.info.head_name}'. "
            "Personalize again."
        )
    if subject is None:
        if video is None:
            raise InputError(
                f"{file} has no neutral face in it: an older version wrote it. Give its run folder, with track/, or personalize again."
            )
        subject = subject_of(video, avatar)
    elif subject.filmed is None and video is not None:
        subject = replace(subject, filmed=filmed_yaws(video.camera, video.params.world_from_head))
    return Person(avatar.to(device), subject, run.resolve().stem if run.is_file() else run.resolve().name, video)


def load_pair(run: Path, device: torch.device | str = "cpu") -> tuple[Avatar, TrackedSequence]:
    """The avatar of a run, on the device where it is drawn, and the tracked video it was learned from.

    Raises:
        InputError: one of them is not there.
        FormatError: one is damaged, or they belong to different heads.
    """
    avatar, sequence = load_avatar(find_avatar(run)), TrackedSequence.load(find_track(run))
    ours, theirs = avatar.head.spec.name, sequence.info.head_name
    if ours != theirs:
        raise FormatError(f"{run}: the avatar has head '{ours}', but the video was tracked with head '{theirs}'. Personalize again.")
    return avatar.to(device), sequence


def own_video(run: Path) -> TrackedSequence | None:
    """The tracked video of a run, if it is at hand.

    Raises:
        FormatError: it is damaged.
    """
    try:
        folder = find_track(run)
    except InputError:
        return None
    return TrackedSequence.load(folder)


def subject_of(video: TrackedSequence, avatar: Avatar) -> Subject:
    """Whom a tracked video shows, seen as far as the avatar goes."""
    camera = video.person_window().camera if avatar.shows_person else video.camera
    filmed = filmed_yaws(video.camera, video.params.world_from_head)
    return Subject(
        video.info.subject, video.info.head_name, estimate_neutral(video.params, avatar.host_head), camera, video.info.fps, filmed
    )
