"""Colors of napes, collars and hair beside the neck, which no frame shows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.core.gaussians import CHANNELS, rgb_to_sh
from deja_vu.heads.anny import load as load_anny
from deja_vu.training.bust_colors import bare_neck_colors, collar_level, complete_colors, find_parts, hairline, vote
from deja_vu.training.gaussian_config import BustConfig

SKIN, HAIR, SHIRT = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.1, 0.08, 0.06]), torch.tensor([0.2, 0.3, 0.9])
BUST = BustConfig()


@pytest.fixture
def avatar() -> GaussianAvatar:
    """A person with skin and hair on the head."""
    head = load_anny()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blend_size=64, bust_size=96, blendmaps=0))
    color = torch.where(avatar.scalp[: len(avatar.layout), None], HAIR, SKIN)
    avatar.base[: len(avatar.layout), CHANNELS["color"]] = rgb_to_sh(color)
    return avatar


def filmed_from_the_front(avatar: GaussianAvatar, collar: float) -> tuple[Tensor, Tensor]:
    """Colors of a shirt that ends at a height, and how well they are known: what faces the camera, to the sides of the neck."""
    rest = avatar.rest_surface().part(avatar.charts.parts[1][1])
    weight = (rest.frames[0, :, 2, 2] + 0.25).clamp(0, 1) ** 2
    return torch.where(rest.points[0, :, 1:2] > collar, SKIN, SHIRT), weight


def below_tips(avatar: GaussianAvatar) -> float:
    """Height below which no tips of hair reach, meters."""
    scalp = avatar.rest_surface().points[0, : len(avatar.layout)][avatar.scalp[: len(avatar.layout)]]
    return float(scalp[:, 1].min()) - BUST.hair_tips


def distance(color: Tensor, other: Tensor) -> Tensor:
    return (color - other).abs().amax(1)


@pytest.mark.parametrize("collar", [-0.11, -0.065])
def test_a_collar_ends_at_the_back_where_it_ends_at_the_sides(avatar: GaussianAvatar, collar: float) -> None:
    color, weight = filmed_from_the_front(avatar, collar)
    parts, y = find_parts(avatar, weight, BUST), avatar.rest_surface().points[0, avatar.charts.parts[1][1], 1]
    completed = complete_colors(avatar, color, weight, BUST)
    behind = parts.nape & (weight < 0.01)
    above, below = behind & (y > collar + 0.015) & (y < below_tips(avatar)), behind & parts.clothed & (y < collar - 0.015)
    assert above.sum() > 10
    assert distance(completed[above], SKIN).max() < 0.1
    if collar > -0.1:
        assert below.sum() > 30
        assert distance(completed[below], SHIRT).max() < 0.1


def test_hair_that_hangs_beside_the_neck_has_the_color_of_hair(avatar: GaussianAvatar) -> None:
    """The outline stands out by more than a neck does, and all that frames show of it well is the skin before it."""
    color, weight = filmed_from_the_front(avatar, -0.11)
    layout, texels = avatar.charts.parts[1]
    assert avatar.bust is not None
    bare = avatar.bust.topology.regions["nape"][layout.faces] & (avatar.clothing_height()[texels] == 0)
    beside = bare & (avatar.rest_surface().points[0, texels, 0] > 0.02)
    heights = avatar.clothing_height()
    heights[texels] += 0.02 * beside
    avatar.raise_surface(heights)
    completed = complete_colors(avatar, color, weight, BUST)
    assert beside.sum() > 20
    assert distance(completed[beside], HAIR).max() < 0.1
    points = avatar.rest_surface().points[0, texels]
    other = bare & (points[:, 0] < -0.02) & (points[:, 1] < below_tips(avatar))
    assert other.sum() > 20
    assert distance(completed[other], SKIN).max() < 0.1


def test_what_frames_show_keeps_its_color(avatar: GaussianAvatar) -> None:
    color, weight = filmed_from_the_front(avatar, -0.09)
    known = weight >= BUST.known_weight
    completed = complete_colors(avatar, color, weight, BUST)
    assert distance(completed[known], color[known]).max() == 0


def test_a_shirt_seen_at_a_slant_beside_a_bare_neck_does_not_color_it(avatar: GaussianAvatar) -> None:
    """The neck's side, at the corner of the jaw, shows what lies before or behind it."""
    color, weight = filmed_from_the_front(avatar, -0.2)
    parts = find_parts(avatar, weight, BUST)
    side = parts.throat & ~parts.clothed & (weight < BUST.known_weight)
    completed = complete_colors(avatar, torch.where((side | parts.clothed)[:, None], SHIRT, color), weight, BUST)
    assert side.sum() > 10
    assert distance(completed[side], SKIN).max() < 0.1


def test_whose_shoulders_are_clothed_has_a_clothed_back(avatar: GaussianAvatar) -> None:
    """A wide neckline shows skin beside the neck, which is what is nearest to the spine."""
    color, weight = filmed_from_the_front(avatar, 0.0)
    points, parts = avatar.rest_surface().points[0, avatar.charts.parts[1][1]], find_parts(avatar, weight, BUST)
    torso = ~(parts.throat | parts.nape)
    neckline = torso & (parts.to_nape < 0.06)
    color[torso & ~neckline] = SHIRT
    completed = complete_colors(avatar, color, weight, BUST)
    back = torso & (weight < 0.01)
    assert (neckline & (weight > BUST.known_weight)).sum() > 20
    assert (back & (points[:, 0].abs() < 0.02)).sum() > 30
    assert distance(completed[back], SHIRT).max() < 0.02


def test_whose_shoulders_are_bare_has_a_bare_back(avatar: GaussianAvatar) -> None:
    weight = filmed_from_the_front(avatar, 0.0)[1]
    parts, y = find_parts(avatar, weight, BUST), avatar.rest_surface().points[0, avatar.charts.parts[1][1], 1]
    back = ~(parts.throat | parts.nape) & (weight < 0.01) & (y > -0.15)
    completed = complete_colors(avatar, torch.where(y[:, None] > -0.25, SKIN, SHIRT), weight, BUST)
    assert back.sum() > 100
    assert distance(completed[back], SKIN).max() < 0.15


def test_hidden_skin_above_a_collar_takes_nothing_of_its_color(avatar: GaussianAvatar) -> None:
    collar = -0.09
    color, weight = filmed_from_the_front(avatar, collar)
    parts, rest = find_parts(avatar, weight, BUST), avatar.rest_surface().part(avatar.charts.parts[1][1])
    points, known = rest.points[0], weight >= BUST.known_weight
    level = collar_level(points, rest.frames[0, :, :, 2], points[:, 1] > collar, known & (parts.throat | parts.nape), BUST)
    assert level == pytest.approx(collar, abs=0.006)  # texels lie 4 mm apart
    hidden = parts.throat & ~known & (points[:, 1] > collar + 0.006)
    completed = complete_colors(avatar, color, weight, BUST)
    assert hidden.sum() > 10
    assert distance(completed[hidden], SKIN).max() < 0.02


def test_a_collar_is_found_where_both_sides_show_one(avatar: GaussianAvatar) -> None:
    rest = avatar.rest_surface().part(avatar.charts.parts[1][1])
    points, normals, neck = rest.points[0], rest.frames[0, :, :, 2], find_parts(avatar, torch.ones(len(rest.points[0])), BUST).throat
    low, left = points[:, 1] < -0.09, points[:, 0] < 0
    assert collar_level(points, normals, ~low, neck, BUST) == pytest.approx(-0.09, abs=0.006)
    assert collar_level(points, normals, ~(low & left), neck, BUST) == -torch.inf
    assert collar_level(points, normals, ~low, neck & left, BUST) is None


def test_a_border_of_teeth_becomes_straight() -> None:
    x, y = torch.meshgrid(torch.arange(60) * 0.002, torch.arange(40) * 0.002, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.zeros(60 * 40)], 1)
    teeth = points[:, 1] > 0.04 + 0.004 * (torch.arange(60) // 3 % 2 * 2 - 1).repeat_interleave(40)
    inside = (points[:, 0] > 0.02) & (points[:, 0] < 0.1)
    smooth = vote(points, teeth, 64)
    assert (teeth != (points[:, 1] > 0.04))[inside].sum() > 50
    assert bool((smooth == (points[:, 1] > 0.04))[inside & ((points[:, 1] - 0.04).abs() > 0.0025)].all())


def test_a_hairline_ends_in_tips_of_unequal_lengths() -> None:
    """Over a strip below a straight border of hair."""
    x, down = torch.linspace(-0.04, 0.04, 161), torch.linspace(0, 0.04, 81)
    skin = torch.stack([x.repeat_interleave(81), -down.repeat(161), torch.zeros(161 * 81)], 1)
    share, nearest = hairline(skin, torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], 1), BUST)
    columns = share.view(161, 81)
    assert columns[:, 0].min() > 0.99
    assert columns[:, down > BUST.hair_tips].max() == 0
    assert (columns.diff(dim=1) <= 0).all()
    ends = (columns > 0.5).sum(1).float() * float(down[1])
    assert ends.max() - ends.min() > 0.2 * BUST.hair_tips
    assert torch.equal(nearest.view(161, 81)[:, 0], torch.arange(161))


@pytest.mark.parametrize("collar", [SHIRT, torch.full((3,), 0.55)])
def test_a_head_alone_has_a_neck_of_skin_whatever_collar_stands_before_it(collar: Tensor) -> None:
    """A gray collar is as bright as skin; it is told by its hue."""
    head = load_anny()
    config = GaussianConfig(uv_size=64, blend_size=64, bust_size=96, bust_part="neck", blendmaps=0)
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), config)
    size = len(avatar.layout)
    avatar.base[:size, CHANNELS["color"]] = rgb_to_sh(torch.where(avatar.scalp[:size, None], HAIR, SKIN))
    low = avatar.rest_surface().points[0, size:, 1:2] < -0.1
    color = bare_neck_colors(avatar, torch.where(low, collar, SKIN), torch.ones(avatar.num_gaussians - size), BUST)
    front = avatar.rest_surface().frames[0, size:, 2, 2] > 0
    assert distance(color[front], SKIN).max() < 0.02
