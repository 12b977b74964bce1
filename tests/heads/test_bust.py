"""The bust, judged by how it joins the head, by rigid motions, by anatomy, by its file, and by what a texture atlas must obey."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from deja_vu.core.errors import FormatError
from deja_vu.core.head import HeadParams
from deja_vu.heads import anny, bust
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BustModel, load_bust
from deja_vu.heads.regions import DROPPED_REGIONS, dropped_faces
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.uv.layout import build_layout
from tests.helpers.surfaces import coverage, edges


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return anny.load()


@pytest.fixture(scope="module")
def model() -> BustModel:
    return load_bust()


@pytest.fixture(scope="module")
def asset() -> Path:
    return Path(str(resources.files("deja_vu.heads") / "assets" / bust.ASSET))


def motion(*turn: float, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tensor:
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = axis_angle_to_matrix(torch.tensor(turn)), torch.tensor(shift)
    return pose


def somebody(head: HeadModel, seed: int = 0) -> HeadParams:
    """A random person with a random face; the joint of the neck at rest, as a tracker leaves it."""
    generator = torch.Generator().manual_seed(seed)
    neutral = head.neutral((2,))
    joints = 0.2 * torch.randn(neutral.joints.shape, generator=generator)
    joints[:, head.spec.joint_names.index("neck")] = 0
    return HeadParams(
        torch.randn(neutral.shape.shape, generator=generator),
        torch.rand(neutral.expression.shape, generator=generator),
        joints,
        torch.stack([motion(3.0, 0.2, 0.1, shift=(0.1, -0.2, 0.6)), motion(0.1, 1.0, -0.3, shift=(0.0, 0.1, 0.4))]),
        torch.stack([motion(0.1, -0.4, 0.2, shift=(0.01, 0.02, -0.01)), motion(-0.2, 0.5, 0.0)]),
    )


def look(model: BustModel, head: HeadModel, yaw: float = 0.0, pitch: float = 0.0) -> HeadParams:
    """The mean person whose head alone turns, degrees."""
    neutral = head.neutral()
    joints = neutral.joints.clone()
    joints[head.spec.joint_names.index("neck")] = torch.tensor([math.radians(pitch), math.radians(yaw), 0.0])
    return model.straighten(replace(neutral, joints=joints))


def seam_of(model: BustModel, head: HeadModel) -> tuple[Tensor, Tensor]:
    """Vertices of the bust that lie on one that the head's avatar shows, and those."""
    shown = head.topology.faces[~dropped_faces(head.topology)].unique()
    same = (model.template[:, None] == head.template[shown]).all(-1)
    rows, columns = same.nonzero(as_tuple=True)
    return rows, shown[columns]


def of_region(model: BustModel, *names: str) -> Tensor:
    return torch.cat([model.topology.faces[model.topology.regions[name]] for name in names]).unique()


def test_sizes_and_names(model: BustModel) -> None:
    count, faces = len(model.template), len(model.topology.faces)
    assert 1500 < count < 2200
    assert model.topology.faces.max() == count - 1
    assert model.topology.uv_faces.shape == (faces, 3)
    assert list(model.topology.regions) == ["neck_front", "nape", "chest", "shoulder", "back", "arm"]
    assert (torch.stack(list(model.topology.regions.values())).sum(0) == 1).all()
    assert all(mask.any() for mask in model.topology.regions.values())
    assert (model.num_own, model.skin_weights.shape, model.clothing.shape) == (12, (count, 6), (count,))
    numbers = [tensor for tensor in model.buffers() if tensor.is_floating_point()]
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in numbers)
    assert not model.state_dict()


def test_head_without_what_it_drops_and_bust_are_one_surface_without_hole_or_overlap(model: BustModel, head: HeadModel) -> None:
    seam, on_head = seam_of(model, head)
    assert len(seam.unique()) == len(on_head.unique()) == len(seam) > 50
    assert torch.equal(model.head_rows, torch.full_like(model.head_rows, -1).index_copy(0, seam, on_head))
    welded = torch.arange(len(model.template)) + len(head.template)
    welded[seam] = on_head
    regions = head.topology.regions
    inner = head.topology.faces[regions["skin"] & ~dropped_faces(head.topology) | regions["mouth_inner"] | regions["eye_socket"]]
    directed = edges(torch.cat([inner, welded[model.topology.faces]]))
    assert len(torch.unique(directed, dim=0)) == len(directed)
    rows = {tuple(edge) for edge in directed.tolist()}
    border = torch.tensor([edge for edge in rows if edge[::-1] not in rows]).unique()
    points = model.template[border - len(head.template)]
    assert points[:, 1].max() < -0.34  # but for the cut below the chest and through the arms, which the head never sees
    assert {"neck"} < set(DROPPED_REGIONS)


def test_the_seam_moves_as_the_head_does(model: BustModel, head: HeadModel) -> None:
    seam, on_head = seam_of(model, head)
    own = torch.randn(2, 12, generator=torch.Generator().manual_seed(1))
    for seed in range(3):
        params = somebody(head, seed)
        torch.testing.assert_close(model(params, own)[:, seam], head(params)[:, on_head], rtol=0, atol=2e-6)


def test_a_torso_at_rest_moves_with_the_head_as_one_piece(model: BustModel, head: HeadModel) -> None:
    params = replace(somebody(head), torso=torch.eye(4).expand(2, 4, 4))
    params = replace(params, joints=torch.zeros_like(params.joints))
    pose, rest = params.world_from_head, model.rest(params)
    torch.testing.assert_close(model(params), rest @ pose[:, :3, :3].transpose(1, 2) + pose[:, None, :3, 3], rtol=0, atol=2e-6)


def test_a_turning_head_leaves_the_torso_in_its_place(model: BustModel, head: HeadModel) -> None:
    below = of_region(model, "chest", "back", "arm", "shoulder")
    still = below[model.skin_weights[below, 0] == 1]
    assert len(still) > 0.9 * len(below)
    for yaw, pitch in ((60, 0), (-40, 30), (0, -30)):
        turned = model(look(model, head, yaw, pitch))
        torch.testing.assert_close(turned[still], model.template[still], rtol=0, atol=2e-6)
        assert (turned - model.template).norm(dim=1).max() > 0.02


def test_a_straightened_head_has_the_skull_and_torso_that_it_had(model: BustModel, head: HeadModel) -> None:
    params = somebody(head)
    bent = replace(params, joints=torch.cat([torch.full((2, 1, 3), 0.3), params.joints[:, 1:]], 1))
    straight = model.straighten(bent)
    assert not straight.joints[:, 0].any()
    torch.testing.assert_close(straight.world_from_torso, bent.world_from_torso, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(straight), model(bent), rtol=0, atol=2e-6)
    crown = head.topology.faces[head.topology.regions["scalp"]].unique()
    crown = crown[head.template[crown, 1] > 0.1]
    torch.testing.assert_close(head(straight)[:, crown], head(bent)[:, crown], rtol=0, atol=2e-6)


def girth(points: Tensor, share: Tensor, height: float) -> Tensor:
    """Mean distance from their middle of the points about half way up the neck."""
    ring = points[(share > height - 0.12) & (share < height + 0.12)]
    return (ring - ring.mean(0)).norm(dim=1).mean()


@pytest.mark.parametrize(("yaw", "pitch"), [(60, 0), (-60, 0), (0, 30), (0, -30), (45, 20)])
def test_a_turned_neck_keeps_its_girth(model: BustModel, head: HeadModel, yaw: float, pitch: float) -> None:
    share = model.skin_weights @ torch.tensor([0, 0.25, 0.5, 0.75, 1, 1])
    bent = model(look(model, head, yaw, pitch))
    for height in (0.3, 0.5, 0.7):
        assert girth(bent, share, height) == pytest.approx(float(girth(model.template, share, height)), rel=0.04)


def test_the_share_of_the_head_falls_from_the_seam_to_the_base_of_the_neck(model: BustModel, head: HeadModel) -> None:
    weights = model.skin_weights
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    assert weights.min() >= 0
    assert (weights > 0).sum(1).max() <= 3
    seam, on_head = seam_of(model, head)
    torch.testing.assert_close(weights[seam, 4:].sum(1), torch.ones(len(seam)))
    torch.testing.assert_close(weights[seam, 5], head.skin_weights[on_head, 2])
    share = weights @ torch.tensor([0, 0.25, 0.5, 0.75, 1, 1])
    start, end = edges(model.topology.faces).unbind(1)
    assert (share[start] - share[end]).abs().max() < 0.45
    shoulders = of_region(model, "arm", "back")
    assert share[shoulders].max() < 0.1


def test_the_torso_is_a_torso(model: BustModel) -> None:
    arms = model.template[of_region(model, "arm")]
    assert 0.36 < arms[:, 0].max() - arms[:, 0].min() < 0.52  # adults: 0.38 to 0.52 from arm to arm
    left = arms[arms[:, 0] > 0]
    down = torch.linalg.svd(left - left.mean(0)).Vh[0]
    assert down[1].abs() > 0.97  # hanging, not held out as on the mesh it comes from
    height = {name: model.template[of_region(model, name)][:, 1].mean() for name in ("neck_front", "shoulder", "chest")}
    assert height["neck_front"] > height["shoulder"] > height["chest"]
    depth = {name: model.template[of_region(model, name)][:, 2].mean() for name in ("chest", "back", "neck_front", "nape")}
    assert depth["chest"] > depth["back"] + 0.1
    assert depth["neck_front"] > depth["nape"]
    corners = model.template[model.topology.faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normal[model.topology.regions["chest"], 2] > 0).float().mean() > 0.97
    assert (normal[model.topology.regions["back"], 2] < 0).float().mean() > 0.97


def test_shoulders_rise_and_sink_between_people_by_a_centimeter(model: BustModel) -> None:
    """The own components carry raised and hanging shoulders, not widths alone: an outline of shoulders could not be met without."""
    tips = ((model.template[:, 0].abs() - 0.17).abs() < 0.01) & (model.template[:, 1] > -0.2)
    height = model.own_basis[:, tips, 1].mean(1)
    assert 0.008 < height.norm() < 0.016


def test_own_components_are_one_deviation_long_fall_and_vanish_at_the_seam(model: BustModel, head: HeadModel) -> None:
    sizes = model.own_basis.flatten(1).norm(dim=1)
    assert (sizes[1:] <= sizes[:-1]).all()
    assert 0.003 < model.own_basis[0].norm(dim=1).mean() < 0.03
    assert not model.own_basis[:, seam_of(model, head)[0]].any()


def test_clothes_lie_on_the_torso_and_leave_the_upper_neck_bare(model: BustModel, head: HeadModel) -> None:
    assert (model.clothing >= 0).all()
    assert model.clothing.max() < 0.025
    for name in ("chest", "back", "arm", "shoulder"):
        assert 0.002 < model.clothing[of_region(model, name)].median() < 0.012, name
    assert not model.clothing[seam_of(model, head)[0]].any()
    assert not model.clothing[model.skin_weights[:, 3:].sum(1) > 0.9].any()


def test_the_atlas_has_no_overlap_is_unmirrored_and_finer_in_front(model: BustModel) -> None:
    topology = model.topology
    assert topology.uv.min() >= 0
    assert topology.uv.max() <= 1
    count = coverage(topology.uv, topology.uv_faces, 512)
    assert count.max() == 1
    assert (count > 0).float().mean() > 0.6
    a, b, c = topology.uv[topology.uv_faces].unbind(1)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area < 0).all()  # v grows downwards
    corners = model.template[topology.faces]
    size = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    spacing = (size / area.abs()).sqrt()
    middle = {name: spacing[mask].median() for name, mask in topology.regions.items()}
    assert 1.4 < middle["back"] / middle["chest"] < 2
    assert middle["neck_front"] < middle["chest"]


def test_layouts_of_every_size_can_be_built(model: BustModel) -> None:
    for size in (64, 192, 512):
        layout = build_layout(model.topology, size)
        assert len(layout) == pytest.approx(0.667 * size**2, rel=0.01)
        assert torch.isin(torch.arange(len(model.topology.faces)), layout.faces).float().mean() > (0.9 if size > 64 else 0.3)


def test_gradients_reach_poses_where_nothing_is_turned_and_where_it_is(model: BustModel, head: HeadModel) -> None:
    double = load_bust().double()
    some = torch.arange(0, len(model.template), 97)

    def place(torso: Tensor, neck: Tensor, own: Tensor) -> Tensor:
        neutral = double.neutral()
        joints = torch.cat([neck[None], neutral.joints[1:]])
        pose = torch.eye(4, dtype=torch.float64)
        turned = torch.cat([torch.cat([axis_angle_to_matrix(torso[:3]), torso[3:, None]], 1), pose[3:]])
        return double(replace(neutral, joints=joints, torso=turned), own)[some]

    own = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    for size in (0.0, 0.4):
        torso, neck = (torch.full((n,), size, dtype=torch.float64, requires_grad=True) for n in (6, 3))
        assert torch.autograd.gradcheck(place, (torso, neck, own), fast_mode=True)


def test_shapes_are_known_without_numbers(model: BustModel, head: HeadModel) -> None:
    params = somebody(head)
    empty = load_bust().to("meta")(params.to("meta"), torch.zeros(2, 12, device="meta"))
    assert empty.shape == model(params).shape == (2, len(model.template), 3)
    nested = HeadParams(*(torch.stack([value, value, value]) for value in vars(params).values()))
    torch.testing.assert_close(model(nested)[2], model(params), rtol=0, atol=1e-6)


def test_file_says_where_it_comes_from_and_is_small(asset: Path) -> None:
    with safe_open(str(asset), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == bust.FORMAT
    assert metadata["licence"] == "CC0-1.0"
    assert "anny 0.6.2" in metadata["source"]
    assert len(bytes.fromhex(metadata["source_files"])) == 32
    assert asset.stat().st_size < 0.8e6


def test_refuses_other_formats_other_heads_and_damaged_files(asset: Path, tmp_path: Path, head: HeadModel) -> None:
    other = tmp_path / "bust.safetensors"
    with safe_open(str(asset), framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(str(asset)), other, metadata | {"format": "deja_vu.bust/99"})
    with pytest.raises(FormatError, match=r"deja_vu\.bust/99"):
        bust.read(str(other), head)
    with pytest.raises(FormatError, match="belongs to a head 'anny'"):
        bust.read(str(asset), load_toy())
    other.write_bytes(asset.read_bytes()[:1000])
    with pytest.raises(FormatError, match=r"damaged .* Install the package again"):
        bust.read(str(other), head)
