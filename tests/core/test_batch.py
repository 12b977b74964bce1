from __future__ import annotations

import torch

from deja_vu.core.batch import PICTURES, Batch
from deja_vu.core.camera import Camera
from deja_vu.heads.toy import load


def ramps() -> Batch:
    """Two frames whose planes tell rows and columns."""
    y, x = torch.meshgrid(torch.arange(12.0) + 0.5, torch.arange(16.0) + 0.5, indexing="ij")
    image = torch.stack([x, y, x + y], -1).expand(2, 12, 16, 3)
    plane = y[None, ..., None].expand(2, 12, 16, 1)
    params = load().neutral((2,))
    return Batch(torch.tensor([4, 7]), image, plane, plane, plane, plane, plane, params, Camera.from_focal(40.0, 16, 12))


def test_a_windows_camera_sees_what_the_window_shows() -> None:
    batch = ramps().crop(slice(2, 10), slice(4, 12))
    assert batch.image.shape == (2, 8, 8, 3)
    assert (batch.camera.width, batch.camera.height) == (8, 8)
    points = torch.tensor([[0.02, -0.03, 0.5], [-0.04, 0.01, 0.5]])
    before, after = ramps().camera.project(points)[0], batch.camera.project(points)[0]
    assert torch.allclose(before - after, torch.tensor([4.0, 2.0]).expand(2, 2), atol=1e-4)
    assert torch.equal(batch.head[0, :, 0, 0], torch.arange(2.5, 10.0))
    whole = ramps().crop(slice(None), slice(None))
    assert torch.equal(whole.image, ramps().image)


def test_reducing_averages_areas_and_takes_the_camera_along() -> None:
    batch = ramps().resize(4, 3)
    assert torch.allclose(batch.image[0, 0, :, 0], torch.tensor([2.0, 6.0, 10.0, 14.0]))
    assert torch.allclose(batch.head[0, :, 0, 0], torch.tensor([2.0, 6.0, 10.0]))
    point = torch.tensor([[0.02, -0.03, 0.5]])
    assert torch.allclose(batch.camera.project(point)[0] * 4, ramps().camera.project(point)[0], atol=1e-4)
    same = ramps()
    assert same.resize(16, 12) is same


def test_one_frame_of_a_batch() -> None:
    frame = ramps().frame(1)
    assert frame.positions.tolist() == [7]
    assert frame.image.shape == (1, 12, 16, 3)
    assert len(frame.params) == 1


def test_views_of_a_camera() -> None:
    camera = Camera.from_focal(40.0, 16, 12)
    assert torch.equal(camera.view(3).camera_from_world, camera.camera_from_world)
    both = Camera(torch.stack([torch.eye(4), 2 * torch.eye(4)]), camera.intrinsics, 16, 12)
    assert torch.equal(both.view(1).camera_from_world, 2 * torch.eye(4))
    assert torch.equal(both.view(1).intrinsics, camera.intrinsics)


def test_a_window_by_indices_is_that_by_slices() -> None:
    sliced, indexed = ramps().crop(slice(2, 10), slice(4, 12)), ramps().crop(torch.arange(2, 10), torch.arange(4, 12))
    for name in PICTURES:
        assert torch.equal(getattr(sliced, name), getattr(indexed, name))
    assert torch.equal(sliced.camera.intrinsics, indexed.camera.intrinsics)
    assert (indexed.camera.width, indexed.camera.height) == (8, 8)
