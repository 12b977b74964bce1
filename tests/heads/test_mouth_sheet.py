"""A made-up model of FLAME's size, whose lips are open, gets a mouth behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.heads.base import HeadModel
from deja_vu.heads.flame import load_2020, load_2020_full
from deja_vu.heads.mouth_sheet import COLUMNS, DEPTH, ROWS, STRIP, find_holes
from deja_vu.render.mesh import rasterize_mesh


@pytest.fixture(scope="module")
def head(dense_flame_file: Path) -> HeadModel:
    return load_2020(dense_flame_file)


def rim(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The hole's vertices, upper and lower row from -x to +x, found from the file by the place of the mouth."""
    with np.load(file) as arrays:
        template, faces = arrays["v_template"], arrays["f"].astype(int)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    vertices = np.unique(unique[count == 1])
    near = vertices[np.linalg.norm(template[vertices] - [0, -0.052, 0.084], axis=1) < 0.03]
    order = near[np.argsort(template[near, 0], kind="stable")]
    middle = template[near, 1].mean()
    return order[template[order, 1] > middle], order[template[order, 1] <= middle]


def test_the_model_has_flames_size(dense_flame_file: Path) -> None:
    with np.load(dense_flame_file) as arrays:
        assert (arrays["v_template"].shape, arrays["f"].shape, arrays["shapedirs"].shape) == ((5023, 3), (9976, 3), (5023, 3, 400))
    full = load_2020_full(dense_flame_file)
    assert (full.spec.num_shape, full.spec.num_expression, full.spec.name) == (300, 100, "flame2020_full")


def test_sheets_begin_at_the_lips_and_follow_them(head: HeadModel, dense_flame_file: Path) -> None:
    upper, lower = rim(dense_flame_file)
    assert len(upper) == len(lower) == 5
    generator = torch.Generator().manual_seed(2)
    neutral = head.neutral((1,))
    params = replace(
        neutral,
        shape=torch.randn(neutral.shape.shape, generator=generator),
        expression=torch.randn(neutral.expression.shape, generator=generator),
        joints=0.3 * torch.randn(neutral.joints.shape, generator=generator),
    )
    with torch.no_grad():
        points = head(params)[0]
    rows = points[5023:].view(2 * ROWS - 1, COLUMNS, 3)
    for row, lip in ((rows[0], upper), (rows[-1], lower)):
        corners = points[torch.from_numpy(np.concatenate([upper[[0, -1]], lower[[0, -1]]]))]
        assert torch.cdist(row[[0, -1]], corners).amin(1).max() < 1e-6  # where no vertices mix
        # Between two vertices that the jaw turns by different shares, skinning bends the line a little.
        ends = torch.cdist(row, points[torch.from_numpy(lip)]).amin(1)
        gaps = (points[torch.from_numpy(lip[1:])] - points[torch.from_numpy(lip[:-1])]).norm(dim=1)
        assert ends.max() < 0.55 * gaps.max()


def test_sheets_meet_in_a_line_behind_the_corners(head: HeadModel, dense_flame_file: Path) -> None:
    upper, lower = rim(dense_flame_file)
    rows = head.template[5023:].view(2 * ROWS - 1, COLUMNS, 3)
    corners = head.template[torch.from_numpy(upper[[0, -1]])], head.template[torch.from_numpy(lower[[0, -1]])]
    behind = rows[ROWS - 1]
    expected = min((corner[0] + torch.tensor([0, 0, -DEPTH]) - behind[0]).abs().max() for corner in corners)
    assert expected < 0.003  # the corner is one of the two ends, or between them
    straight = behind[0] + torch.linspace(0, 1, COLUMNS)[:, None] * (behind[-1] - behind[0])
    torch.testing.assert_close(behind, straight, rtol=0, atol=1e-6)


def test_an_open_mouth_shows_its_inside_and_no_hole(head: HeadModel) -> None:
    neutral = head.neutral((1,))
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None].clone()
    pose[:, 1:3, 3] = torch.tensor([-0.06, 0.4])  # the mouth before the camera
    joints = neutral.joints.clone()
    joints[:, head.spec.joint_names.index("jaw"), 0] = 0.35
    vertices = head(replace(neutral, world_from_head=pose, joints=joints))
    camera = Camera.from_focal(900.0, 256, 256)
    seen = rasterize_mesh(vertices, head.topology.faces, camera).face_id[0]
    inside = (seen >= 0) & head.topology.regions["mouth_inner"][seen.clamp_min(0)]
    assert inside.sum() > 30
    rows, columns = inside.nonzero().amin(0), inside.nonzero().amax(0)
    assert (seen[rows[0] : columns[0] + 1, rows[1] : columns[1] + 1] >= 0).all()


def test_the_charts_lowest_part_is_the_mouths(head: HeadModel) -> None:
    inner = head.topology.regions["mouth_inner"]
    assert inner.sum() == 2 * (2 * ROWS - 2) * (COLUMNS - 1)
    v = head.topology.uv[head.topology.uv_faces][..., 1]
    assert v[~inner].max() <= 1 - STRIP + 1e-6
    assert v[inner].min() > 1 - STRIP
    assert not (head.topology.regions["skin"] & inner).any()


def test_holes_are_closed_lines() -> None:
    """A ring of triangles has two borders; one that touches itself in a vertex is followed by nobody."""
    ring = [[k, (k + 1) % 6, 6 + k] for k in range(6)] + [[(k + 1) % 6, 6 + (k + 1) % 6, 6 + k] for k in range(6)]
    loops = find_holes(np.array(ring))
    assert sorted(sorted(loop.tolist()) for loop in loops) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert find_holes(np.array([[0, 1, 2], [0, 3, 4]])) == []
