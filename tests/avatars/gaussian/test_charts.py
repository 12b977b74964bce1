"""Head and bust as one surface."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.avatars.io import load_avatar, save_avatar
from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError, FormatError
from deja_vu.core.gaussians import CHANNELS, GAUSSIAN_AXES
from deja_vu.core.head import HeadParams
from deja_vu.heads.anny import load as load_anny
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.mesh import rasterize_mesh

HEAD = GaussianConfig(uv_size=96, blend_size=64, blendmaps=2, correction=False)
PERSON = replace(HEAD, bust_size=96, bust_blend_size=64)


def make(config: GaussianConfig) -> GaussianAvatar:
    head = load_anny()
    return GaussianAvatar(head, torch.linspace(-1, 1, head.spec.num_shape), config)


@pytest.fixture
def person() -> GaussianAvatar:
    return make(PERSON)


@pytest.fixture
def params(person: GaussianAvatar) -> HeadParams:
    """Two poses before the camera; in the second the head is turned on the same torso."""
    still = person.head.neutral((2,))
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).repeat(2, 1, 1)
    pose[:, 2, 3] = 0.9
    turned = pose.clone()
    turned[1, :3, :3] = pose[1, :3, :3] @ axis_angle_to_matrix(torch.tensor([0.1, 0.6, 0.0]))
    return replace(still, world_from_head=turned, torso=torch.linalg.inv(turned) @ pose)


def test_the_heads_gaussians_are_those_of_a_head_alone(person: GaussianAvatar, params: HeadParams) -> None:
    head, count = make(HEAD), len(person.layout)
    with torch.no_grad():
        for avatar in (head, person):
            avatar.rectification[:count] = 0.1 * torch.randn(count, 13, generator=torch.Generator().manual_seed(1))
        ours, theirs = person.gaussians(params), head.gaussians(params)
    assert person.num_gaussians > count == head.num_gaussians
    for name in GAUSSIAN_AXES:
        assert torch.equal(getattr(ours, name)[:, :count], getattr(theirs, name)), name


def test_a_turning_head_leaves_the_torso_where_it_is(person: GaussianAvatar, params: HeadParams) -> None:
    layout, texels = person.charts.parts[1]
    assert person.bust is not None
    torso = (person.bust.skin_weights[layout.corners, 0] == 1).all(-1)
    assert torso.float().mean() > 0.3
    with torch.no_grad():
        means = person.gaussians(params).means[:, texels]
    moved = (means[1] - means[0]).norm(dim=-1)
    assert moved[torso].max() < 1e-5  # rounding of float32 at a meter
    assert moved.max() > 0.01, "the neck bends"


def test_neck_and_shoulders_are_closed(person: GaussianAvatar, params: HeadParams) -> None:
    camera, faces = Camera.from_focal(300.0, 160, 160), person.charts.binding.faces
    with torch.no_grad():
        alpha = person.render(params, camera, torch.ones(3)).alpha[..., 0]
        covered = rasterize_mesh(person.vertices(person.correct_params(params)), faces, camera).face_id >= 0
    inner = torch.nn.functional.avg_pool2d(covered.float()[:, None], 7, 1, 3)[:, 0] > 0.999
    assert inner.sum() > 5000
    assert alpha[inner].min() > 0.9


def test_penalties_of_both_charts_add_up(person: GaussianAvatar) -> None:
    """What the bust costs comes on top: the head's texels are held as those of a head alone are."""
    head, count = make(HEAD), len(person.layout)
    noise = torch.randn(person.num_gaussians, 13, generator=torch.Generator().manual_seed(2))
    blend = torch.randn(2, person.charts.blend_count, 13, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for avatar in (head, person):
            avatar.rectification.copy_(noise[: avatar.num_gaussians])
            avatar.blendmaps.copy_(blend[:, : avatar.charts.blend_count])
        both, own = person.regularizers(), head.regularizers()
        person.rectification[:count], person.blendmaps[:, : head.charts.blend_count] = 0, 0
        rest = person.regularizers()
    for name, value in both.items():
        torch.testing.assert_close(value, own[name] + rest[name], msg=name)


def test_gradients_reach_every_texel_that_is_seen(person: GaussianAvatar, params: HeadParams) -> None:
    camera = Camera.from_focal(300.0, 160, 160)
    person.render(params, camera, torch.ones(3)).rgb.sum().backward()
    assert person.rectification.grad is not None
    touched = person.rectification.grad.abs().sum(1) > 0
    for _, texels in person.charts.parts:
        assert touched[texels].float().mean() > 0.2


def test_a_file_gives_back_the_whole_person(person: GaussianAvatar, params: HeadParams, tmp_path: Path) -> None:
    other = GaussianAvatar(person.head, person.shape, PERSON, torch.linspace(-1, 1, 12))
    with torch.no_grad():
        other.rectification += 0.1 * torch.randn(other.rectification.shape, generator=torch.Generator().manual_seed(4))
    save_avatar(other, tmp_path / "me.safetensors", {})
    loaded = load_avatar(tmp_path / "me.safetensors")
    assert loaded.shows_person
    camera = Camera.from_focal(150.0, 96, 96)
    with torch.no_grad():
        ours, theirs = (avatar.render(params, camera, torch.ones(3)).rgb for avatar in (loaded, other))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("broken", ["chart", "shape"])
def test_a_file_for_another_bust_is_refused(person: GaussianAvatar, tmp_path: Path, broken: str) -> None:
    save_avatar(person, tmp_path / "me.safetensors", {})
    with safe_open(tmp_path / "me.safetensors", framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    if broken == "chart":
        header["bust_hash"] = "0" * 16
    else:
        tensors["torso_shape"] = torch.zeros(7)
    save_file(tensors, tmp_path / "other.safetensors", header)
    with pytest.raises(FormatError, match=r"another UV chart" if broken == "chart" else "torso"):
        load_avatar(tmp_path / "other.safetensors")


def test_the_papers_axes_have_no_torso() -> None:
    with pytest.raises(ConfigError, match="bust_size: 0"):
        make(replace(PERSON, axes="head"))


def test_a_head_without_a_bust_is_refused_one() -> None:
    head = load_toy()
    with pytest.raises(ConfigError, match="has no bust"):
        GaussianAvatar(head, torch.zeros(head.spec.num_shape), PERSON)


def test_sizes_are_known_without_numbers(person: GaussianAvatar, params: HeadParams) -> None:
    meta = person.to("meta")
    gaussians = meta.gaussians(params.to("meta"))
    assert gaussians.means.shape == (2, person.num_gaussians, 3)


def test_gaussians_of_the_body_stay_small_and_those_of_the_head_are_left_alone(person: GaussianAvatar) -> None:
    scale, count = CHANNELS["log_scale"], len(person.layout)
    person.rectification.data[:, scale] = torch.tensor([2.0, -1.0, 0.0])
    person.limit_cloth(0.007)
    deviations = (person.base + person.gains * person.rectification)[:, scale].exp()
    assert (deviations[count:] <= person.base[count:, scale].exp().clamp_min(0.007) * 1.0001).all()
    assert person.rectification[count:, scale][:, 1].eq(-1).all()
    assert person.rectification[:count, scale].equal(torch.tensor([2.0, -1.0, 0.0]).expand(count, 3))
