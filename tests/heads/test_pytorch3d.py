"""Rotations and their conventions, beside those of pytorch3d: written by others, for others, with the same meaning."""

from __future__ import annotations

import pytest
import torch

from deja_vu.heads.skinning import axis_angle_to_matrix, exponentiate_skew, matrix_to_axis_angle
from deja_vu.render.reference import rotation_matrices
from deja_vu.uv.attach import matrix_to_quaternion, quaternion_multiply

transforms = pytest.importorskip("pytorch3d.transforms", reason="needs pytorch3d: pip install '.[cuda]' in the source folder")
so3 = pytest.importorskip("pytorch3d.transforms.so3")
TIGHT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture
def axis_angle() -> torch.Tensor:
    """Turns from a millionth of a radian to 3 radians."""
    axes = torch.nn.functional.normalize(torch.randn(200, 3, dtype=torch.float64), dim=-1)
    return axes * torch.logspace(-6, 0.47, 200, dtype=torch.float64)[:, None]


def test_axis_angles_turn_as_theirs(axis_angle: torch.Tensor) -> None:
    expected = transforms.axis_angle_to_matrix(axis_angle)
    torch.testing.assert_close(axis_angle_to_matrix(axis_angle), expected, **TIGHT)
    torch.testing.assert_close(exponentiate_skew(so3.hat(axis_angle)), expected, **TIGHT)
    # Theirs goes through a quaternion, whose small parts lose half their digits.
    torch.testing.assert_close(matrix_to_axis_angle(expected), transforms.matrix_to_axis_angle(expected), rtol=0, atol=1e-7)


def test_quaternions_mean_and_multiply_as_theirs(axis_angle: torch.Tensor) -> None:
    quats = transforms.axis_angle_to_quaternion(axis_angle)
    torch.testing.assert_close(rotation_matrices(3 * quats), transforms.quaternion_to_matrix(quats), **TIGHT)
    ours, theirs = (transforms.standardize_quaternion(found) for found in (matrix_to_quaternion(axis_angle_to_matrix(axis_angle)), quats))
    torch.testing.assert_close(ours, theirs, **TIGHT)
    torch.testing.assert_close(quaternion_multiply(quats, quats.flip(0)), transforms.quaternion_raw_multiply(quats, quats.flip(0)), **TIGHT)


def test_gradients_of_turns_are_theirs(axis_angle: torch.Tensor) -> None:
    slopes = []
    for turn in (axis_angle_to_matrix, transforms.axis_angle_to_matrix, lambda value: exponentiate_skew(so3.hat(value))):
        leaf = axis_angle.clone().requires_grad_()
        weight = torch.randn(200, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        slopes.append(torch.autograd.grad((turn(leaf) * weight).sum(), leaf)[0])
    # Theirs divides by the angle, of which a millionth leaves ten digits.
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=1e-8)
    torch.testing.assert_close(slopes[0], slopes[2], rtol=0, atol=1e-8)
