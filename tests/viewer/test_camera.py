from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deja_vu.core.orbit import Orbit
from deja_vu.viewer.camera import fitted_fov, looking_at, within_orbit
from deja_vu.viewer.stage import view_camera

LIMIT = Orbit(yaw=75.0, pitch=35.0)
CENTER = np.array([0.1, -0.2, 0.3])


def standing(yaw: float, pitch: float, distance: float = 0.5) -> np.ndarray:
    """A camera about the center; straight ahead is -z, up is -y."""
    a, b = math.radians(yaw), math.radians(pitch)
    return CENTER + distance * np.array([math.sin(a) * math.cos(b), -math.sin(b), -math.cos(a) * math.cos(b)])


@pytest.mark.parametrize(
    ("asked", "got"),
    [((0, 0), (0, 0)), ((-74, 34), (-74, 34)), ((100, 10), (75, 10)), ((-179, 0), (-75, 0)), ((20, 80), (20, 35)), ((90, -90), (0, -35))],
)
def test_a_camera_is_held_at_the_limit_and_at_its_distance(asked, got) -> None:
    held = within_orbit(standing(*asked), CENTER, LIMIT)
    if abs(asked[1]) == 90:  # from straight above or below, any side will do
        assert -(held - CENTER)[1] / 0.5 == pytest.approx(math.sin(math.radians(got[1])))
    else:
        np.testing.assert_allclose(held, standing(*got), atol=1e-9)
    assert np.linalg.norm(held - CENTER) == pytest.approx(0.5)


def test_a_held_camera_sees_what_a_free_one_there_sees() -> None:
    """Looking along z from -z is the quaternion of no turn."""
    ours = looking_at(CENTER, standing(0, 0), 0.7, 80, 60)
    free = view_camera(np.array([1.0, 0, 0, 0]), standing(0, 0), 0.7, 80, 60)
    torch.testing.assert_close(ours.camera_from_world, free.camera_from_world, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.intrinsics, free.intrinsics)
    turned = looking_at(CENTER, standing(60, 20), 0.7, 80, 60)
    pixel, _ = turned.project(torch.tensor(CENTER[None], dtype=torch.float32))
    assert pixel[0].tolist() == pytest.approx([40, 30], abs=1e-3)
    above, _ = turned.project(torch.tensor(CENTER[None] + [0, -0.05, 0], dtype=torch.float32))
    assert above[0, 0].item() == pytest.approx(40, abs=1e-3)
    assert above[0, 1].item() < 30
    assert torch.linalg.det(turned.camera_from_world[:3, :3]).item() == pytest.approx(1, abs=1e-5)


def test_a_narrow_window_shows_the_whole_width() -> None:
    assert fitted_fov(0.8, 1.7) == pytest.approx(0.8)
    assert math.tan(fitted_fov(0.8, 0.5) / 2) * 0.5 == pytest.approx(math.tan(0.4))
