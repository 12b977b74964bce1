from __future__ import annotations

import math

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.render.volume import box_span, interval_edges, interval_weights, pixel_rays, sample_importance, sample_stratified, shell_span


def slab(count: int, density: float, jitter: bool) -> tuple[float, float]:
    """Coverage and mean depth of a slab of constant density between 1 and 3."""
    near, far = torch.tensor([1.0], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    t = sample_stratified(near, far, count, jitter=jitter)
    weights = interval_weights(torch.full_like(t, density), interval_edges(t, near, far))
    return float(weights.sum()), float((weights * t).sum())


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("count", [1, 8, 64])
def test_a_slab_has_the_coverage_of_its_closed_form(count, jitter) -> None:
    """Exact for any number of samples, wherever they lie: the released code's step-free alpha fails this."""
    assert slab(count, 0.7, jitter)[0] == pytest.approx(1 - math.exp(-1.4), abs=1e-12)


def test_a_slabs_mean_depth_converges_to_its_closed_form() -> None:
    density, length = 0.7, 2.0
    absorbed = 1 - math.exp(-density * length)
    exact = absorbed * 1 + (1 / density) - math.exp(-density * length) * (length + 1 / density)
    errors = [abs(slab(count, density, False)[1] - exact) for count in (16, 32)]
    assert errors[0] < 1e-3
    assert errors[1] < errors[0] / 3.5  # second order: halving the step quarters the error


def test_weights_never_exceed_one_and_light_is_held_back_in_order() -> None:
    density = 50 * torch.rand(20, 12)
    edges = torch.rand(20, 13).cumsum(1)
    weights = interval_weights(density, edges)
    assert (weights >= 0).all()
    assert (weights.sum(1) <= 1 + 1e-6).all()
    density[:, 3] = 1e6
    assert interval_weights(density, edges)[:, 4:].abs().max() < 1e-12


def test_gradients_of_the_weights() -> None:
    density = torch.rand(3, 6, dtype=torch.float64, requires_grad=True)
    edges = torch.rand(3, 7, dtype=torch.float64).cumsum(1).requires_grad_()
    assert torch.autograd.gradcheck(interval_weights, (density, edges))


def test_importance_samples_follow_the_weights() -> None:
    edges = torch.tensor([[0.0, 1.0, 2.0, 4.0]]).expand(2, -1)
    weights = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]])
    t = sample_importance(edges, weights, 400, jitter=True)
    assert (t.diff(dim=1) >= 0).all()
    shares = [((t >= a) & (t < b)).float().mean(1) for a, b in ((0, 1), (1, 2), (2, 4.001))]
    # Stratified draws: at most one of 400 lies on the wrong side of each border.
    assert torch.allclose(torch.stack(shares, 1), torch.tensor([[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]]), atol=2 / 400)


def test_rays_go_through_the_pixels_that_points_project_to() -> None:
    camera = Camera.from_focal(60.0, 20, 12)
    pose = torch.eye(4)
    pose[:3, :3] = axis_angle_to_matrix(torch.tensor([0.2, -0.4, 0.1])) * 0.2
    pose[:3, 3] = torch.tensor([0.02, -0.01, 0.6])
    origins, directions = pixel_rays(camera, pose)
    scene = origins + 3.0 * directions
    seen, depth = camera.project(scene @ pose[:3, :3].T + pose[:3, 3])
    rows, columns = torch.meshgrid(torch.arange(12) + 0.5, torch.arange(20) + 0.5, indexing="ij")
    assert torch.allclose(seen, torch.stack([columns, rows], -1).reshape(-1, 2), atol=1e-3)
    assert (depth > 0).all()
    assert torch.allclose(directions.norm(dim=1), torch.ones(len(directions)))


def test_the_box_is_entered_and_left_on_its_faces() -> None:
    origins = torch.randn(500, 3) * 3
    directions = torch.nn.functional.normalize(torch.randn(500, 3), dim=1)
    near, far, hit = box_span(origins, directions)
    assert 20 < hit.sum() < 480
    for t in (near, far):
        places = (origins + t[:, None] * directions)[hit & (t > 0)]
        assert torch.allclose(places.abs().amax(1), torch.ones(len(places)), atol=1e-4)
    dense = origins[:, None] + torch.linspace(0, 10, 2000)[:, None] * directions[:, None]
    assert not ((dense.abs().amax(2) < 0.99).any(1) & ~hit).any()
    assert near[~hit].abs().sum() + far[~hit].abs().sum() == 0


def test_the_shell_keeps_every_place_near_the_surface() -> None:
    surface = torch.nn.functional.normalize(torch.randn(800, 3), dim=1) * torch.tensor([0.4, 0.6, 0.5])
    directions = torch.nn.functional.normalize(torch.randn(300, 3) * 0.15 + torch.tensor([0.0, 0.0, -1.0]), dim=1)
    origins = torch.tensor([0.0, 0.0, 3.0]).expand(300, 3)
    near, far, hit = shell_span(surface, origins, directions, radius=0.15)
    wide_near, wide_far, wide = box_span(origins, directions)
    assert (hit <= wide).all()
    assert (near >= wide_near - 1e-6)[hit].all()
    assert (far <= wide_far + 1e-6)[hit].all()
    assert (far - near).sum() < 0.8 * (wide_far - wide_near).sum()
    t = torch.linspace(0, 6, 1500)
    close = torch.cdist(origins[:, None] + t[:, None] * directions[:, None], surface).amin(2) < 0.15
    kept = (t >= near[:, None] - 1e-5) & (t <= far[:, None] + 1e-5)
    assert not (close & ~kept).any()
