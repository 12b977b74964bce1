from __future__ import annotations

import numpy as np
import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.render import rasterize_mesh


def soup(triangles: int, seed: int, batch: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(*batch, triangles, 1, 3, generator=generator) * torch.tensor([0.8, 0.8, 0.6]) + torch.tensor([-0.4, -0.4, 0.7])
    vertices = (centers + 0.15 * torch.randn(*batch, triangles, 3, 3, generator=generator)).flatten(-3, -2)
    return vertices, torch.arange(3 * triangles).view(-1, 3)


def by_rays(vertices: torch.Tensor, faces: torch.Tensor, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest hit of every pixel's ray with every triangle, in float64."""
    pose, intrinsics = camera.camera_from_world.double().numpy(), camera.intrinsics.double().numpy()
    seen = vertices.double().numpy() @ pose[:3, :3].T + pose[:3, 3]
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(intrinsics).T
    face_id = np.full(rows.shape, -1)
    depth = np.full(rows.shape, np.inf)
    bary = np.zeros((*rows.shape, 3))
    for index, corners in enumerate(seen[faces.numpy()]):
        if corners[:, 2].min() < 0.01:
            continue
        weights = rays @ np.linalg.inv(corners)  # ray = sum of weights * corners, up to its length
        length = weights.sum(-1)
        inside = (weights >= 0).all(-1) & (length > 0)
        nearer = inside & (1 / np.where(inside, length, 1) < depth)
        face_id[nearer], depth[nearer] = index, 1 / length[nearer]
        bary[nearer] = weights[nearer] / length[nearer][:, None]
    return face_id, bary, np.where(np.isinf(depth), 0, depth)


def turned(width: int, height: int) -> Camera:
    camera = Camera.from_focal(0.9 * width, width, height)
    camera.camera_from_world[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0.2], [0.1, 0, -0.05], [-0.2, 0.05, 0]]))
    camera.camera_from_world[:3, 3] = torch.tensor([0.02, -0.03, 0.2])
    return camera


@pytest.mark.parametrize(("triangles", "width", "height"), [(1, 20, 20), (60, 61, 37), (400, 33, 130)])
def test_equals_casting_rays(triangles, width, height):
    vertices, faces = soup(triangles, seed=triangles)
    camera = turned(width, height)
    fragments = rasterize_mesh(vertices, faces, camera)
    face_id, bary, depth = by_rays(vertices, faces, camera)
    same = fragments.face_id.numpy() == face_id
    assert same.mean() > 0.998, "float32 may decide differently only where a pixel's center lies on an edge"
    assert (face_id >= 0).any()
    np.testing.assert_allclose(fragments.depth.numpy()[same], depth[same], rtol=1e-4)
    np.testing.assert_allclose(fragments.bary.numpy()[same], bary[same], atol=2e-3)  # slivers magnify rounding


def test_points_rebuilt_from_the_fragments_project_onto_their_pixels():
    vertices, faces = soup(30, seed=2)
    camera = turned(40, 32)
    fragments = rasterize_mesh(vertices, faces, camera)
    rows, columns = torch.nonzero(fragments.face_id >= 0, as_tuple=True)
    points = (vertices[faces[fragments.face_id[rows, columns]]] * fragments.bary[rows, columns][..., None]).sum(-2)
    pixels, depth = camera.project(points)
    torch.testing.assert_close(pixels, torch.stack([columns, rows], -1) + 0.5, atol=1e-2, rtol=0)
    torch.testing.assert_close(depth, fragments.depth[rows, columns], atol=1e-4, rtol=0)


def test_a_closed_surface_has_no_holes():
    """Shared edges leave no pixel of a filled square uncovered."""
    grid = torch.linspace(-1, 1, 24)
    vertices = torch.stack([*torch.meshgrid(grid, grid, indexing="ij"), torch.full((24, 24), 2.0)], -1).flatten(0, 1)
    corner = torch.arange(24 * 23).view(23, 24)[:, :-1].flatten()
    faces = torch.cat([torch.stack([corner, corner + 1, corner + 24], -1), torch.stack([corner + 1, corner + 25, corner + 24], -1)])
    fragments = rasterize_mesh(vertices, faces, Camera.from_focal(60.0, 40, 40))
    assert (fragments.face_id >= 0).all()
    torch.testing.assert_close(fragments.depth, torch.full((40, 40), 2.0))


def test_a_batch_equals_its_meshes_whatever_the_number_of_threads():
    vertices, faces = soup(50, seed=4, batch=(5,))
    single = turned(50, 70)
    cameras = Camera(single.camera_from_world.expand(5, 4, 4), single.intrinsics, 50, 70)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        together = rasterize_mesh(vertices, faces, cameras)
        assert together.face_id.shape == (5, 70, 50)
        for b in range(5):
            alone = rasterize_mesh(vertices[b], faces, single)
            assert torch.equal(alone.face_id, together.face_id[b])
            assert torch.equal(alone.bary, together.bary[b])


def test_nothing_to_draw():
    camera = Camera.from_focal(20.0, 8, 8)
    empty = rasterize_mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.long), camera)
    assert (empty.face_id == -1).all()
    behind = rasterize_mesh(torch.tensor([[0.0, 0, -1], [1, 0, -1], [0, 1, -1]]), torch.tensor([[0, 1, 2]]), camera)
    assert (behind.face_id == -1).all()
    assert rasterize_mesh(torch.zeros(0, 3, 3), torch.tensor([[0, 1, 2]]), camera).depth.shape == (0, 8, 8)


@pytest.mark.usefixtures("unchecked_types")
def test_refusals():
    camera = Camera.from_focal(20.0, 8, 8)
    with pytest.raises(ValueError, match="faces name vertices 0 to 3; there are 3"):
        rasterize_mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 3]]), camera)
    with pytest.raises(ValueError, match="vertices holds values that are not finite"):
        rasterize_mesh(torch.full((3, 3), float("nan")), torch.tensor([[0, 1, 2]]), camera)
    with pytest.raises(ValueError, match="expected floating point"):
        rasterize_mesh(torch.zeros(3, 2), torch.tensor([[0, 1, 2]]), camera)
