from __future__ import annotations

import math

import pytest
import torch

from deja_vu.bench.around import fit_similarity, same_pixel
from deja_vu.core.camera import Camera
from deja_vu.core.orbit import orbit
from deja_vu.heads.skinning import axis_angle_to_matrix

MIDDLE = torch.tensor([0.02, 0.01, 0.6])
CAMERA = Camera.from_focal(300.0, 200, 200)


def test_a_similarity_is_found_again_from_the_points_it_moved():
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    turn = axis_angle_to_matrix(torch.tensor([0.3, -1.1, 0.4]))
    found = fit_similarity(points, 0.7 * points @ turn.T + torch.tensor([0.1, 0.2, -0.3]))
    assert found.scale == pytest.approx(0.7, abs=1e-6)
    torch.testing.assert_close(found.rotation, turn, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.shift, torch.tensor([0.1, 0.2, -0.3]), atol=1e-5, rtol=0)


def test_a_similarity_never_mirrors():
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 1.0, 0.01])
    assert float(torch.linalg.det(fit_similarity(points, points * torch.tensor([1.0, 1.0, -1.0])).rotation)) == pytest.approx(1)


@pytest.mark.parametrize("degrees", [0, 30, -90, 180])
def test_the_camera_goes_round_without_losing_its_middle(degrees):
    pixel, depth = CAMERA.project(MIDDLE[None])
    turned, same = orbit(CAMERA, MIDDLE, math.radians(degrees)).project(MIDDLE[None])
    torch.testing.assert_close(turned, pixel, atol=1e-3, rtol=0)
    torch.testing.assert_close(same, depth)


def test_at_a_positive_angle_the_camera_sees_the_left_of_who_faces_it():
    """Who faces the camera has the left ear at the right of the picture, as far away as the nose is nearer: then it comes nearer."""
    ear = MIDDLE + torch.tensor([0.08, 0.0, 0.0])
    assert orbit(CAMERA, MIDDLE, math.radians(60)).project(ear[None])[1] < CAMERA.project(ear[None])[1] - 0.05


def test_the_partner_of_a_point_lies_in_its_pixel_at_the_depth_of_the_other_world():
    turn = axis_angle_to_matrix(torch.tensor([0.02, 0.03, 0.0]))
    theirs = Camera.from_focal(420.0, 200, 200)
    points = MIDDLE + 0.1 * torch.randn(9, 3, generator=torch.Generator().manual_seed(3))
    move = fit_similarity(points, 1.2 * points @ turn.T + torch.tensor([0.0, 0.0, 0.2]))
    partner = same_pixel(MIDDLE, CAMERA, theirs, move)
    torch.testing.assert_close(theirs.project(partner[None])[0], CAMERA.project(MIDDLE[None])[0], atol=1e-3, rtol=0)
    assert float(partner[2]) == pytest.approx(float((1.2 * turn @ MIDDLE)[2]) + 0.2, abs=1e-5)
