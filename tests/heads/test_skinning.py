from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from deja_vu.heads.skinning import (
    axis_angle_to_matrix,
    blend_transforms,
    exponentiate_skew,
    halve_motion,
    invert_motion,
    joint_transforms,
    matrix_to_axis_angle,
)

PARENTS = (-1, 0, 0, 1)
angles = st.lists(st.floats(-3, 3), min_size=3, max_size=3)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(angles)
@settings(deadline=None, max_examples=50)
def test_rotations_agree_with_scipy(vector: list[float]) -> None:
    ours = axis_angle_to_matrix(torch.tensor(vector, dtype=torch.float64))
    torch.testing.assert_close(
        ours, torch.from_numpy(Rotation.from_rotvec(vector).as_matrix()), atol=1e-9, rtol=0
    )  # matrix_exp stops its series at 2e-11


@given(angles)
@settings(deadline=None, max_examples=50)
def test_a_rotation_gives_back_its_axis_and_angle(vector: list[float]) -> None:
    shorter = torch.tensor(vector, dtype=torch.float64)
    shorter = shorter * min(1.0, 3.1 / max(float(shorter.norm()), 1e-9))  # under half a circle
    torch.testing.assert_close(matrix_to_axis_angle(axis_angle_to_matrix(shorter)), shorter, atol=1e-8, rtol=0)


def test_gradients_at_zero_and_elsewhere() -> None:
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, zero)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, random(2, 3).requires_grad_())

    def skin(axis_angle: torch.Tensor, pivots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return blend_transforms(joint_transforms(axis_angle_to_matrix(axis_angle), pivots, PARENTS), random(6, 5).softmax(1))

    assert torch.autograd.gradcheck(skin, (random(2, 4, 3).requires_grad_(), random(2, 4, 3, seed=1).requires_grad_()))


def test_without_rotation_nothing_moves() -> None:
    moved = joint_transforms(torch.eye(3, dtype=torch.float64).expand(2, 4, 3, 3), random(2, 4, 3), PARENTS)
    torch.testing.assert_close(moved, torch.eye(4, dtype=torch.float64).expand(2, 5, 4, 4))


def test_a_joint_turns_about_its_pivot() -> None:
    rotations, pivots = axis_angle_to_matrix(random(4, 3)), random(4, 3, seed=1)
    moved = joint_transforms(rotations, pivots, PARENTS)
    torch.testing.assert_close(moved[1, :3, :3] @ pivots[0] + moved[1, :3, 3], pivots[0])
    # A child turns with its parent, then about its own pivot: parent's motion, applied to (turn about the pivot).
    point = random(3, seed=2)
    about_own = rotations[1] @ (point - pivots[1]) + pivots[1]
    about_parent = rotations[0] @ (about_own - pivots[0]) + pivots[0]
    torch.testing.assert_close(moved[2, :3, :3] @ point + moved[2, :3, 3], about_parent)


def test_a_turning_parent_carries_its_children_rigidly() -> None:
    axis_angle = torch.zeros(4, 3, dtype=torch.float64)
    axis_angle[0] = random(3)
    moved = joint_transforms(axis_angle_to_matrix(axis_angle), random(4, 3, seed=1), PARENTS)
    for child in (2, 3, 4):
        torch.testing.assert_close(moved[child], moved[1])
    torch.testing.assert_close(moved[0], torch.eye(4, dtype=torch.float64))


def test_blending_one_motion_is_that_motion() -> None:
    motion = joint_transforms(axis_angle_to_matrix(random(1, 3)), random(1, 3, seed=1), (-1,))[1]
    linear, translation = blend_transforms(motion.expand(5, 4, 4), random(7, 5).softmax(1))
    torch.testing.assert_close(linear, motion[:3, :3].expand(7, 3, 3))
    torch.testing.assert_close(translation, motion[:3, 3].expand(7, 3))


def screw(vector: list[float], shift: list[float]) -> torch.Tensor:
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = torch.from_numpy(Rotation.from_rotvec(vector).as_matrix()), torch.tensor(shift, dtype=torch.float64)
    return motion


@given(st.lists(st.floats(-1.6, 1.6), min_size=3, max_size=3), angles)
@settings(deadline=None, max_examples=50)
def test_half_a_motion_is_half_its_screw(vector: list[float], shift: list[float]) -> None:
    """Turns up to 160 degrees: logm loses digits towards half a circle, where no root is the shorter one."""
    motion = screw(vector, shift)
    half, quarter = halve_motion(motion), halve_motion(halve_motion(motion))
    log = np.real(logm(motion.numpy()))
    torch.testing.assert_close(half, torch.from_numpy(expm(log / 2)), rtol=0, atol=1e-6)
    torch.testing.assert_close(half @ quarter, torch.from_numpy(expm(0.75 * log)), rtol=0, atol=1e-6)
    torch.testing.assert_close(half @ half, motion, rtol=0, atol=1e-9)


def test_half_of_no_motion_is_none_and_smooth() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(halve_motion(eye), eye, rtol=0, atol=0)

    def half(twist: torch.Tensor) -> torch.Tensor:
        rigid = torch.cat([axis_angle_to_matrix(twist[:3]), twist[3:, None]], 1)
        return halve_motion(torch.cat([rigid, eye[3:]]))

    assert torch.autograd.gradcheck(half, torch.zeros(6, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(half, random(6).requires_grad_())


@given(angles, angles)
@settings(deadline=None, max_examples=20)
def test_the_inverse_takes_a_motion_back(vector: list[float], shift: list[float]) -> None:
    motion = screw(vector, shift)
    torch.testing.assert_close(invert_motion(motion) @ motion, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_closed_form_is_the_exponential_of_a_skew_matrix_with_its_slope_at_zero_too() -> None:
    axis_angle = torch.randn(50, 3, dtype=torch.float64) * torch.logspace(-9, 0.4, 50, dtype=torch.float64)[:, None]
    axis_angle[0] = 0
    skew = torch.linalg.cross(torch.eye(3, dtype=torch.float64).expand(50, 3, 3), axis_angle[:, None].expand(50, 3, 3), dim=-1)
    torch.testing.assert_close(exponentiate_skew(skew), torch.linalg.matrix_exp(skew), rtol=0, atol=1e-14)
    for form in (exponentiate_skew, torch.linalg.matrix_exp):
        assert torch.autograd.functional.jacobian(form, skew[:1]).isfinite().all()
    ours, general = (torch.autograd.functional.jacobian(form, skew[30]) for form in (exponentiate_skew, torch.linalg.matrix_exp))
    torch.testing.assert_close(_by_axis_angle(ours), _by_axis_angle(general), rtol=0, atol=1e-12)


def _by_axis_angle(jacobian: torch.Tensor) -> torch.Tensor:
    """Slopes by the three numbers that make a skew matrix: only these are defined alike by both forms."""
    return torch.stack([jacobian[..., i, j] - jacobian[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
