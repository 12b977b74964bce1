"""Views that no frame shows are held to the avatar's start."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.head import HeadParams
from deja_vu.heads.toy import load as load_toy
from deja_vu.training.gaussian_config import NovelViewConfig
from deja_vu.training.novel_views import NovelViewLoss, turn_aside

CONFIG = NovelViewConfig(resolution=48)
CAMERA = Camera.from_focal(200.0, 96, 96)


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def avatar() -> GaussianAvatar:
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blend_size=64, blendmaps=2))
    avatar.base[:, CHANNELS["color"]] = torch.randn(len(avatar.layout), 3, generator=draw())
    return avatar


@pytest.fixture
def params() -> HeadParams:
    still = load_toy().neutral((2,))
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).repeat(2, 1, 1)
    pose[:, 2, 3] = 0.5
    return replace(still, world_from_head=pose)


def test_an_avatar_that_learned_nothing_is_its_start(avatar, params) -> None:
    assert NovelViewLoss(avatar, params, CONFIG)(avatar, params, CAMERA, draw()) == 0


def test_the_start_stays_when_the_avatar_learns_and_is_found_again_later(avatar, params) -> None:
    sides = NovelViewLoss(avatar, params, CONFIG)
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    learned = sides(avatar, params, CAMERA, draw())
    assert learned > 1e-4
    assert NovelViewLoss(avatar, params, CONFIG)(avatar, params, CAMERA, draw()) == learned  # a resumed run


def test_what_no_frame_shows_goes_back_to_the_start(avatar, params) -> None:
    """Noise on the Gaussians' colors fades where a side view shows them."""
    with torch.no_grad():
        avatar.rectification[:, CHANNELS["color"]] = 0.3 * torch.randn(len(avatar.layout), 3, generator=draw())
    sides, generator = NovelViewLoss(avatar, params, CONFIG), draw()
    optimizer = torch.optim.Adam([avatar.rectification], lr=0.01)
    before = sides(avatar, params, CAMERA, draw()).item()
    for _ in range(20):
        optimizer.zero_grad()
        sides(avatar, params, CAMERA, generator).backward()
        optimizer.step()
    assert sides(avatar, params, CAMERA, draw()).item() < 0.5 * before


def test_views_are_turned_by_as_much_as_asked_to_both_sides(params) -> None:
    generator = draw()
    poses = torch.cat([turn_aside(params, params, CONFIG, generator).world_from_head for _ in range(20)])
    turns = params.world_from_head[0, :3, :3].T @ poses[:, :3, :3]
    angles = torch.atan2(turns[:, 0, 2], turns[:, 0, 0])
    assert torch.allclose(turns[:, 1, 1], torch.ones(len(turns)), atol=1e-5)  # about the upright axis
    assert torch.equal(poses[:, :3, 3], params.world_from_head[:1, :3, 3].expand(len(poses), 3))
    assert angles.abs().min() >= CONFIG.min_yaw - 1e-4
    assert angles.abs().max() <= CONFIG.max_yaw + 1e-4
    assert (angles > 0).any()
    assert (angles < 0).any()


def test_faces_are_those_of_other_frames_but_for_some_expressions(params) -> None:
    generator, count = draw(), params.expression.shape[1]
    video = replace(params, expression=torch.stack([torch.full((count,), -1.0), torch.full((count,), -2.0)]))
    faces = torch.cat([turn_aside(params, video, CONFIG, generator).expression for _ in range(200)])
    drawn = faces >= 0
    assert abs(drawn.float().mean() - CONFIG.random_expression_share) < 0.03  # of 2,400 draws: four deviations
    assert faces.max() <= CONFIG.max_expression
    assert {-1.0, -2.0} <= set(faces.unique().tolist())
    assert all(len(set(face[face < 0].tolist())) <= 1 for face in faces)  # never of two frames at once
