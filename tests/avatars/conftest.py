"""A small painted avatar of the toy head, and what is needed to look at it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy

SMALL = GaussianConfig(uv_size=96, blend_size=64, blendmaps=3, correction=False)


@pytest.fixture
def config() -> GaussianConfig:
    """Maps of another size than the blendmaps."""
    return SMALL


@pytest.fixture
def params() -> HeadParams:
    """Two different poses and expressions, half a meter before the camera."""
    still = load_toy().neutral((2,))
    pose = torch.eye(4).repeat(2, 1, 1)
    turn = torch.tensor([[0.1, 0.3, 0.0], [-0.1, -0.2, 0.1]])
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, 2, 3] = 0.5
    expression = torch.tensor([[0.8, 0.0, 0.0, 0.3, 0.2, 0.0], [0.0, 1.0, 0.4, 0.0, 0.0, 0.5]])
    return replace(still, expression=expression, world_from_head=pose)


@pytest.fixture
def camera() -> Camera:
    return Camera.from_focal(100.0, 64, 64)


@pytest.fixture
def random_avatar() -> GaussianAvatar:
    """Every parameter and buffer that a file keeps has a value of its own."""
    torch.manual_seed(1)
    head = load_toy()
    avatar = GaussianAvatar(head, torch.linspace(-1, 1, head.spec.num_shape), SMALL)
    avatar.code.fit(_many(head.neutral((20,))))
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        avatar.base += 0.1 * torch.randn_like(avatar.base)
    return avatar


def _many(still: HeadParams) -> HeadParams:
    return replace(still, expression=torch.rand_like(still.expression), joints=0.1 * torch.randn_like(still.joints))
