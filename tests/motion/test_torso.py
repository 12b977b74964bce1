"""A whole person's head turns on the neck, and the torso stays, follows or does as the mover's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.core.camera import Camera
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.motion.actor import Actor, Angles, angles_from_rotation, rotation_from_angles
from deja_vu.motion.config import RetargetConfig
from deja_vu.motion.neutral import face_camera
from deja_vu.motion.retarget import Retargeter
from deja_vu.motion.smooth import OneEuro
from deja_vu.motion.torso import NECK_GIVE, TURN_LIMITS, neck_pivot
from tests.helpers.people import FACING

FPS = 30.0


def rigid(turn: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    pose = torch.eye(4).repeat(len(place), 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = axis_angle_to_matrix(turn) @ FACING, place
    return pose


def person(anny, seed: int = 0, frames: int = 1, *, torso: bool = True):
    """Somebody who holds head and torso in poses of their own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    still = anny.neutral((frames,))
    shape = (0.5 * draw(anny.spec.num_shape)).expand(frames, -1)
    head, body = (rigid(0.1 * draw(frames, 3), torch.tensor([0.0, 0.0, 0.9]) + 0.02 * draw(frames, 3)) for _ in range(2))
    return replace(still, shape=shape, world_from_head=head, torso=torch.linalg.inv(head) @ body if torso else still.torso)


def shifted(params, way: torch.Tensor):
    """One pose, its head shifted by several ways while the torso stays."""
    many = params[[0] * len(way)]
    pose = many.world_from_head.clone()
    pose[:, :3, 3] += way
    return replace(many, world_from_head=pose, torso=torch.linalg.inv(pose) @ many.world_from_torso)


def pivots(anny, params, pose=None) -> torch.Tensor:
    """Where the neck's pivot is, carried by the head or by another pose."""
    pose = params.world_from_head if pose is None else pose
    return pose[:, :3, :3] @ neck_pivot(anny, params.shape[0]) + pose[:, :3, 3]


def test_a_still_torso_stays_as_far_as_the_neck_gives(anny) -> None:
    mover, me = person(anny, 1), person(anny, 2)
    reach = torch.linspace(0, 0.12, 25)[:, None] * torch.nn.functional.normalize(torch.tensor([0.8, 0.1, -0.6]), dim=0)
    moved = Retargeter(anny, mover, me, body=True)(shifted(mover, reach))
    rest, shift = me.world_from_torso, moved.world_from_torso[:, :3, 3] - me.world_from_torso[:, :3, 3]
    near = reach.norm(dim=1) <= NECK_GIVE
    assert 3 < near.sum() < 20
    torch.testing.assert_close(moved.world_from_torso[near], rest.expand(int(near.sum()), 4, 4), rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.world_from_torso[:, :3, :3], rest[:, :3, :3].expand(25, 3, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(pivots(anny, moved) - pivots(anny, me), reach, rtol=0, atol=1e-6)
    left = (pivots(anny, moved) - pivots(anny, me) - shift).norm(dim=1)
    torch.testing.assert_close(left, reach.norm(dim=1).clamp_max(NECK_GIVE), rtol=0, atol=1e-6)
    assert shift.diff(dim=0).norm(dim=1).max() <= 0.005 + 1e-6  # as far as the head itself in a step: no jump


def test_an_actors_head_turns_on_the_neck(anny) -> None:
    actor, me = Actor(anny), face_camera(person(anny, 3))
    angles = Angles.zeros(3)
    angles.head.copy_(torch.tensor([[30.0, 0, 0], [-20, 10, 5], [0, -25, 0]]).deg2rad())
    turned = Retargeter(anny, actor.neutral, me, body=True, acted=True)(actor.act(torch.zeros(3, 52), angles))
    torch.testing.assert_close(pivots(anny, turned), pivots(anny, me).expand(3, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(turned.world_from_torso, me.world_from_torso.expand(3, 4, 4), rtol=0, atol=1e-6)
    alone = Retargeter(anny, actor.neutral, me)(actor.act(torch.zeros(3, 52), angles))
    torch.testing.assert_close(turned.world_from_head[:, :3, :3], alone.world_from_head[:, :3, :3], rtol=0, atol=1e-6)
    torch.testing.assert_close(alone.world_from_head[:, :3, 3], me.world_from_head[:, :3, 3].expand(3, 3))  # a head alone: in place


@pytest.mark.parametrize("angles", [(100.0, 0.0, 0.0), (-150.0, 30.0, 0.0), (0.0, 70.0, 0.0), (10.0, -60.0, 50.0), (60.0, 40.0, -35.0)])
def test_the_head_turns_no_further_than_a_neck_lets_it(anny, angles) -> None:
    me = face_camera(person(anny, torso=False))
    actor = Actor(anny)
    wanted = Angles.zeros(1)
    wanted.head[0] = torch.tensor(angles).deg2rad()
    turned = Retargeter(anny, actor.neutral, me, body=True, acted=True)(actor.act(torch.zeros(1, 52), wanted))
    relative = Rotation.from_matrix((turned.world_from_torso[0, :3, :3].T @ turned.world_from_head[0, :3, :3]).numpy())
    expected = np.clip(angles, -np.array(TURN_LIMITS), TURN_LIMITS)
    np.testing.assert_allclose(relative.as_euler("YXZ", degrees=True) * [1, -1, 1], expected, atol=0.01)  # an arc sine in float32


def test_angles_and_rotations_are_inverse() -> None:
    angles = torch.tensor([[0.3, -0.4, 0.2], [-3.0, 1.5, 3.0], [0, 0, 0]])
    torch.testing.assert_close(angles_from_rotation(rotation_from_angles(angles)), angles, rtol=0, atol=1e-5)


def followed(anny, degrees: float, frames: int):
    """A torso that follows a head which turns and shifts at once after one frame at rest, and the person's rest."""
    actor, me = Actor(anny), face_camera(person(anny, torso=False))
    angles = Angles.zeros(frames)
    angles.head[1:, 0] = math.radians(degrees)
    motion = actor.act(torch.zeros(frames, 52), angles)
    motion.world_from_head[1:, 0, 3] += 0.03
    config = RetargetConfig(torso="follow")
    return motion, Retargeter(anny, actor.neutral, me, config, body=True, acted=True, fps=FPS), me


def test_a_following_torso_takes_a_share_and_takes_its_time(anny) -> None:
    motion, carry, me = followed(anny, 45.0, 120)
    moved = carry(motion)
    yaw = torch.rad2deg(angles_from_rotation(me.world_from_torso[:, :3, :3].mT @ moved.world_from_torso[:, :3, :3])[:, 0])
    late = 1 - torch.exp(-torch.arange(120) / FPS / 0.3)
    torch.testing.assert_close(yaw, 5 * late, rtol=0, atol=2e-3)  # a quarter of the 20 degrees beyond 25
    shift = pivots(anny, moved, moved.world_from_torso) - pivots(anny, me, me.world_from_torso)
    torch.testing.assert_close(shift[:, 0], 0.01 * late, rtol=0, atol=1e-5)
    motion, carry, me = followed(anny, 20.0, 120)
    rest = me.world_from_torso[:, :3, :3].expand(120, 3, 3)
    torch.testing.assert_close(carry(motion).world_from_torso[:, :3, :3], rest, rtol=0, atol=1e-6)


def test_frames_one_by_one_are_carried_as_all_at_once(anny) -> None:
    motion, carry, _ = followed(anny, 60.0, 9)
    together = carry(motion)
    motion, carry, _ = followed(anny, 60.0, 9)
    single = [carry(motion[k : k + 1], None if k == 0 else 1 / FPS).torso for k in range(9)]
    torch.testing.assert_close(torch.cat(single), together.torso, rtol=0, atol=1e-6)


def test_ones_own_torso_comes_back(anny) -> None:
    me, film = person(anny, 4), person(anny, 4, frames=7)
    film = replace(film, shape=me.shape.expand(7, -1))
    carried = Retargeter(anny, me, me, RetargetConfig(torso="source"), body=True)(film)
    torch.testing.assert_close(carried.world_from_head, film.world_from_head, rtol=0, atol=1e-5)
    torch.testing.assert_close(carried.world_from_torso, film.world_from_torso, rtol=0, atol=1e-5)


def test_smoothing_a_head_leaves_a_still_torso_where_it_is(anny) -> None:
    mover, me = person(anny, 1, torso=False), person(anny, 2)
    shake = shifted(mover, 0.01 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    carry, steady = Retargeter(anny, mover, me, body=True), OneEuro(FPS)
    smoothed = [steady(carry(shake[k : k + 1])) for k in range(20)]
    for frame in smoothed:
        torch.testing.assert_close(frame.world_from_torso, me.world_from_torso, rtol=0, atol=2e-6)
    assert (smoothed[-1].world_from_head - carry(shake[-1:]).world_from_head).abs().max() > 1e-3


def test_shoulders_do_not_move_while_the_head_turns(anny) -> None:
    """A yaw of 30 degrees to both sides, at 512 pixels: the upper border of everything further from the middle than the neck is wide."""
    config = GaussianConfig(uv_size=128, blend_size=64, bust_size=192, bust_blend_size=64, blendmaps=0)
    avatar = GaussianAvatar(anny, torch.zeros(anny.spec.num_shape), config).eval()
    still = anny.neutral((1,))
    pose = torch.eye(4)[None].clone()
    pose[:, :3, :3], pose[0, :3, 3] = FACING, torch.tensor([0.0, -0.1, 0.9])
    actor, me = Actor(anny), replace(still, world_from_head=pose)
    angles = Angles.zeros(3)
    angles.head[:, 0] = torch.tensor([0.0, 30, -30]).deg2rad()
    motion = Retargeter(anny, actor.neutral, me, body=True, acted=True)(actor.act(torch.zeros(3, 52), angles))
    with torch.no_grad():
        alpha = avatar.render(motion, Camera.from_focal(900.0, 512, 512), torch.ones(3)).alpha[..., 0].numpy()
    lines = np.stack([shoulder_line(picture) for picture in alpha])
    wide = 100  # pixels from the middle; the head and the neck's root lie within
    outer = np.concatenate([lines[:, : 256 - wide], lines[:, 256 + wide :]], 1)
    outer = outer[:, np.isfinite(outer).all(0)]
    assert outer.shape[1] > 150
    assert np.abs(outer - outer[0]).max() < 0.2
    assert np.nanmax(np.abs(lines - lines[0])) > 3  # the head did turn


def shoulder_line(alpha: np.ndarray) -> np.ndarray:
    """Row at which each column first becomes opaque by half, to a fraction of a pixel; NaN where it never does."""
    rows = np.full(alpha.shape[1], np.nan)
    for column in np.flatnonzero((alpha > 0.5).any(0)):
        first = int((alpha[:, column] > 0.5).argmax())
        below, above = alpha[first, column], alpha[first - 1, column]
        rows[column] = first - (below - 0.5) / max(below - above, 1e-6) if first else 0
    return rows
