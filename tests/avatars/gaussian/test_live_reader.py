"""Codes read from pictures of another camera, against faces whose codes are known."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.code_reader import GRIDS
from deja_vu.avatars.gaussian.face_reader import FaceReader
from deja_vu.avatars.gaussian.live_reader import LivePicture, LiveReader, by_part, face_batch, move_head
from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import axis_angle_to_matrix
from tests.avatars.gaussian.test_codes import CAMERA, drawn_faces, painted, posed, teach, tracked_wrong

__all__ = ["painted"]
TINT = torch.tensor([0.75, 0.9, 1.0])


def beside(params: HeadParams) -> HeadParams:
    """The same face most of a pixel to the side, and turned by a third of a degree."""
    pose = params.world_from_head.clone()
    pose[:, :3, :3] = axis_angle_to_matrix(torch.tensor([0.003, -0.004, 0.002])) @ pose[:, :3, :3]
    pose[:, :3, 3] += torch.tensor([0.001, -0.0006, 0.0])
    return replace(params, world_from_head=pose)


def shot(avatar: GaussianAvatar, truth: HeadParams, tracked: HeadParams) -> LivePicture:
    """What a camera of other colors takes of a face that is not quite where it was tracked."""
    rgb = avatar.render(beside(truth), CAMERA, torch.ones(3)).rgb[0].clamp(0, 1)
    return LivePicture((255 * TINT * rgb).round().byte(), tracked, CAMERA)


def test_a_camera_of_other_colors_and_a_face_beside_its_pose_are_read(painted) -> None:
    """Where the film's reader more than doubles the tracker's squared error, a quarter of it goes; with true colors and pose 0.6 stay."""
    avatar = copy.deepcopy(painted)
    truths, errors = drawn_faces(34)
    teach(avatar, truths[:12], tracked_wrong(avatar, truths[:12], errors[:12]))
    rest = [shot(avatar, posed(truth[None]), posed(truth[None])) for truth in truths[26:]]
    live, film = LiveReader(avatar, avatar.reader, rest), FaceReader(avatar, avatar.reader)
    left, plain = [], []
    for truth, error in zip(truths[12:26], errors[12:26], strict=True):
        picture = shot(avatar, posed(truth[None]), posed((truth - error[:6])[None]))
        read = live.read(picture)
        torch.testing.assert_close(read.world_from_head, picture.params.world_from_head)
        left.append(read.expression[0] - truth)
        plain.append(film.read(face_batch(picture, slice(0, 160), slice(0, 160))).expression[0] - truth)
    tracked = errors[12:26, :6].square().mean()
    assert torch.stack(left).square().mean() < 0.85 * tracked
    assert torch.stack(plain).square().mean() > 2 * tracked


def test_what_looks_like_a_move_of_the_head_is_taken_out_of_every_part() -> None:
    """Any sum of the pose's effects on a part vanishes, another one in each, and what they do not reach stays."""
    torch.manual_seed(0)
    sizes = [3 * rows * columns for rows, columns in GRIDS]
    effects = torch.randn(6, sum(sizes))
    effects[:, :100] = 0
    kept, remover = by_part(effects)
    moved = torch.cat([torch.randn(6) @ own for own in effects.split(sizes, dim=1)])
    assert (moved - (remover @ moved) @ kept).norm() < 1e-3 * moved.norm()  # the ridge's share is a ten thousandth
    other = torch.zeros(sum(sizes))
    other[:100] = 1
    torch.testing.assert_close(other - (remover @ other) @ kept, other)


def test_every_step_moves_the_head_alone(painted) -> None:
    still = posed(torch.full((1, 6), 0.3))
    for number in range(6):
        moved = move_head(still, number)
        torch.testing.assert_close(moved.expression, still.expression)
        turned, shifted = (moved.world_from_head - still.world_from_head)[0].split([3, 1], dim=1)
        assert bool(turned[:3].any()) == (number < 3)
        assert bool(shifted[:3].any()) == (number >= 3)
