"""The mouth's inside is seen through the lips, and from nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars import GaussianAvatar, GaussianConfig
from deja_vu.avatars.gaussian.mouth import MOUTH_DEPTH
from deja_vu.bench.around import mouth_share
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.gaussians import CHANNELS
from deja_vu.heads import load_head
from deja_vu.heads.toy import load as load_toy


@pytest.fixture(scope="module")
def avatar() -> GaussianAvatar:
    head = load_head("anny")
    return GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=192, blendmaps=0)).eval()


def looked_at(avatar: GaussianAvatar, position: tuple[float, float, float], opened: float = 0.0) -> torch.Tensor:
    """Share of the mouth's inside in every pixel, of a head that looks along +z."""
    params = avatar.head.neutral((1,))
    expression = params.expression.clone()
    expression[:, avatar.head.spec.expression_names.index("jawOpen")] = opened
    camera = Camera.look_at(position, fov=0.5, width=160, height=160)
    with torch.no_grad():
        return mouth_share(avatar, replace(params, expression=expression), camera)


@pytest.mark.parametrize("opened", [0.0, 0.8])
def test_from_the_sides_no_mouth_is_seen(avatar, opened):
    """But for 18 of 25,600 pixels between open lips; a throat at its full length takes 500 behind the jaw."""
    for side in (-0.6, 0.6):
        assert (looked_at(avatar, (side, 0.0, -0.1), opened) > 0.3).float().mean() < 0.0015


def test_from_below_the_mouth_lies_behind_the_chin(avatar):
    assert (looked_at(avatar, (0.0, -0.35, 0.5)) > 0.3).float().mean() < 0.0005


def test_an_open_mouth_is_closed_behind_the_teeth(avatar):
    """From the front, something of the mouth fills the whole opening: it lets nothing shine through."""
    params = avatar.head.neutral((1,))
    expression = params.expression.clone()
    expression[:, avatar.head.spec.expression_names.index("jawOpen")] = 0.8
    camera = Camera.look_at((0.0, 0.0, 0.6), fov=0.5, width=160, height=160)
    with torch.no_grad():
        alpha = avatar.render(replace(params, expression=expression), camera, torch.zeros(3)).alpha[0, ..., 0]
    opening = looked_at(avatar, (0.0, 0.0, 0.6), 0.8) > 0.5
    assert opening.sum() > 100
    assert alpha[opening].min() > 0.95


def test_only_what_lies_deep_in_the_mouth_is_moved(avatar):
    rest, offset = avatar.rest_surface(), avatar.base[:, CHANNELS["position"]]
    moved = rest.points[0] + (rest.frames[0] @ offset[..., None])[..., 0]
    still = ~avatar.inner
    assert torch.equal(offset[still], torch.zeros_like(offset[still]))
    deep = rest.points[0, avatar.inner, 2].amax() - moved[avatar.inner, 2]
    assert deep.max() < MOUTH_DEPTH + 1e-4
    front = avatar.inner & (rest.points[0, avatar.inner, 2].amax() - rest.points[0, :, 2] < MOUTH_DEPTH)
    assert offset[front].abs().max() < 1e-6


def test_hair_is_raised_without_moving_the_mouth(avatar):
    before = avatar.base.clone()
    avatar.raise_surface(torch.where(avatar.scalp, 0.02, 0.0))
    normal = CHANNELS["position"].stop - 1
    assert torch.equal(avatar.base[avatar.inner, : normal + 1], before[avatar.inner, : normal + 1])
    assert (avatar.base[avatar.scalp, normal] == 0.02).all()
    avatar.base.copy_(before)


def test_raising_to_where_it_is_leaves_the_scales_as_they_are(avatar):
    """As when the bust is raised below a head whose scales a network has chosen."""
    before = avatar.base.clone()
    avatar.base[:, CHANNELS["log_scale"]] += 0.3
    avatar.raise_surface(avatar.base[:, CHANNELS["position"].stop - 1].clone())
    assert torch.equal(avatar.base[:, CHANNELS["log_scale"]], before[:, CHANNELS["log_scale"]] + 0.3)
    avatar.base.copy_(before)


def test_a_head_without_a_mouth_has_nothing_drawn_in():
    head = load_toy()
    assert not GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blendmaps=0)).inner.any()


def test_hair_stays_within_reach_of_where_it_was_lifted_and_skin_goes_where_it_will(avatar):
    place = avatar.rectification.data[:, CHANNELS["position"]]
    place.fill_(1000.0)
    avatar.limit_hair(0.008)
    moved = place * avatar.gains[CHANNELS["position"]]
    assert bool(avatar.scalp.any())
    assert torch.allclose(moved[avatar.scalp], torch.tensor(0.008))
    assert bool((place[~avatar.scalp] == 1000.0).all())
    place.fill_(-1e-3)
    avatar.limit_hair(0.008)
    assert bool((place == -1e-3).all())
    avatar.rectification.data.zero_()


def test_skin_that_no_frame_shows_stays_near_its_base_and_what_is_seen_goes_further(avatar):
    """In its place, its width and its color, hair in its color alone; the inside of the mouth and opacities are not concerned."""
    skin, color = ~avatar.scalp & ~avatar.inner, CHANNELS["color"]
    first, half, seen = skin.nonzero()[:3, 0]
    avatar.rectification.data.fill_(-1000.0)
    avatar.unseen.zero_()
    avatar.unseen[first], avatar.unseen[half], avatar.unseen[~skin] = 1.0, 0.5, 1.0
    avatar.uncovered.copy_(avatar.unseen)
    avatar.limit_unseen(way=0.004, stretch=0.5, color=0.1, hue=0.02)
    change = avatar.rectification.detach() * avatar.gains
    for name, most in (("position", 0.004), ("log_scale", 0.5), ("color", 0.1 / SH_C0)):
        assert torch.allclose(change[first, CHANNELS[name]], torch.tensor(-most))
        assert torch.allclose(change[half, CHANNELS[name]], torch.tensor(-2 * most))
    assert bool((avatar.rectification[seen] == -1000.0).all())
    assert bool((avatar.rectification[avatar.inner] == -1000.0).all())
    assert torch.allclose(change[avatar.scalp, color], torch.tensor(-0.1 / SH_C0))
    assert bool((avatar.rectification[avatar.scalp, : color.start] == -1000.0).all())
    assert bool((avatar.rectification[:, CHANNELS["opacity_logit"]] == -1000.0).all())
    avatar.rectification.data.zero_()
    avatar.unseen.zero_()
    avatar.uncovered.zero_()


def test_colors_that_no_frame_shows_change_in_light_more_than_in_hue(avatar):
    """Hidden hair grows darker, but not red."""
    color, texel = CHANNELS["color"], int(avatar.scalp.nonzero()[0])
    gain = avatar.gains[color] * SH_C0
    for change, kept in (((-0.3, -0.3, -0.3), (-0.1, -0.1, -0.1)), ((0.12, -0.06, -0.06), (0.02, -0.02, -0.02)), ((0.05, 0.04, 0.03),) * 2):
        avatar.rectification.data.zero_()
        avatar.rectification.data[texel, color] = torch.tensor(change) / gain
        avatar.unseen.fill_(1.0)
        avatar.uncovered.fill_(1.0)
        avatar.limit_unseen(way=0.004, stretch=0.5, color=0.1, hue=0.02)
        assert torch.allclose(avatar.rectification.detach()[texel, color] * gain, torch.tensor(kept), atol=1e-6)
    avatar.rectification.data.zero_()
    avatar.unseen.zero_()
    avatar.uncovered.zero_()


@pytest.mark.parametrize(("part", "limited"), [("whole", True), ("neck", False)])
def test_clothes_that_no_frame_shows_keep_their_color_but_not_the_neck_of_a_head_alone(part, limited):
    """Of a head alone, all of the neck counts as unseen, and its front learns from the pictures."""
    head = load_head("anny")
    config = GaussianConfig(uv_size=64, blend_size=64, bust_size=64, bust_part=part, blendmaps=0)
    person = GaussianAvatar(head, torch.zeros(head.spec.num_shape), config)
    bust, color = person.charts.parts[1][1], CHANNELS["color"]
    person.rectification.data.fill_(1000.0)
    person.unseen.fill_(1.0)
    person.uncovered.fill_(1.0)
    person.limit_unseen(way=0.004, stretch=0.5, color=0.1, hue=0.02)
    change = (person.rectification.detach() * person.gains)[bust]
    assert (change[:, color].max() <= 0.1 / SH_C0 + 1e-6) == limited
    assert bool((person.rectification[bust, : color.start] == 1000.0).all())


def test_what_is_held_returns_to_the_base_map_and_the_rest_stays(avatar):
    avatar.rectification.data.fill_(1.0)
    avatar.held.zero_()
    avatar.held[5, CHANNELS["color"]] = 1.0
    for _ in range(30):
        avatar.hold_unseen(0.2)
    assert avatar.rectification[5, CHANNELS["color"]].abs().max() < 0.01
    assert float(avatar.rectification.detach().sum()) == pytest.approx(avatar.rectification.numel() - 3, abs=0.1)
    avatar.rectification.data.zero_()
    avatar.held.zero_()
