"""A visitor's camera: its starting place, its limits, and its conversion to `Camera`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from deja_vu.core.camera import Camera
from deja_vu.core.orbit import Orbit

FARTHEST = 1e6
"""Number beyond which no camera is believed, scene units."""


def fitted_fov(fov: float, aspect: float) -> float:
    """Vertical angle of view in which a square that fills `fov` is seen whole, radians.

    Args:
        fov: angle of view of the square, radians.
        aspect: width of the window over its height.
    """
    return 2 * math.atan(math.tan(fov / 2) / min(1.0, aspect))


def is_usable(
    *, wxyz: Float[np.ndarray, "4"], position: Float[np.ndarray, "3"], look_at: Float[np.ndarray, "3"], fov: float, aspect: float
) -> bool:
    """Whether a camera that a browser, or another program, sent can see anything.

    Args:
        wxyz: rotation, quaternion.
        position: of the camera, scene units.
        look_at: what it turns about, scene units.
        fov: vertical angle of view, radians.
        aspect: width of the window over its height.
    """
    numbers = (*wxyz, *position, *look_at, fov, aspect)
    if not all(math.isfinite(number) and abs(number) < FARTHEST for number in numbers):
        return False
    apart = np.linalg.norm(np.subtract(position, look_at))
    return bool(np.linalg.norm(wxyz) > 1e-6 and apart > 1e-6 and 0.01 < fov < math.pi - 0.01 and 0.1 < aspect < 10)


def within_orbit(position: Float[np.ndarray, "3"], center: Float[np.ndarray, "3"], orbit: Orbit) -> Float[np.ndarray, "3"]:
    """The allowed place nearest to a camera's, at the same distance.

    Args:
        position: of the camera.
        center: what it turns about. Straight ahead is seen from -z, and -y is up.
        orbit: how far to the sides, and up and down.
    """
    x, y, z = (np.asarray(position, np.float64) - center).tolist()
    distance = math.sqrt(x * x + y * y + z * z)
    if distance == 0:
        return np.asarray(position, np.float64)
    yaw, pitch = math.atan2(x, -z), math.asin(max(-1.0, min(1.0, -y / distance)))
    yaw = max(-math.radians(orbit.yaw), min(math.radians(orbit.yaw), yaw))
    pitch = max(-math.radians(orbit.pitch), min(math.radians(orbit.pitch), pitch))
    level = distance * math.cos(pitch)
    return center + np.array([level * math.sin(yaw), -distance * math.sin(pitch), -level * math.cos(yaw)])


def looking_at(center: Float[np.ndarray, "3"], position: Float[np.ndarray, "3"], fov: float, width: int, height: int) -> Camera:
    """A camera that stands upright and looks at a point.

    Args:
        center: the point, meters.
        position: of the camera, meters; not straight above or below the point.
        fov: vertical angle of view, radians.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    ahead = np.asarray(center, np.float64) - position
    ahead /= np.linalg.norm(ahead)
    right = np.cross([0.0, 1.0, 0.0], ahead)  # y is down, in the world as in the picture
    right /= np.linalg.norm(right)
    camera_from_world = torch.eye(4)
    camera_from_world[:3, :3] = torch.as_tensor(np.stack([right, np.cross(ahead, right), ahead]))
    camera_from_world[:3, 3] = -camera_from_world[:3, :3] @ torch.as_tensor(position, dtype=torch.float32)
    return replace(Camera.from_focal(height / 2 / math.tan(fov / 2), width, height), camera_from_world=camera_from_world)
