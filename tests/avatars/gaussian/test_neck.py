"""A head that is shown alone ends in a closed neck."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.ndimage import binary_fill_holes, label
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig, NeckConfig
from deja_vu.avatars.gaussian.neck import fill_disc
from deja_vu.avatars.io import load_avatar, save_avatar
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import CHANNELS, rgb_to_sh
from deja_vu.core.image import RenderOutput
from deja_vu.heads.anny import load as load_anny

HEAD = GaussianConfig(uv_size=256, blend_size=64, blendmaps=0)
NECK = replace(HEAD, bust_size=192, bust_part="neck")


def make(config: GaussianConfig) -> GaussianAvatar:
    head = load_anny()
    return GaussianAvatar(head, torch.linspace(-1, 1, head.spec.num_shape), config)


@pytest.fixture(scope="module")
def avatar() -> GaussianAvatar:
    """With a white inside of the mouth; all else is black."""
    made = make(NECK)
    inside = torch.zeros(made.num_gaussians, dtype=torch.bool)
    regions = made.head.topology.regions
    for name in ("mouth_inner", "tongue", "teeth_upper", "teeth_lower"):
        inside[: len(made.layout)] |= regions[name][made.layout.faces]
    made.base[:, CHANNELS["color"]] = rgb_to_sh(inside.float()[:, None].expand(-1, 3))
    return made


def look(avatar: GaussianAvatar, yaw: float, pitch: float) -> RenderOutput:
    """Over black, from a place around the head, degrees."""
    around, above = math.radians(yaw), math.radians(pitch)
    away = torch.tensor([math.sin(around) * math.cos(above), math.sin(above), math.cos(around) * math.cos(above)])
    middle = torch.tensor([0.0, 0.0, 0.0])
    camera = Camera.look_at((middle + away).tolist(), middle.tolist(), up=(0.0, 1.0, 0.0), fov=0.4, width=160, height=160)
    params = replace(avatar.head.neutral((1,)), shape=avatar.shape[None])
    with torch.no_grad():
        return avatar.render(params, camera, torch.zeros(3))


@pytest.mark.parametrize("pitch", [-25, 0, 25])
@pytest.mark.parametrize("yaw", [120, 150, 180, 210, 240])
def test_nothing_of_the_mouths_inside_is_seen_from_behind(avatar: GaussianAvatar, yaw: int, pitch: int) -> None:
    assert look(avatar, yaw, pitch).rgb.max() < 0.08  # skin of an opacity of 0.88 a texel lets a little through


def test_without_a_neck_it_is(avatar: GaussianAvatar) -> None:
    """What the neck is there for: the same head without it shows the mouth's inside."""
    open_behind = make(HEAD)
    open_behind.base.copy_(avatar.base[: open_behind.num_gaussians])
    assert look(open_behind, 180, -25).rgb.max() > 0.9


@pytest.mark.parametrize("pitch", [-25, 0, 25])
@pytest.mark.parametrize("yaw", range(0, 360, 45))
def test_the_silhouette_is_one_piece_without_holes(avatar: GaussianAvatar, yaw: int, pitch: int) -> None:
    shape = look(avatar, yaw, pitch).alpha[0, ..., 0] > 0.5
    assert shape.sum() > 2000
    assert label(shape)[1] == 1
    assert not (binary_fill_holes(shape) ^ shape.numpy()).any()


def test_it_ends_without_a_step(avatar: GaussianAvatar) -> None:
    """Down the middle of the picture, the last row that is whole and the first that is empty lie some way apart."""
    alpha = look(avatar, 0, 0).alpha[0, :, 80, 0]
    whole, drawn = (alpha > 0.95).nonzero().max(), (alpha > 0.05).nonzero().max()
    assert drawn - whole > 4  # pixels of two and a half millimeters


def test_the_head_is_as_it_was(avatar: GaussianAvatar) -> None:
    head, count = make(HEAD), len(avatar.layout)
    shape = [CHANNELS["position"], CHANNELS["log_scale"], CHANNELS["opacity_logit"]]
    assert all(torch.equal(head.base[:, channel], avatar.base[:count, channel]) for channel in shape)
    assert (avatar.shows_person, avatar.shows_neck, head.shows_neck) == (False, True, False)


def test_raising_hair_leaves_the_neck_closed(avatar: GaussianAvatar) -> None:
    other = make(NECK)
    other.raise_surface(0.01 * other.scalp.float() + other.clothing_height())
    texels = other.charts.parts[1][1]
    assert torch.equal(other.base[texels], make(NECK).base[texels])


def test_a_file_gives_it_back(avatar: GaussianAvatar, tmp_path: Path) -> None:
    save_avatar(avatar, tmp_path / "me.safetensors", {})
    loaded = load_avatar(tmp_path / "me.safetensors")
    assert isinstance(loaded, GaussianAvatar)
    assert torch.equal(look(loaded, 150, -20).rgb, look(avatar, 150, -20).rgb)


def places_in(disc: Tensor, low: float, high: float) -> float:
    """Share of places whose distance from the origin lies in a range."""
    length = disc.norm(dim=1)
    return float(((length > low) & (length <= high)).float().mean())


def test_a_disc_is_filled_evenly_and_front_stays_in_front() -> None:
    angle = torch.linspace(0, 2 * math.pi, 200)
    outline = 0.05 * torch.stack([angle.cos(), angle.sin()], 1)
    points = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    places, spacing = fill_disc(outline, points, NeckConfig())
    reach = float(places.norm(dim=1).max())
    assert 0.04 < reach < 0.05
    half = reach / 2**0.5
    assert abs(places_in(places, 0, half) - 0.5) < 0.01, "half of the area holds half of the places"
    assert torch.corrcoef(torch.stack([points[:, 1].argsort().argsort(), places[:, 1].argsort().argsort()]).float())[0, 1] > 0.999
    nearest = (torch.cdist(places, places) + torch.eye(2000)).amin(1)
    assert 0.5 < float(nearest.median() / spacing) < 1.1
