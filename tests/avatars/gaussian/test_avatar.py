from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar, texel_spacing
from deja_vu.avatars.gaussian.config import ChannelGains, GaussianConfig
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.errors import ConfigError
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.mesh import rasterize_mesh

WHITE = torch.ones(3)

GAINS = ChannelGains()


def toy_avatar(config: GaussianConfig) -> GaussianAvatar:
    head = load_toy()
    return GaussianAvatar(head, torch.linspace(-1, 1, head.spec.num_shape), config)


def test_it_starts_as_an_opaque_gray_head_where_the_mesh_is(config, params, camera) -> None:
    avatar = toy_avatar(config)
    with torch.no_grad():
        out = avatar.render(params, camera, WHITE)
        face = rasterize_mesh(avatar.head(avatar.correct_params(params)), avatar.head.topology.faces, camera).face_id
    assert out.rgb.shape == (2, 64, 64, 3)
    assert out.alpha.shape == (2, 64, 64, 1)
    kept = (face >= 0) & ~avatar.head.topology.regions["neck"][face.clamp_min(0).long()]
    inner = torch.nn.functional.avg_pool2d(kept.float()[:, None], 5, 1, 2)[:, 0] > 0.99  # pixels off the outline
    assert inner.sum() > 500
    assert out.alpha[..., 0][inner].min() > 0.9  # no holes
    assert (out.rgb[inner] - 0.5).abs().max() < 0.06  # gray, and white through 1 - alpha
    away = torch.nn.functional.avg_pool2d((face >= 0).float()[:, None], 9, 1, 4)[:, 0] == 0
    assert out.alpha[..., 0][away].max() < 0.05


def test_no_gaussian_sits_on_dropped_regions(config) -> None:
    avatar = toy_avatar(config)
    assert not avatar.head.topology.regions["neck"][avatar.layout.faces].any()


def test_scales_follow_the_spacing_of_texels() -> None:
    """Twice the texels a side: half the spacing, so half the deviation; the covered area stays."""
    coarse, fine = toy_avatar(GaussianConfig(uv_size=64, blend_size=64)), toy_avatar(GaussianConfig(uv_size=128, blend_size=64))
    scale = [avatar.base[:, CHANNELS["log_scale"]][:, 0].exp().median() for avatar in (coarse, fine)]
    assert float(scale[0] / scale[1]) == pytest.approx(2, rel=0.1)
    rest = fine.surface(fine.head.neutral((1,))).points[0]
    neighbors = torch.cdist(rest[:300], rest).topk(2, largest=False).values[:, 1]
    assert float((texel_spacing(rest, fine.layout)[:300] >= 0.99 * neighbors).float().mean()) > 0.99  # the nearest one's at least


def test_blendmaps_of_zero_equal_the_global_map_alone(random_avatar, config, params, camera) -> None:
    with torch.no_grad():
        random_avatar.blendmaps.zero_()
        alone = GaussianAvatar(random_avatar.head, random_avatar.shape, replace(config, blendmaps=0))
        alone.base.copy_(random_avatar.base)
        alone.rectification.copy_(random_avatar.rectification)
        assert torch.equal(alone.render(params, camera, WHITE).rgb, random_avatar.render(params, camera, WHITE).rgb)
    assert "blendmaps" not in alone.regularizers()


def test_the_map_is_the_sum_of_its_terms(random_avatar, params) -> None:
    """Base, plus gain times (global map + weighted, upsampled blendmaps), written out with loops."""
    weights = random_avatar.code(params)
    gains = torch.cat([torch.full((channel.stop - channel.start,), getattr(GAINS, name)) for name, channel in CHANNELS.items()])
    for frame in range(2):
        blend = sum(weights[frame, k] * random_avatar.blendmaps[k] for k in range(3))
        expected = random_avatar.base + gains * (random_avatar.rectification + random_avatar.upsample(blend))
        torch.testing.assert_close(random_avatar.build_map(params).sum()[frame], expected, rtol=1e-5, atol=1e-5)


def test_a_position_offset_moves_along_the_normal_in_tangent_axes_and_along_z_in_head_axes(config, params) -> None:
    for axes in ("tangent", "head"):
        avatar = toy_avatar(replace(config, axes=axes))
        before = avatar.gaussians(params).means.detach()
        with torch.no_grad():
            avatar.rectification[:, CHANNELS["position"]] = torch.tensor([0.0, 0.0, 0.3])
        moved = avatar.gaussians(params).means.detach() - before
        if axes == "tangent":
            direction = avatar.surface(params).frames[..., 2]
        else:
            direction = params.world_from_head[:, None, :3, 2].expand_as(moved)
        torch.testing.assert_close(moved, 0.3 * GAINS.position * direction, rtol=0, atol=1e-6)


def test_gaussians_turn_with_the_head(random_avatar, params) -> None:
    """A rigid motion of the head is the same motion of every Gaussian; expression features of the turn are kept out."""
    with torch.no_grad():
        random_avatar.blendmaps.zero_()
        motion = torch.eye(4)
        motion[:3, :3] = axis_angle_to_matrix(torch.tensor([0.3, -0.8, 0.4]))
        motion[:3, 3] = torch.tensor([0.1, -0.2, 0.3])
        here = random_avatar.gaussians(params)
        there = random_avatar.gaussians(replace(params, world_from_head=motion @ params.world_from_head))
    torch.testing.assert_close(there.means, here.means @ motion[:3, :3].T + motion[:3, 3], rtol=0, atol=1e-5)
    torch.testing.assert_close(there.scales, here.scales, rtol=1e-3, atol=0)
    assert torch.equal(there.opacities, here.opacities)


def test_identity_is_the_avatars_own(random_avatar, params, camera) -> None:
    other = replace(params, shape=torch.randn_like(params.shape))
    assert torch.equal(random_avatar.render(params, camera, WHITE).rgb, random_avatar.render(other, camera, WHITE).rgb)


@pytest.mark.parametrize("code", ["linear", "softmax"])
def test_param_groups_hold_every_parameter_once(config, code) -> None:
    avatar = toy_avatar(replace(config, code=code))
    grouped = [parameter for group in avatar.param_groups().values() for parameter in group]
    assert sorted(map(id, grouped)) == sorted(map(id, avatar.parameters()))
    assert set(avatar.param_groups()) == {"rectification", "blendmaps", "code"}


def test_every_parameter_receives_a_gradient(random_avatar, params, camera) -> None:
    random_avatar.render(params, camera, WHITE).rgb.square().sum().backward()
    for name, parameter in random_avatar.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_regularizers_are_zero_at_the_start_and_grow_with_what_they_name(config) -> None:
    avatar = toy_avatar(config)
    assert {name: value.item() for name, value in avatar.regularizers().items()} == dict.fromkeys(avatar.regularizers(), 0.0)
    for channel, name in (("position", "position"), ("log_scale", "scale"), ("opacity_logit", "opacity"), ("color", None)):
        fresh = toy_avatar(config)
        with torch.no_grad():
            fresh.rectification[:, CHANNELS[channel]] = 0.5
        assert {term for term, value in fresh.regularizers().items() if value > 0} == ({name} if name else set())
    with torch.no_grad():
        avatar.blendmaps += 0.5
    assert {term for term, value in avatar.regularizers().items() if value > 0} == {"blendmaps"}


def test_hair_may_travel_further_than_skin(config) -> None:
    avatar = toy_avatar(config)
    weight, regions = avatar.position_weight(), avatar.head.topology.regions
    assert (weight[regions["face"][avatar.layout.faces]] == 1).all()
    assert (weight[regions["scalp"][avatar.layout.faces]] < 0.1).all()


def test_brightness_has_the_slope_that_the_conventions_say(random_avatar, params, camera) -> None:
    """One unit more of every color raises a channel by SH_C0 * gain wherever the avatar covers the background."""
    with torch.no_grad():
        random_avatar.blendmaps[..., CHANNELS["color"]] = 0.0
    out = random_avatar.render(params, camera, WHITE)
    assert out.rgb.min() > 0.05  # a color clamped to zero would have no slope
    out.rgb.sum().backward()
    slope = random_avatar.rectification.grad[:, CHANNELS["color"]].sum(0)
    torch.testing.assert_close(slope, SH_C0 * GAINS.color * out.alpha.detach().sum().expand(3), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"uv_size": 32}, "32"), ({"uv_size": 1024}, "1024"), ({"code": "softmax", "blendmaps": 7}, "7"), ({"blend_size": 128}, "blend_size")],
)
def test_sizes_that_do_not_fit_are_refused(config, change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        toy_avatar(replace(config, **change))


def test_backends_agree(config, params, camera: Camera, random_avatar: GaussianAvatar) -> None:
    # A 64-pixel picture, so that the dense definition is affordable; the conformance test of the rasterizers goes deeper.
    with torch.no_grad():
        native = random_avatar.render(params, camera, WHITE).rgb
        random_avatar.config = replace(config, backend="reference")
        torch.testing.assert_close(random_avatar.render(params, camera, WHITE).rgb, native, rtol=0, atol=2e-3)


def test_one_pose_or_many_give_the_same_picture(random_avatar, params: HeadParams, camera) -> None:
    both = random_avatar.render(params, camera, WHITE).rgb
    for frame in range(2):
        torch.testing.assert_close(random_avatar.render(params[frame : frame + 1], camera, WHITE).rgb[0], both[frame], rtol=0, atol=1e-6)


def test_everything_follows_the_avatar_to_another_device(random_avatar, params, camera) -> None:
    """Torch's `meta` device computes nothing but refuses, as CUDA does, to mix its tensors with those of the CPU."""
    there = random_avatar.to("meta")
    gaussians = there.gaussians(params.to("meta"))
    assert {getattr(gaussians, name).device.type for name in ("means", "quats", "scales", "opacities", "sh")} == {"meta"}
    assert {term.device.type for term in there.regularizers().values()} == {"meta"}
    assert there.surface(params.to("meta")).frames.device.type == "meta"
    assert there.code.rarity(params.to("meta")).device.type == "meta"
