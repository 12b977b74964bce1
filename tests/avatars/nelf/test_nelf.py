from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deja_vu.avatars.io import load_avatar, save_avatar
from deja_vu.avatars.nelf import PUBLISHED, NelfAvatar, NelfConfig, WarpField
from deja_vu.avatars.nelf.avatar import fit_ellipsoid
from deja_vu.avatars.nelf.network import NelfNetwork, RayNetwork
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.toy import load as load_toy
from deja_vu.nets.cost import multiply_adds
from tests.helpers.people import moved_together

SMALL = NelfConfig(points=4, point_octaves=2, bank=6, width=16, depth=2, upscale_width=8, upscale_depth=1, latent=5, warp_depth=1)
WHITE = torch.ones(3)


def build(config: NelfConfig = SMALL) -> NelfAvatar:
    torch.manual_seed(3)
    head = load_toy()
    return NelfAvatar(head, torch.linspace(-0.5, 0.5, head.spec.num_shape), config).eval()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_deployed_network_has_the_published_size_and_cost() -> None:
    with torch.device("meta"):  # counts need no numbers
        network = NelfNetwork(PUBLISHED, 109)
        points, code = torch.empty(1, 128, 128, 24), torch.empty(1, 109)
    assert count(network) == 2_066_534
    rays = network.rays
    assert [count(part) for part in (rays.bank, rays.attention, rays.head, rays.body, rays.tail)] == [
        1_164_800,
        150_080,
        50_304,
        330_240,
        387,
    ]
    ours = multiply_adds(lambda: network(points, code))
    # The published form multiplies the code's 327 numbers by the attention's first layer for every ray, not once a frame.
    repeated = (128 * 128 - 1) * 327 * 128
    assert round((ours + repeated) / 1e9, 1) == 16.6


def test_the_bank_is_mixed_as_the_formula_says() -> None:
    network = RayNetwork(SMALL, 7)
    points, code = torch.randn(2, 5, 12), torch.randn(2, 7)
    full = network(points, code)
    for b in range(2):
        for ray in range(5):
            assert torch.allclose(network(points[b : b + 1, ray : ray + 1], code[b : b + 1])[0, 0], full[b, ray], atol=1e-5)
    network.bank[-1].weight.data.zero_()
    network.bank[-1].bias.data.zero_()
    network.attention[-1].bias.data.normal_()
    assert torch.equal(network(points, code), network(points, torch.randn(2, 7)))  # without a bank the code has no way in


@pytest.mark.parametrize("attention", ["linear", "sigmoid", "softmax"])
def test_attention_ablations(attention) -> None:
    network = RayNetwork(replace(SMALL, attention=attention), 7)
    weights = network._weights(torch.randn(1, 9, 60), torch.randn(1, 21))
    if attention == "softmax":
        assert torch.allclose(weights.sum(-1), torch.ones(1, 9))
    assert bool((weights >= 0).all()) == (attention != "linear")


def test_a_rays_color_lands_in_its_own_pixel(params) -> None:
    """The published script reshapes without a permute: right speed, wrong picture."""
    avatar = build()
    camera = Camera.from_focal(80.0, 24, 16)
    points = avatar.ray_points(params, camera)
    assert points.shape == (2, 4, 6, 12)
    small = avatar.render_all(params, camera, torch.zeros(3)).rays.rgb
    alone = avatar.network.rays(points[1, 3, 2][None, None], avatar.code(params)[1:])
    assert torch.allclose(small[1, 3, 2], alone[0, 0, :3], atol=1e-5)


def test_points_lie_on_their_rays_around_the_head_however_far_the_camera_is(params, camera) -> None:
    avatar = build(replace(SMALL, points=5, around="origin", span=2.0))
    points = avatar.ray_points(params, camera).unflatten(-1, (5, 3))
    steps = points.diff(dim=-2)
    assert torch.allclose(steps.norm(dim=-1), torch.full(steps.shape[:-1], 0.5), atol=1e-4)
    assert torch.allclose(steps[..., 0, :], steps[..., -1, :], atol=1e-4)
    middle, along = points[..., 2, :], steps[..., 0, :]
    assert (middle * along).sum(-1).abs().max() < 1e-3  # the nearest place to the head's origin
    back = torch.eye(4)
    back[2, 3] = 0.3
    middle_row, middle_column = 8, 8
    ray = Camera.from_focal(1e5, camera.width, camera.height)  # so narrow that moving back along the axis keeps the ray
    near = avatar.ray_points(params, ray)[0, middle_row, middle_column]
    far = avatar.ray_points(params, replace(ray, camera_from_world=back))[0, middle_row, middle_column]
    assert torch.allclose(near, far, atol=2e-3)


def test_points_lie_where_rays_meet_the_ellipsoid_whoever_looks(params, camera) -> None:
    avatar = build(replace(SMALL, points=3))
    middle = avatar.ray_points(params, camera).unflatten(-1, (3, 3))[..., 1, :]
    height = ((middle - avatar.center) / avatar.radii).norm(dim=-1)
    assert ((height - 1).abs() < 1e-3).sum() > 20  # rays that meet it
    assert (height > 1 - 1e-3).all()  # the others pass outside of it
    seen = middle[0].flatten(0, 1)[(height[0].flatten() - 1).abs().argmin()]
    pose = params.world_from_head[0]
    place = pose[:3, :3] @ (seen / 5) + pose[:3, 3]
    for eye in (torch.tensor([0.05, -0.02, 0.0]), torch.tensor([-0.04, 0.03, 0.1])):
        forward = torch.nn.functional.normalize(place - eye, dim=0)
        right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), forward), dim=0)
        look = torch.eye(4)
        look[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
        look[:3, 3] = -look[:3, :3] @ eye
        view = replace(Camera.from_focal(1e4, 12, 12), camera_from_world=look)  # its middle ray goes through the place
        again = avatar.ray_points(params[:1], view).unflatten(-1, (3, 3))[0, 1, 1, 1]
        assert torch.allclose(again, seen, atol=2e-3)


def test_the_ellipsoid_of_an_ellipsoids_points() -> None:
    points = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)
    wanted = torch.tensor([[0.3, -0.2, 0.1], [0.7, 1.3, 0.9]], dtype=torch.float64)
    center, radii = fit_ellipsoid(points * wanted[1] + wanted[0])
    assert torch.allclose(torch.stack([center, radii]), wanted)


def test_moving_head_and_camera_together_changes_nothing(params, camera) -> None:
    avatar = build()
    moved, follower = moved_together(params, camera)
    with torch.no_grad():
        assert torch.allclose(avatar.render(params, camera, WHITE).rgb, avatar.render(moved, follower, WHITE).rgb, atol=1e-4)


def test_codes_beyond_the_training_range_are_held_to_it(params, camera) -> None:
    avatar = build()
    avatar.fit(replace(params, expression=params.expression * 0.5))
    extreme = replace(params, expression=params.expression * 50)
    assert (avatar.code(extreme) * avatar.scale + avatar.middle <= avatar.high + 1e-6).all()  # rounding
    assert torch.equal(
        avatar.render(extreme, camera, WHITE).rgb, avatar.render(replace(params, expression=params.expression * 60), camera, WHITE).rgb
    )


def test_coverage_puts_another_background_behind(params, camera) -> None:
    avatar = build()
    with torch.no_grad():
        black, gray = (avatar.render(params, camera, torch.full((3,), value)) for value in (0.0, 0.4))
    assert torch.allclose(gray.rgb, black.rgb + (1 - black.alpha) * 0.4, atol=1e-6)
    published = build(replace(SMALL, coverage=False, residual=False))
    assert published.render(params, camera, WHITE).alpha.min() == 1
    with pytest.raises(ValueError, match="no coverage"):
        published.render(params, camera, torch.zeros(3))


def test_the_warping_field_starts_as_the_identity_and_leaves_taught_frames_alone() -> None:
    warp = WarpField(SMALL, 4, 7)
    points = torch.randn(2, 3, 5, 12)
    assert torch.allclose(warp.points(points, torch.tensor([1, 4])), points, atol=1e-6)
    for parameter in warp.parameters():
        parameter.data.normal_(std=0.3)
    moved = warp.points(points, torch.tensor([0, 2]))
    assert torch.equal(moved[0], points[0])
    assert (moved[1] - points[1]).abs().max() > 0.01
    assert torch.equal(warp.points(points, torch.tensor([0, 0])), points)
    code = torch.randn(2, 7)
    assert torch.equal(warp.code(code, torch.tensor([1, 2])), code)


def test_the_warp_is_a_rigid_motion_of_each_point() -> None:
    """With one motion for all points, distances between them stay."""
    warp = WarpField(SMALL, 2, 7)
    warp.motion[-1].bias.data.normal_()
    points = torch.randn(1, 1, 1, 12)
    before, after = (x.unflatten(-1, (4, 3))[0, 0, 0] for x in (points, warp.points(points, torch.tensor([1]))))
    assert torch.allclose(torch.cdist(before, before), torch.cdist(after, after), atol=1e-4)
    assert (before - after).abs().max() > 0.1


def test_the_ablation_adds_a_latent_to_the_code() -> None:
    warp = WarpField(replace(SMALL, warp="latent"), 3, 7)
    points, code = torch.randn(2, 3, 5, 12), torch.randn(2, 7)
    assert torch.equal(warp.points(points, torch.tensor([1, 2])), points)
    assert torch.equal(warp.code(code, torch.tensor([1, 2])), code)
    warp.motion[0].weight.data.normal_()
    changed = warp.code(code, torch.tensor([0, 2]))
    assert torch.equal(changed[0], code[0])
    assert not torch.equal(changed[1], code[1])


def test_it_is_saved_and_loaded_without_the_warp(params, camera, tmp_path) -> None:
    avatar = build()
    avatar.fit(params)
    save_avatar(avatar, tmp_path / "avatar.safetensors", {})
    loaded = load_avatar(tmp_path / "avatar.safetensors")
    assert loaded.config == avatar.config
    assert count(loaded) == count(avatar)
    assert torch.equal(loaded.render(params, camera, WHITE).rgb, avatar.render(params, camera, WHITE).rgb)


def test_every_parameter_receives_gradients(params, camera) -> None:
    avatar = build().train()
    out = avatar.render_all(params, camera, torch.zeros(3))
    (out.full.rgb.square().mean() + out.rays.rgb.square().mean() + out.full.alpha.mean()).backward()
    assert {id(p) for group in avatar.param_groups().values() for p in group} == {id(p) for p in avatar.parameters()}
    assert all(parameter.grad is not None for parameter in avatar.parameters())


def test_a_file_with_an_older_tensor_name_loads(tmp_path: Path, params: HeadParams) -> None:
    avatar = build()
    avatar.fit(params)
    path = tmp_path / "avatar.safetensors"
    save_avatar(avatar, path, {})
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    tensors["centre"] = tensors.pop("center")
    save_file(tensors, path, metadata=header)
    loaded = load_avatar(path)
    assert isinstance(loaded, NelfAvatar)
    assert torch.equal(loaded.center, avatar.center)
