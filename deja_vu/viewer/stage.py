"""Avatars on a stage: turns sliders, motions and a camera into parameters and pictures. Knows nothing of browsers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.avatars import Avatar, GaussianAvatar
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.image import to_uint8
from deja_vu.core.motion import MotionSource
from deja_vu.core.orbit import Orbit, is_filmed, nearest_distance, orbit_of, seen_from
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.subject import Subject
from deja_vu.motion.actor import Actor, Angles
from deja_vu.motion.config import RetargetConfig, TorsoMode
from deja_vu.motion.neutral import face_camera
from deja_vu.motion.retarget import Retargeter

HEAD_SPACING = 0.26
"""Distance between heads that stand side by side in one scene, meters."""
PERSON_SPACING = 0.55
"""Distance between whole persons that do."""
Image = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Wish:
    """What somebody wants to see."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """ARKit weights by name."""
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Yaw to the avatar's left, pitch up, roll to its right shoulder, degrees."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """Yaw and pitch of the eyes, degrees."""
    background: tuple[int, int, int] = (255, 255, 255)
    motion: str | None = None
    """Motion that overrules the sliders."""
    frame: int = 0
    """Frame of that motion."""
    compared: int | None = None
    """Training frame of the first avatar that is shown beside its render."""


@dataclass(frozen=True)
class Clip:
    """A motion in memory."""

    fps: float
    neutral: HeadParams
    frames: HeadParams
    acted: bool = False
    """See `MotionSource`."""
    torso: TorsoMode = "still"
    """What the torso of a whole person does."""

    @staticmethod
    def of(source: MotionSource, torso: TorsoMode = "still") -> Clip:
        """All frames of a source that ends; a torso that would move as the mover's is still where that was not tracked."""
        mode: TorsoMode = "still" if torso == "source" and not source.has_torso else torso
        return Clip(source.fps, source.neutral, HeadParams.cat(list(source.frames())), source.acted, mode)


class Performer:
    """One avatar, standing at the world's origin and facing the camera at rest."""

    def __init__(self, name: str, avatar: Avatar, subject: Subject, sequence: TrackedSequence | None = None) -> None:
        """Put an avatar on the stage.

        Args:
            name: shown to the user.
            avatar: in evaluation mode.
            subject: whose it is.
            sequence: tracked video it was learned from, if that is at hand: for comparisons.
        """
        self.name, self.avatar, self.head = name, avatar, avatar.host_head
        self.device = avatar.device
        whole = sequence is not None and sequence.shows_person and avatar.shows_person
        self.sequence = sequence.person_window() if sequence is not None and whole else sequence
        usual, camera = subject.neutral, subject.camera
        place = usual.world_from_head[0, :3, 3]
        self.distance = float(place.norm())
        middle = (camera.height / 2 - float(camera.intrinsics[1, 2])) / float(camera.intrinsics[1, 1])
        self._aim = float(middle * place[2] - place[1])
        facing = face_camera(usual)
        pose = facing.world_from_head.clone()
        pose[:, :3, 3] = 0
        self.neutral = replace(facing, world_from_head=pose)
        self.actor = Actor(self.head)
        self._perform = Retargeter(self.head, self.actor.neutral, self.neutral, body=avatar.shows_person, acted=True)
        self.filmed = subject.filmed
        self.fov = 2 * math.atan(max(camera.width, camera.height) / 2 / float(camera.intrinsics[1, 1]))
        """Angle of view of the tracked window's longer side, radians."""
        self._carried: dict[int, HeadParams] = {}

    @cached_property
    def surface(self) -> Float[Tensor, "V 3"]:
        """Of the person at rest, with neck and torso where they are drawn, meters."""
        if not isinstance(self.avatar, GaussianAvatar):
            return self.head(self.neutral)[0]
        with torch.no_grad():
            return self.avatar.vertices(self.neutral.to(self.device))[0].cpu()

    def center(self) -> Float[np.ndarray, "3"]:
        """Middle of the resting head, at the height at which it was filmed: so the view is framed as the video is. Meters."""
        vertices = self.head(self.neutral)[0]
        x, _, z = ((vertices.amin(0) + vertices.amax(0)) / 2).tolist()
        return np.array([x, self._aim, z], np.float32)

    def params(self, wish: Wish, clip: Clip | None) -> HeadParams:
        """What this avatar does [1]: a frame of a motion, or what the sliders say.

        Args:
            wish: sliders and the frame.
            clip: the motion; None for the sliders.
        """
        if clip is not None:
            if id(clip) not in self._carried:
                config, body = RetargetConfig(torso=clip.torso), self.avatar.shows_person
                carry = Retargeter(self.head, clip.neutral, self.neutral, config, body=body, acted=clip.acted, fps=clip.fps)
                self._carried[id(clip)] = carry(clip.frames)
            frame = min(max(wish.frame, 0), len(clip.frames) - 1)
            return self._carried[id(clip)][frame : frame + 1]
        angles = Angles.zeros(1)
        angles.head[0] = torch.deg2rad(torch.tensor(wish.head))
        for eye in (angles.left_eye, angles.right_eye):
            eye[0, :2] = torch.deg2rad(torch.tensor(wish.gaze))
        return self._perform(self.actor.act(self.actor.weights(wish.weights), angles))


class Stage:
    """All avatars and motions of one viewer."""

    def __init__(self, performers: Sequence[Performer], clips: Mapping[str, Clip]) -> None:
        """Set the stage.

        Args:
            performers: at least one.
            clips: motions by name.
        """
        self.performers, self.clips = list(performers), dict(clips)
        self.center = self.performers[0].center()
        for clip in self.clips.values():
            for performer in self.performers:  # once, at the start: a minute's motion takes a second
                performer.params(Wish(), clip)

    @property
    def front(self) -> Float[np.ndarray, "3"]:
        """Where the camera stands at first, meters: as far as the tracked one, and further back for more than one column."""
        return self.center - np.array([0.0, 0.0, self.performers[0].distance * max(1.0, 0.6 * len(self.performers))], np.float32)

    def clip(self, wish: Wish) -> Clip | None:
        """The motion that a wish names."""
        return None if wish.motion is None else self.clips[wish.motion]

    @property
    def orbit(self) -> Orbit:
        """How far round the camera may go."""
        return orbit_of(all(performer.avatar.shows_neck for performer in self.performers))

    def nearest(self, center: Float[np.ndarray, "3"], position: Float[np.ndarray, "3"]) -> float:
        """Distance from what the camera looks at, at which it is still outside every avatar at rest, meters.

        Args:
            center: what it looks at, meters.
            position: of the camera, meters; elsewhere.
        """
        toward = np.subtract(position, center, dtype=np.float64)
        toward /= np.linalg.norm(toward)
        look = torch.as_tensor(np.asarray(center), dtype=torch.float32), torch.as_tensor(toward, dtype=torch.float32)
        return max(nearest_distance(performer.surface, *look) for performer in self.performers)

    def is_filmed(self, wish: Wish, camera: Camera) -> bool:
        """Whether somebody looks at every avatar from where it was filmed, or nearly."""
        poses = [performer.params(wish, self.clip(wish)).world_from_head[0] for performer in self.performers]
        yaws = [float(seen_from(camera, pose)) for pose in poses]
        return all(is_filmed(yaw, performer.filmed) for yaw, performer in zip(yaws, self.performers, strict=True))

    @torch.no_grad()
    def picture(self, wish: Wish, camera: Camera) -> Image:
        """What `avatar.render` gives, by one camera; several avatars share the picture in columns of the same height.

        Args:
            wish: what is to be seen.
            camera: of the whole picture; each column is the middle part of its view.
        """
        if wish.compared is not None:
            return self._comparison(wish, camera.width, camera.height)
        count = len(self.performers)
        edges = [round(camera.width * place / count) for place in range(count + 1)]
        columns = []
        for performer, left, right in zip(self.performers, edges[:-1], edges[1:], strict=True):
            view = camera.crop((camera.width - (right - left)) / 2, 0, right - left, camera.height)
            columns.append(self._shot(performer, performer.params(wish, self.clip(wish)), view, wish))
        return np.concatenate(columns, axis=1)

    @torch.no_grad()
    def gaussians(self, wish: Wish) -> Gaussians:
        """Gaussians of all avatars that have them, side by side in one scene, as a batch of one."""
        found = []
        clip = self.clip(wish)
        spacing = PERSON_SPACING if any(performer.avatar.shows_person for performer in self.performers) else HEAD_SPACING
        for place, performer in enumerate(self.performers):
            if "gaussians" in performer.avatar.capabilities:
                drawn = performer.avatar.gaussians(performer.params(wish, clip).to(performer.device)).to("cpu")
                shift = torch.tensor([spacing * (place - (len(self.performers) - 1) / 2), 0.0, 0.0])
                found.append(replace(drawn, means=drawn.means + shift))
        return Gaussians.cat(found)

    @property
    def has_gaussians(self) -> bool:
        """Whether every avatar can be shown as Gaussians."""
        return all("gaussians" in performer.avatar.capabilities for performer in self.performers)

    def _comparison(self, wish: Wish, width: int, height: int) -> Image:
        """The training frame as it was filmed, and beside it the render by the tracked camera."""
        performer = self.performers[0]
        sequence = performer.sequence
        assert sequence is not None, "the panel offers no comparison without a video"
        place = min(max(wish.compared or 0, 0), len(sequence) - 1)
        upright = height > width  # one above the other
        band = max(12, min(width, height) // 20)
        side = max(16, min(width - 2 * band, height // 2 - band) if upright else min(width // 2 - band, height - band))
        filmed = sequence.frame(place).image.numpy()
        filmed = cv2.resize(filmed, (side, side), interpolation=cv2.INTER_AREA if side < len(filmed) else cv2.INTER_CUBIC)
        camera = sequence.camera.resize(side, side)
        drawn = self._shot(performer, sequence.params[place : place + 1], camera, wish)
        parts = [_caption(picture, text, band, wish.background) for picture, text in ((filmed, "Filmed"), (drawn, "Rendered"))]
        both = np.concatenate(parts, axis=0 if upright else 1)
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[...] = wish.background
        top, left = (height - both.shape[0]) // 2, (width - both.shape[1]) // 2
        canvas[top : top + both.shape[0], left : left + both.shape[1]] = both
        return canvas

    def _shot(self, performer: Performer, params: HeadParams, camera: Camera, wish: Wish) -> Image:
        background = (torch.tensor(wish.background, dtype=torch.float32) / 255).to(performer.device)
        return to_uint8(performer.avatar.render(params.to(performer.device), camera.to(performer.device), background).rgb[0])


def _caption(picture: Image, text: str, band: int, background: tuple[int, int, int]) -> UInt8[np.ndarray, "H+{band} W 3"]:
    """A picture under a band of the background's color with words in it."""
    above = np.empty((band, picture.shape[1], 3), np.uint8)
    above[...] = background
    bright = sum(background) > 3 * 127
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, band // 2)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    place = ((picture.shape[1] - wide) // 2, (band + high) // 2)
    cv2.putText(above, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (90, 90, 90) if bright else (190, 190, 190), 1, cv2.LINE_AA)
    return np.concatenate([above, picture])


def view_camera(wxyz: Float[np.ndarray, "4"], position: Float[np.ndarray, "3"], fov: float, width: int, height: int) -> Camera:
    """Camera from a viewer's pose.

    Args:
        wxyz: rotation world from camera (OpenCV axes), quaternion.
        position: of the camera in the world, meters.
        fov: vertical angle of view, radians.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    w, x, y, z = (np.asarray(wxyz, np.float64) / np.linalg.norm(wxyz)).tolist()
    world_from_camera = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    camera = Camera.from_focal(height / 2 / math.tan(fov / 2), width, height)
    pose = torch.eye(4)
    pose[:3, :3] = world_from_camera.T
    pose[:3, 3] = -world_from_camera.T @ torch.as_tensor(position, dtype=torch.float32)
    return replace(camera, camera_from_world=pose)
