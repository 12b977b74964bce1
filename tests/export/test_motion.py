from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.export.motion import resting_frame, transfer, turntable
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy

FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Rotation of a head that looks straight into the camera."""


def tracked(turn: torch.Tensor, expression: torch.Tensor, place: torch.Tensor, head_name: str = "toy") -> TrackedSequence:
    """A sequence of the toy head without pictures."""
    frames = len(turn)
    still = load_toy().neutral((frames,))
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(turn) @ FACING
    pose[:, :3, 3] = place
    params = replace(still, expression=expression, world_from_head=pose, shape=torch.ones(frames, 6))
    info = TrackInfo("someone", head_name, 25.0, "a.mp4", "", frames, (0, 0, 64, 64), 64, "tail")
    camera = Camera.from_focal(100.0, 64, 64)
    index, test = torch.arange(frames), torch.zeros(frames, dtype=torch.bool)
    return TrackedSequence(Path("nowhere"), info, params, camera, index, index / 25, test)


def someone(frames: int = 40, seed: int = 0, head_name: str = "toy") -> TrackedSequence:
    generator = torch.Generator().manual_seed(seed)
    turn = 0.2 * torch.randn(frames, 3, generator=generator)
    expression = torch.rand(frames, 6, generator=generator) ** 2
    return tracked(turn, expression, torch.tensor([0.0, 0.0, 0.6]) + 0.02 * torch.randn(frames, 3, generator=generator), head_name)


def relative(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angle between rotations, radians."""
    return torch.acos((((a.transpose(-1, -2) @ b).diagonal(dim1=-1, dim2=-2).sum(-1) - 1) / 2).clamp(-1, 1))


def test_ones_own_motion_is_carried_over_unchanged() -> None:
    me = someone()
    carried = transfer(me, me)
    torch.testing.assert_close(carried.expression, me.params.expression, rtol=0, atol=1e-6)
    torch.testing.assert_close(carried.joints, me.params.joints, rtol=0, atol=1e-6)
    torch.testing.assert_close(carried.world_from_head, me.params.world_from_head, rtol=0, atol=1e-5)


def test_a_motion_is_carried_relative_to_both_neutrals() -> None:
    """A mover who sits elsewhere, looks aside and smiles at rest moves the person from where that one rests."""
    me, mover = someone(seed=1), someone(seed=2)
    aside = axis_angle_to_matrix(torch.tensor([0.1, 0.4, 0.0]))
    pose = mover.params.world_from_head.clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ aside  # the same movements of a head that rests at another angle, in head space
    pose[:, :3, 3] += torch.tensor([0.3, 0.1, 0.5])
    params = replace(mover.params, world_from_head=pose)
    plain, shifted = transfer(mover, me), transfer(replace(mover, params=params), me)
    torch.testing.assert_close(shifted.world_from_head, plain.world_from_head, rtol=0, atol=1e-5)
    assert torch.equal(plain.shape, me.params.shape[:1].expand(40, -1))
    torch.testing.assert_close(plain.world_from_head[:, :3, 3].mean(0), me.params.world_from_head[:, :3, 3].mean(0), rtol=0, atol=1e-6)
    # Movements are kept: the turn from one frame to the next is the mover's.
    there, here = plain.world_from_head[:, :3, :3], mover.params.world_from_head[:, :3, :3]
    torch.testing.assert_close(relative(there[1:], there[:-1]), relative(here[1:], here[:-1]), rtol=0, atol=1e-3)


def test_a_resting_smile_of_the_mover_is_not_carried_over() -> None:
    me, mover = someone(seed=1), someone(seed=2)
    lifted = mover.params.expression.clone()
    lifted[:, 3:5] += 0.15
    params = replace(mover.params, expression=lifted)
    torch.testing.assert_close(transfer(replace(mover, params=params), me).expression, transfer(mover, me).expression, rtol=0, atol=1e-6)


def test_carried_expressions_stay_in_range() -> None:
    me, mover = someone(seed=1), someone(seed=2)
    params = replace(me.params, expression=me.params.expression + 1.0)
    carried = transfer(mover, replace(me, params=params))
    assert carried.expression.min() >= -0.2
    assert carried.expression.max() <= 1.2


def test_a_motion_of_another_head_is_refused() -> None:
    with pytest.raises(InputError, match="head 'anny', the avatar uses 'toy'"):
        transfer(someone(head_name="anny"), someone())


def test_the_turntable_turns_to_both_sides_and_comes_back() -> None:
    head = load_toy()
    rest = resting_frame(someone())
    motion = turntable(head.spec, rest, 120, degrees=30)
    assert len(motion) == 120
    forward = (rest.world_from_head[0, :3, :3].T @ motion.world_from_head[:, :3, :3])[:, :, 2]
    yaw = torch.rad2deg(torch.atan2(forward[:, 0], forward[:, 2]))
    assert yaw.max().item() == pytest.approx(30, abs=0.5)
    assert yaw.min().item() == pytest.approx(-30, abs=0.5)
    steps = relative(motion.world_from_head[:, :3, :3], motion.world_from_head[:, :3, :3].roll(-1, 0))
    assert steps.max() < 3 * 2 * math.pi / 120  # the last frame leads into the first without a jump
    assert torch.equal(motion.world_from_head[:, :3, 3], rest.world_from_head[:, :3, 3].expand(120, 3))


def test_the_turntable_shows_every_expression_that_the_head_has() -> None:
    head = load_toy()
    rest = resting_frame(someone())
    motion = turntable(head.spec, rest, 150)
    most = dict(zip(head.spec.expression_names, motion.expression.amax(0).tolist(), strict=True))
    shown = {"jawOpen": 0.8, "eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0, "mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "browInnerUp": 0.9}
    assert most == pytest.approx(shown, abs=0.01)
    change = (motion.expression - motion.expression.roll(-1, 0)).abs().max()
    assert change < 0.15  # a fifth of a second at 30 fps for a whole movement
    assert torch.equal(motion.expression[0], rest.expression[0])


def test_the_resting_frame_looks_into_the_camera_from_where_the_person_is() -> None:
    turn, expression = 0.5 * torch.ones(5, 3), torch.ones(5, 6)
    turn[3], expression[3] = 0.01, 0.1
    place = torch.stack([torch.zeros(5), torch.zeros(5), 0.5 + 0.1 * torch.arange(5)], 1)
    rest = resting_frame(tracked(turn, expression, place))
    assert isinstance(rest, HeadParams)
    assert torch.equal(rest.world_from_head[0, :3, 3], place[3])
    assert torch.equal(rest.world_from_head[0, :3, :3], FACING)
    assert torch.equal(rest.expression, expression[3:4])
