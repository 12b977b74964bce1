from __future__ import annotations

import pytest
import torch

from deja_vu.core.errors import ConfigError
from deja_vu.heads import HEADS, load_head, toy
from deja_vu.heads.base import HeadModel, surface_points


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("toy")


def volume(head: HeadModel, faces: torch.Tensor) -> float:
    a, b, c = head.template.double()[faces].unbind(1)
    return float((torch.linalg.cross(a, b) * c).sum() / 6)


def test_sizes_agree(head: HeadModel) -> None:
    spec, vertices, faces = head.spec, len(head.template), len(head.topology.faces)
    assert 300 <= vertices <= 500
    assert head.shape_basis.shape == (spec.num_shape, vertices, 3)
    assert head.expression_basis.shape == (spec.num_expression, vertices, 3)
    assert head.skin_weights.shape == (vertices, spec.num_joints + 1)
    assert head.topology.uv_faces.shape == (faces, 3)
    assert all(mask.shape == (faces,) and mask.any() for mask in head.topology.regions.values())
    torch.testing.assert_close(head.skin_weights.sum(1), torch.ones(vertices))
    assert (head.skin_weights >= 0).all()


def test_faces_look_outwards(head: HeadModel) -> None:
    # By the divergence theorem a closed surface has positive volume; the neck's and the eyes' openings change it little.
    regions = head.topology.regions
    ellipsoid = 4 / 3 * torch.pi * float(toy.RADII.prod())
    assert 0.8 * ellipsoid < volume(head, head.topology.faces[regions["skin"]]) < 1.5 * ellipsoid
    for name in ("eye_left", "eye_right"):
        faces = head.topology.faces[regions[name]]
        center = head.template[faces.unique()].mean(0)
        a, b, c = (head.template[faces] - center).unbind(1)
        assert ((torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(-1) > 0).all()


def test_chart_lies_in_the_unit_square_without_overlap(head: HeadModel) -> None:
    uv, faces = head.topology.uv.double(), head.topology.uv_faces
    assert uv.min() >= 0
    assert uv.max() <= 1
    a, b, c = uv[faces].unbind(1)
    cross = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (cross < 0).all()  # one orientation; negative because v grows downwards while faces turn counter-clockwise
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4000, 2, generator=generator, dtype=torch.float64)
    covered = torch.zeros(len(points))
    for p, q, r in zip(a, b, c, strict=True):
        sides = [(v - u)[0] * (points - u)[:, 1] - (v - u)[1] * (points - u)[:, 0] for u, v in ((p, q), (q, r), (r, p))]
        covered += (torch.stack(sides) < -1e-12).all(0)
    assert covered.max() == 1
    assert covered.mean() == pytest.approx(float(-cross.sum() / 2), abs=0.03)  # 4,000 samples: deviation 0.006


def test_left_is_positive_x_and_mirrors_right(head: HeadModel) -> None:
    names = head.spec.expression_names
    for left, right in (("eyeBlinkLeft", "eyeBlinkRight"), ("mouthSmileLeft", "mouthSmileRight")):
        moves = head.expression_basis[[names.index(left), names.index(right)]]
        side = [(head.template[:, 0] * move.norm(dim=-1)).sum() for move in moves]
        assert side[0] > 0 > side[1]
        mirrored = head.template * torch.tensor([-1.0, 1.0, 1.0])
        twin = torch.cdist(mirrored, head.template).argmin(1)
        torch.testing.assert_close(moves[0][twin] * torch.tensor([-1.0, 1.0, 1.0]), moves[1], atol=1e-6, rtol=0)  # float32 rounding


def test_expressions_move_what_they_say(head: HeadModel) -> None:
    marks, names = head.topology.landmarks["mediapipe"], head.spec.expression_names
    corners = head.topology.faces[marks.faces]
    ids = marks.ids.tolist()

    def moved(expression: str, landmark: int) -> torch.Tensor:
        return surface_points(head.expression_basis[names.index(expression)], corners, marks.bary)[ids.index(landmark)]

    assert moved("jawOpen", 152)[1] < -0.015
    assert moved("jawOpen", 14)[1] < moved("jawOpen", 13)[1] - 0.002
    assert moved("mouthSmileLeft", 291)[1] > 0.004
    assert moved("mouthSmileLeft", 61).norm() < 0.001
    assert head.expression_basis[:, head.skin_weights[:, 3:].any(1)].abs().max() == 0  # eyeballs turn, they do not deform


def test_landmarks_lie_where_their_names_say(head: HeadModel) -> None:
    marks = head.topology.landmarks["mediapipe"]
    points = surface_points(head.template, head.topology.faces[marks.faces], marks.bary)
    at = dict(zip(marks.ids.tolist(), points, strict=True))
    assert (marks.bary >= -1e-6).all()
    assert at[1][2] == max(point[2] for point in points)  # the nose's tip
    assert at[10][1] > at[1][1] > at[13][1] > at[14][1] > at[152][1]
    assert at[454][0] > at[263][0] > at[362][0] > 0 > at[133][0] > at[33][0] > at[234][0]


def test_eyeballs_turn_about_their_centers(head: HeadModel) -> None:
    params = head.neutral((1,))
    params.joints[0, head.spec.joint_names.index("eye_left")] = torch.tensor([0.2, 0.4, 0.0])
    before, after = head(head.neutral((1,)))[0], head(params)[0]
    left = head.skin_weights[:, 3] == 1
    torch.testing.assert_close(after[~left], before[~left])
    center = torch.from_numpy(toy.EYE_CENTERS[0]).float()
    torch.testing.assert_close((after[left] - center).norm(dim=1), torch.full((int(left.sum()),), toy.EYE_RADIUS), atol=1e-6, rtol=0)
    assert (after[left] - before[left]).norm(dim=1).max() > 0.004


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'flame2020'"):
        load_head("flame-2020")
    with pytest.raises(ConfigError, match="takes no file"):
        load_head("toy", "somewhere.pkl")
    assert set(HEADS) == {"anny", "toy", "flame2020", "flame2023", "flame2020_full", "flame2023_full"}
