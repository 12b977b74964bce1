"""Cameras around a head: how far they may go, where they are, and whether the video shows the head from there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera


@dataclass(frozen=True)
class Orbit:
    """Largest turn of the camera about the head, away from where it first stands, degrees to both sides."""

    yaw: float
    pitch: float


HEAD_ORBIT = Orbit(yaw=75.0, pitch=35.0)
"""Of a head that nothing closes below: beyond these angles one looks into it."""
PERSON_ORBIT = Orbit(yaw=180.0, pitch=45.0)
"""Of a whole person, or a head that its own neck closes, seen from all sides; from far below one would look into the torso."""
CLEARANCE = 0.08
"""Least distance of a camera from the surface along its line of sight, meters; hair and cloth stand a few centimeters off the surface."""
BEAM = 0.07
"""Distance from the line of sight up to which the surface counts as before the camera, meters."""
FILMED_MARGIN = 15.0
"""Degrees beyond the views that were filmed up to which an avatar is what was filmed."""


def orbit_of(closed: bool) -> Orbit:
    """How far round an avatar the camera may go.

    Args:
        closed: whether the head goes on below the jaw, see `Avatar.shows_neck`.
    """
    return PERSON_ORBIT if closed else HEAD_ORBIT


def nearest_distance(points: Float[Tensor, "V 3"], center: Float[Tensor, "3"], toward: Float[Tensor, "3"]) -> float:
    """Distance from a point at which a camera is still outside an avatar, meters.

    Args:
        points: the avatar's surface, meters.
        center: what the camera looks at, meters.
        toward: direction from there to the camera, of length one.
    """
    away = points - center
    ahead = away @ toward
    beside = (away - ahead[:, None] * toward).norm(dim=1)
    return float(ahead.where(beside < BEAM, 0).amax()) + CLEARANCE


def orbit(camera: Camera, middle: Float[Tensor, "3"], angle: float) -> Camera:
    """A camera gone round a point, about its own upright axis; at a positive angle it sees more of the left of who faces it.

    Args:
        camera: where it begins, in the world.
        middle: of the circle, meters.
        angle: radians.
    """
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    pose = camera.camera_from_world.clone()
    seen = pose[:3, :3] @ middle + pose[:3, 3]
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = seen - pose[:3, :3] @ middle
    return replace(camera, camera_from_world=pose)


def seen_from(camera: Camera, world_from_head: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b"]:
    """Yaw of a camera as heads have it before them, degrees: 0 straight ahead, positive to the person's left.

    Args:
        camera: one camera.
        world_from_head: poses of the heads.
    """
    pose = camera.camera_from_world
    place = -pose[:3, :3].T @ pose[:3, 3]
    x, _, z = ((place - world_from_head[..., :3, 3])[..., None, :] @ world_from_head[..., :3, :3])[..., 0, :].unbind(-1)
    return torch.rad2deg(torch.atan2(x, z))


def filmed_yaws(camera: Camera, world_from_head: Float[Tensor, "T 4 4"]) -> tuple[float, float]:
    """Range of the yaws from which a film shows a head, degrees, but for its last hundredths."""
    least, largest = seen_from(camera, world_from_head).quantile(torch.tensor([0.01, 0.99])).tolist()
    return round(least, 2), round(largest, 2)


def is_filmed(yaw: float, filmed: tuple[float, float] | None) -> bool:
    """Whether a view is one that was filmed, or near to such; yes where nothing is known.

    Args:
        yaw: of the camera before the head, degrees; see `seen_from`.
        filmed: range of the yaws that were filmed, degrees.
    """
    return filmed is None or filmed[0] - FILMED_MARGIN <= yaw <= filmed[1] + FILMED_MARGIN
