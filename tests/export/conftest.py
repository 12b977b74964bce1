"""A small avatar of the toy head with something in every array, and how independent readers' values become pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import CHANNELS, Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.subject import Subject
from deja_vu.export.space import at_rest
from deja_vu.export.web import Controls
from deja_vu.heads.anny import load as load_anny
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.base import rasterize
from tests.export.pages import exported_open, exported_page, opened, opener, page

__all__ = ["exported_open", "exported_page", "opened", "opener", "page"]

PERSON = GaussianConfig(uv_size=96, blend_size=64, bust_size=96, bust_blend_size=64, blendmaps=3)
CAMERA = Camera.from_focal(190.0, 128, 128)
FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


def posed(frames: int, seed: int = 3) -> HeadParams:
    """Turned heads with expressions and joints, half a meter before the camera."""
    generator = torch.Generator().manual_seed(seed)
    still = load_toy().neutral((frames,))
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(0.3 * torch.randn(frames, 3, generator=generator)) @ FACING
    pose[:, :3, 3] = torch.tensor([0.01, 0.02, 0.5]) + 0.01 * torch.randn(frames, 3, generator=generator)
    expression = torch.rand(still.expression.shape, generator=generator)
    joints = 0.15 * torch.randn(still.joints.shape, generator=generator)
    return replace(still, expression=expression, joints=joints, world_from_head=pose)


def build(config: GaussianConfig) -> GaussianAvatar:
    """An avatar with stripes of color, and a random rectification, code and blendmaps."""
    torch.manual_seed(1)
    head = load_toy()
    avatar = GaussianAvatar(head, torch.linspace(-1, 1, head.spec.num_shape), config)
    avatar.code.fit(posed(40, seed=5))
    points = avatar.surface(head.neutral((1,))).points[0]
    with torch.no_grad():
        waves = torch.stack([torch.sin(80 * points[:, 0] + 0.5), torch.sin(70 * points[:, 1]), torch.cos(60 * points[:, 2])], -1)
        avatar.base[:, CHANNELS["color"]] = waves
        for parameter in avatar.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        avatar.blendmaps *= 3
    return avatar.eval()


def build_person(config: GaussianConfig = PERSON) -> GaussianAvatar:
    """A whole person, or what else the config has below the head, with stripes of color and a random rectification, code and blendmaps."""
    torch.manual_seed(2)
    head = load_anny()
    own = 0.5 * torch.randn(12)
    avatar = GaussianAvatar(head, 0.3 * torch.randn(head.spec.num_shape), config, own)
    avatar.code.fit(posed_person(40, seed=5))
    points = avatar.surface(head.neutral((1,))).points[0]
    with torch.no_grad():
        waves = torch.stack([torch.sin(80 * points[:, 0] + 0.5), torch.sin(70 * points[:, 1]), torch.cos(60 * points[:, 2])], -1)
        avatar.base[:, CHANNELS["color"]] = waves
        for parameter in avatar.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
        avatar.blendmaps *= 3
    return avatar.eval()


def posed_person(frames: int, seed: int = 3) -> HeadParams:
    """Heads turned by up to 60 degrees on torsos that turn by less, 1.3 meters before the camera."""
    generator = torch.Generator().manual_seed(seed)
    still = load_anny().neutral((frames,))
    pose, torso = torch.eye(4).repeat(2, frames, 1, 1)
    turn = 0.15 * torch.randn(frames, 3, generator=generator)
    turn[:, 1] = torch.linspace(-1.05, 1.05, frames)
    pose[:, :3, :3], pose[:, :3, 3] = axis_angle_to_matrix(turn) @ FACING, torch.tensor([0.01, 0.02, 1.3])
    torso[:, :3, :3] = axis_angle_to_matrix(0.08 * torch.randn(frames, 3, generator=generator)) @ FACING
    torso[:, :3, 3] = torch.tensor([0.01, 0.02, 1.3]) + 0.01 * torch.randn(frames, 3, generator=generator)
    expression = 0.5 * torch.rand(still.expression.shape, generator=generator)
    joints = 0.1 * torch.randn(still.joints.shape, generator=generator)
    return replace(still, expression=expression, joints=joints, world_from_head=pose, torso=torch.linalg.inv(pose) @ torso)


@pytest.fixture(scope="session")
def person() -> GaussianAvatar:
    return build_person()


@pytest.fixture(scope="session")
def head_on_neck() -> GaussianAvatar:
    """A head alone, closed by a neck."""
    return build_person(replace(PERSON, bust_part="neck"))


@pytest.fixture(scope="session")
def person_rest() -> HeadParams:
    """Such a person at rest, whose torso does not stand quite as the head does."""
    still = load_anny().neutral((1,))
    pose, torso = torch.eye(4)[None].clone(), torch.eye(4)[None].clone()
    pose[:, :3, :3], pose[0, :3, 3] = FACING, torch.tensor([0.01, 0.02, 1.3])
    torso[:, :3, :3] = axis_angle_to_matrix(torch.tensor([[0.1, -0.05, 0.02]]))
    torso[0, :3, 3] = torch.tensor([0.003, 0.004, -0.01])
    return replace(still, world_from_head=pose, torso=torso)


@pytest.fixture(scope="session")
def person_motion() -> HeadParams:
    """Ten poses of such a person."""
    return posed_person(10)


@pytest.fixture(scope="session")
def person_subject(person_rest: HeadParams) -> Subject:
    """Filmed from 30 degrees to the right to 20 to the left."""
    return Subject("person", "anny", person_rest, CAMERA, 25.0, (-30.0, 20.0))


@pytest.fixture(scope="session")
def person_controls(person_rest: HeadParams) -> Controls:
    return Controls(torch.ones_like(person_rest.expression[0]), {"neutral": person_rest.expression[0]})


@pytest.fixture(scope="session")
def make_avatar() -> Callable[[GaussianConfig], GaussianAvatar]:
    return build


@pytest.fixture(scope="session")
def avatar() -> GaussianAvatar:
    return build(GaussianConfig(uv_size=96, blend_size=64, blendmaps=3))


@pytest.fixture(scope="session")
def rest() -> HeadParams:
    """The person at rest, not at the world's origin."""
    still = load_toy().neutral((1,))
    pose = torch.eye(4)[None].clone()
    pose[:, :3, :3], pose[0, :3, 3] = FACING, torch.tensor([0.01, 0.02, 0.5])
    return replace(still, expression=torch.full_like(still.expression, 0.1), world_from_head=pose)


@pytest.fixture(scope="session")
def subject(rest: HeadParams) -> Subject:
    return Subject("someone", "toy", rest, CAMERA, 25.0)


@pytest.fixture(scope="session")
def controls(rest: HeadParams) -> Controls:
    """Sliders that move 0.8 of their range, and two faces."""
    blink = rest.expression[0].clone()
    blink[1:3] = 0.9
    return Controls(torch.full_like(blink, 0.8), {"neutral": rest.expression[0], "blink": blink})


@pytest.fixture(scope="session")
def camera() -> Camera:
    return CAMERA


@pytest.fixture(scope="session")
def pose() -> HeadParams:
    return posed(1)


@pytest.fixture(scope="session")
def motion() -> HeadParams:
    """Ten poses."""
    return posed(10)


@pytest.fixture(scope="session")
def exported(avatar: GaussianAvatar, pose: HeadParams, rest: HeadParams) -> Gaussians:
    """What the writers are given."""
    return at_rest(avatar, pose, rest)


@pytest.fixture(scope="session")
def agreement(avatar: GaussianAvatar, pose: HeadParams, rest: HeadParams) -> Callable[..., float]:
    """PSNR of Gaussians that another program read, in front of the camera, against the avatar's own picture of the pose."""

    def measure(means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, sh0: np.ndarray) -> float:
        # Head space to the camera's: 180 degrees about x, then the place of the person. Written out, so that no code of ours is shared.
        half_turn = np.diag([1.0, -1.0, -1.0])
        w, x, y, z = quats.T.astype(float)
        means = means @ half_turn + rest.world_from_head[0, :3, 3].numpy()
        quats = np.stack([-x, w, -z, y], 1)
        values = [means, quats, scales, opacities, sh0[:, None]]
        gaussians = Gaussians(*(torch.from_numpy(np.ascontiguousarray(value)).float() for value in values))
        with torch.no_grad():
            ours = avatar.render(pose, CAMERA, torch.ones(3)).rgb[0]
            theirs = rasterize(gaussians, CAMERA, torch.ones(3)).rgb
        return -10 * math.log10(float((ours.clamp(0, 1) - theirs.clamp(0, 1)).square().mean()) + 1e-20)

    return measure
