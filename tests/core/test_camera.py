from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.heads.skinning import axis_angle_to_matrix


def posed(width: int = 640, height: int = 480) -> Camera:
    """A camera with unequal focal lengths, an odd principal point and a random pose, in float64."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = axis_angle_to_matrix(torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64))
    pose[:3, 3] = torch.tensor([0.05, -0.02, 0.6])
    intrinsics = torch.tensor([[700.0, 0, 315], [0, 650, 236], [0, 0, 1]], dtype=torch.float64)
    return Camera(pose, intrinsics, width, height)


def points(*batch: int) -> torch.Tensor:
    return 0.1 * torch.randn(*batch, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_projects_as_worked_out_by_hand() -> None:
    camera = Camera.from_focal(100.0, 200, 120)
    pixels, depth = camera.project(torch.tensor([[0.0, 0.0, 2.0], [0.5, 0.0, 2.0], [0.0, 0.4, 1.0]]))
    torch.testing.assert_close(pixels, torch.tensor([[100.0, 60.0], [125.0, 60.0], [100.0, 100.0]]))  # x right, y down
    torch.testing.assert_close(depth, torch.tensor([2.0, 2.0, 1.0]))


def test_pose_is_applied_before_projection() -> None:
    camera = posed()
    seen = points() @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
    pixels, depth = camera.project(points())
    torch.testing.assert_close(depth, seen[:, 2])
    torch.testing.assert_close(pixels[:, 0], 700 * seen[:, 0] / seen[:, 2] + 315)
    torch.testing.assert_close(pixels[:, 1], 650 * seen[:, 1] / seen[:, 2] + 236)


def test_batches_of_cameras_and_of_points() -> None:
    camera = posed()
    two = replace(camera, camera_from_world=torch.stack([torch.eye(4, dtype=torch.float64), camera.camera_from_world]))
    pixels, depth = two.project(points() + torch.tensor([0, 0, 1.0]))
    assert pixels.shape == (2, 5, 2)
    assert depth.shape == (2, 5)
    torch.testing.assert_close(pixels[1], camera.project(points() + torch.tensor([0, 0, 1.0]))[0])
    torch.testing.assert_close(camera.project(points(3))[0][1], camera.project(points(3)[1])[0])


@pytest.mark.parametrize(("width", "height"), [(320, 240), (1280, 960), (100, 480)])
def test_resizing_scales_pixel_coordinates(width: int, height: int) -> None:
    camera = posed()
    scale = torch.tensor([width / camera.width, height / camera.height], dtype=torch.float64)
    resized = camera.resize(width, height)
    torch.testing.assert_close(resized.project(points())[0], camera.project(points())[0] * scale)
    assert (resized.width, resized.height) == (width, height)
    torch.testing.assert_close(resized.resize(640, 480).intrinsics, camera.intrinsics)


def test_cropping_shifts_pixel_coordinates() -> None:
    camera, corner = posed(), torch.tensor([40.5, -12.0], dtype=torch.float64)
    cropped = camera.crop(40.5, -12.0, 256, 300)
    torch.testing.assert_close(cropped.project(points())[0], camera.project(points())[0] - corner)
    assert (cropped.width, cropped.height) == (256, 300)
    # Crop then halve is halve then crop at half the corner.
    ours, theirs = cropped.resize(128, 150), camera.resize(320, 240).crop(20.25, -6.0, 128, 150)
    torch.testing.assert_close(ours.intrinsics, theirs.intrinsics)


def test_gradients_reach_pose_intrinsics_and_points() -> None:
    camera = posed()

    def project(pose: torch.Tensor, intrinsics: torch.Tensor, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return Camera(pose, intrinsics, 640, 480).project(where)

    inputs = [camera.camera_from_world.requires_grad_(), camera.intrinsics.requires_grad_(), points(2).requires_grad_()]
    assert torch.autograd.gradcheck(project, inputs)


def test_a_point_in_the_camera_stays_finite() -> None:
    pixels, depth = Camera.from_focal(100.0, 64, 64).project(torch.tensor([[0.1, 0.1, 0.0], [0.1, 0.1, -1.0]]))
    assert torch.isfinite(pixels).all()
    assert (depth <= 0).all()


def test_precision_changes_both_matrices() -> None:
    camera = posed().to(torch.float32)
    assert camera.camera_from_world.dtype == camera.intrinsics.dtype == torch.float32


def test_a_camera_that_looks_at_a_point_shows_it_in_the_middle_the_right_way_up() -> None:
    for position in ([0.0, 0.0, 0.6], [0.4, 0.3, -0.5], [-1.0, 0.1, 0.2]):
        target = [0.02, -0.05, 0.01]
        camera = Camera.look_at(position, target, fov=0.4, width=300, height=200)
        world = torch.tensor([target, [target[0], target[1] + 0.01, target[2]]])
        pixels, depth = camera.project(world)
        torch.testing.assert_close(pixels[0], torch.tensor([150.0, 100.0]), atol=1e-3, rtol=0)
        assert float(depth[0]) == pytest.approx(float((torch.tensor(position) - world[0]).norm()), rel=1e-5)
        assert pixels[1, 1] < pixels[0, 1], "what lies above is drawn above"
        assert float(pixels[1, 0]) == pytest.approx(150.0, abs=1e-3)
        rotation = camera.camera_from_world[:3, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3))
        assert float(torch.linalg.det(rotation)) == pytest.approx(1.0, abs=1e-5)


def test_the_angle_of_view_is_that_of_the_pictures_height() -> None:
    camera = Camera.look_at([0.0, 0.0, 2.0], fov=0.5, width=64, height=100)
    edge = 2.0 * torch.tan(torch.tensor(0.25))
    assert float(camera.project(torch.tensor([[0.0, float(edge), 0.0]]))[0][0, 1]) == pytest.approx(0.0, abs=1e-3)


def test_a_direction_that_nobody_can_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="lie on one line"):
        Camera.look_at([0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="lie on one line"):
        Camera.look_at([0.0, 0.0, 0.0])
