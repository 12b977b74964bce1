from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from deja_vu.avatars.io import load_avatar, save_avatar
from deja_vu.avatars.nerf import PUBLISHED, NerfAvatar, NerfConfig
from deja_vu.avatars.nerf.field import DENSITY, PosedPoints, RadianceField
from deja_vu.avatars.nerf.planes import EncodedPlanes, project_frontal, split_speeds
from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.volume import SCENE_SCALE
from tests.helpers.people import moved_together

SMALL = NerfConfig(plane_size=24, plane_channels=6, point_features=5, code=3, width=16, features=5, coarse=8, fine=8, upscale_width=6)
WHITE = torch.ones(3)


def build(config: NerfConfig = SMALL) -> NerfAvatar:
    torch.manual_seed(3)
    head = load_toy()
    avatar = NerfAvatar(head, torch.linspace(-0.5, 0.5, head.spec.num_shape), config).eval()
    still = head.neutral((12,))
    avatar.fit(replace(still, expression=torch.rand_like(still.expression), joints=0.1 * torch.randn_like(still.joints)))
    return avatar


def test_the_published_decoder_has_the_published_size() -> None:
    field = RadianceField(PUBLISHED, 5023)
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in (field, field.points)]
    assert counts[1] == 166_656
    assert counts[0] - counts[1] == 53_537


def test_at_the_start_the_head_is_solid_and_where_the_head_is(params, camera) -> None:
    avatar = build()
    with torch.no_grad():
        out = avatar.render(params, camera, WHITE)
        pixels, depth = camera.project(avatar.head(replace(params, shape=avatar.shape.expand(2, -1))))
    rows, columns = pixels[..., 1].long(), pixels[..., 0].long()
    for b in range(2):
        covered = out.alpha[b, rows[b, :200], columns[b, :200], 0]
        assert covered.median() > 0.9
    assert out.alpha[:, 0, 0].max() < 0.01
    middle = out.depth[0][out.alpha[0] > 0.95]
    assert depth[0].min() - 0.02 < middle.median() < depth[0].max() + 0.02


def test_a_picture_of_any_size_and_each_frame_on_its_own(params) -> None:
    avatar = build()
    camera = Camera.from_focal(80.0, 50, 43)
    with torch.no_grad():
        both = avatar.render(params, camera, torch.tensor([0.2, 0.5, 0.9]))
        single = avatar.render(params[1:], camera, torch.tensor([0.2, 0.5, 0.9]))
        again = avatar.render(params, camera, torch.tensor([0.2, 0.5, 0.9]))
    assert both.rgb.shape == (2, 43, 50, 3)
    assert both.depth.shape == both.alpha.shape == (2, 43, 50, 1)
    assert torch.allclose(single.rgb[0], both.rgb[1], atol=1e-5)  # convolutions over another batch: rounding
    assert torch.equal(again.rgb, both.rgb)
    assert torch.allclose(both.rgb[0, 0, 0], torch.tensor([0.2, 0.5, 0.9]), atol=0.01)


def test_moving_head_and_camera_together_changes_nothing(params, camera) -> None:
    avatar = build(replace(SMALL, code=0))  # the code reads the turn in the world's light
    moved, follower = moved_together(params, camera)
    with torch.no_grad():
        a, b = avatar.render(params, camera, WHITE), avatar.render(moved, follower, WHITE)
    # Rays differ by rounding; importance sampling then places samples a little elsewhere.
    assert (a.rgb - b.rgb).abs().mean() < 2e-3


def test_culling_leaves_the_picture_as_it_is(params, camera) -> None:
    """Where there is no density beyond the shell, asking there changes nothing.

    Below the cut neck nothing tells inside from outside, and a few rays there differ.
    """
    dense = replace(SMALL, coarse=96, fine=64, radius=0.05)
    culled, whole = build(dense), build(replace(dense, radius=0.0))
    whole.load_state_dict(culled.state_dict())
    for avatar in (culled, whole):
        avatar.field.density.weight.data.zero_()
        avatar.field.density.bias.data.fill_(-0.7)  # solid below the surface, hardly a haze above it
    with torch.no_grad():
        a, b = (avatar.render_all(params, camera, WHITE, enlarge=False).fine.alpha for avatar in (culled, whole))
    assert ((a - b).abs() > 0.01).float().mean() < 0.02


def test_more_samples_change_little(params, camera) -> None:
    """Density counts by length: at test time the number of samples is free."""
    few = build(replace(SMALL, coarse=48, fine=32))
    many = build(replace(SMALL, coarse=96, fine=64))
    many.load_state_dict(few.state_dict())
    with torch.no_grad():
        a, b = few.render(params, camera, WHITE), many.render(params, camera, WHITE)
    assert (a.rgb - b.rgb).abs().mean() < 0.01


def test_canonical_reading_undoes_the_expression() -> None:
    """A sample that moves with the surface reads the planes where it was before."""
    config = replace(SMALL, code=0, surface_prior=False, point_features=1)
    field = RadianceField(config, 4)
    field.points.table.weight.data.zero_()
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    shift = torch.tensor([0.02, -0.05, 0.03])
    planes = torch.randn(3, 6, 24, 24)
    samples, ways = torch.rand(9, 3) * 0.1, torch.nn.functional.normalize(torch.randn(9, 3), dim=1)
    index, square = torch.arange(3).expand(9, 3), torch.full((9, 3), 0.01)
    rest = PosedPoints(points, torch.zeros(4, 3), torch.zeros(4, 3))
    moved = PosedPoints(points + shift, torch.zeros(4, 3), shift.expand(4, 3))
    a = field(planes, rest, samples, ways, index, square, None)
    b = field(planes, moved, samples + shift, ways, index, square, None)
    for ours, theirs in zip(a, b, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_one_centimeter_of_solid_head_is_opaque() -> None:
    assert math.exp(-DENSITY * 0.01 * SCENE_SCALE) < 0.01


def test_every_group_receives_gradients(params, camera) -> None:
    avatar = build().train()
    out = avatar.render_all(params, camera, torch.zeros(3))
    loss = sum(value.square().mean() for value in (out.full.rgb, out.fine.rgb, out.coarse.rgb)) + out.opacity
    (loss + sum(avatar.regularizers().values())).backward()
    groups = avatar.param_groups()
    assert {id(p) for group in groups.values() for p in group} == {id(p) for p in avatar.parameters()}
    for name in ("planes", "points", "networks", "upscale", "code"):
        assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in groups[name]), name


def test_it_is_saved_and_loaded(params, camera, tmp_path) -> None:
    avatar = build()
    save_avatar(avatar, tmp_path / "avatar.safetensors", {})
    loaded = load_avatar(tmp_path / "avatar.safetensors")
    assert loaded.config == avatar.config
    with torch.no_grad():
        assert torch.equal(loaded.render(params, camera, WHITE).rgb, avatar.render(params, camera, WHITE).rgb)


TINY_PUBLISHED = replace(
    PUBLISHED,
    **{"plane_size": 16, "plane_channels": 4, "encoder_size": 32, "encoder_width": 0.03, "point_features": 4, "width": 8},
    **{"features": 4, "coarse": 6, "fine": 6, "rays": 16, "style_size": 32, "nearest": 3},
)


def test_the_published_form_renders_trains_and_loads(params, camera, tmp_path) -> None:
    avatar = build(TINY_PUBLISHED)
    assert isinstance(avatar.planes, EncodedPlanes)
    avatar.planes.set_sources(torch.rand(2, 32, 32, 3))
    with torch.no_grad():
        out = avatar.render(params, camera, WHITE)
    assert out.rgb.shape == (2, 64, 64, 3)
    assert out.rgb.isfinite().all()
    avatar.train()
    avatar.render(params, camera, WHITE).rgb.mean().backward()
    groups = avatar.param_groups()
    assert groups["slow"]
    assert not {id(p) for p in groups["slow"]} & {id(p) for p in [*groups["planes"], *groups["upscale"]]}
    save_avatar(avatar, tmp_path / "avatar.safetensors", {})
    loaded = load_avatar(tmp_path / "avatar.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded.render(params, camera, WHITE).rgb, out.rgb)


def test_slow_parameters_are_the_style_codes() -> None:
    usual, slow = split_speeds(build(TINY_PUBLISHED).planes)
    encoder = build(TINY_PUBLISHED).planes.encoder
    expected = [p for part in (encoder.style, encoder.code) for p in part.parameters()]
    assert sum(p.numel() for p in slow) == sum(p.numel() for p in expected)
    assert usual


def test_the_frontal_picture_shows_what_lies_on_the_plane() -> None:
    """A picture whose color is the place on the plane comes out as the grid itself, with rows and columns rising."""
    camera = Camera.from_focal(300.0, 200, 200)
    pose = torch.eye(4)
    pose[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) / SCENE_SCALE
    pose[2, 3] = 0.8
    scene_from_world = torch.linalg.inv(pose)
    y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(200) + 0.5, indexing="ij")
    on_plane = torch.stack([(x - 100) / 300 * 0.8, (y - 100) / 300 * 0.8, torch.full_like(x, 0.8)], -1)
    place = on_plane @ scene_from_world[:3, :3].T + scene_from_world[:3, 3]
    read = project_frontal(place, camera, pose, 16)
    at = (torch.arange(16) + 0.5) / 8 - 1
    assert torch.allclose(read[..., 0], at.expand(16, 16), atol=1e-3)
    assert torch.allclose(read[..., 1], at[:, None].expand(16, 16), atol=1e-3)


@pytest.mark.parametrize("change", [{"nearest": 0}, {"nearest": 17}, {"features": 2}, {"coarse": 1}])
def test_sizes_out_of_range_are_refused(change) -> None:
    with pytest.raises(ConfigError, match=r"nearest|expected at least"):
        build(replace(SMALL, **change))
