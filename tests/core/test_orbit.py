from __future__ import annotations

import math

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.orbit import filmed_yaws, is_filmed, orbit, seen_from

FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
CAMERA = Camera.from_focal(100.0, 64, 64)


def facing(yaw: float) -> torch.Tensor:
    """A head before the camera that has turned to its own left by degrees."""
    pose, turn = FACING.clone(), torch.eye(4)
    a = math.radians(yaw)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = math.cos(a), math.sin(a), -math.sin(a), math.cos(a)
    pose = pose @ turn
    pose[:3, 3] = torch.tensor([0.0, 0.0, 0.8])
    return pose


@pytest.mark.parametrize("yaw", [0.0, 40.0, -120.0, 179.0])
def test_a_camera_that_goes_round_sees_the_head_from_there(yaw) -> None:
    pose = facing(0)
    assert float(seen_from(orbit(CAMERA, pose[:3, 3], math.radians(yaw)), pose)) == pytest.approx(yaw, abs=1e-3)


def test_a_head_that_turns_left_is_seen_from_its_right() -> None:
    poses = torch.stack([facing(30), facing(-10)])
    assert seen_from(CAMERA, poses).tolist() == pytest.approx([-30, 10], abs=1e-3)


def test_what_was_filmed_reaches_a_little_further_than_the_film() -> None:
    filmed = filmed_yaws(CAMERA, torch.stack([facing(yaw) for yaw in range(-20, 31)]))
    assert filmed == pytest.approx((-30, 20), abs=1)
    assert is_filmed(0, filmed)
    assert is_filmed(34, filmed)
    assert not is_filmed(36, filmed)
    assert not is_filmed(-46, filmed)
    assert is_filmed(180, None)  # nothing is known
