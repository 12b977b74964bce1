from __future__ import annotations

import math

import pytest
import torch

from deja_vu.nets.expression_field import PointField, PointMean, weigh_neighbors, weighted_mean
from deja_vu.nets.neighbors import nearest

POINTS = torch.randn(60, 3) * 0.3


def near(samples: torch.Tensor, count: int = 8, radius: float = math.inf):
    return weigh_neighbors(*nearest(POINTS, samples, count, radius))


def test_weights_add_up_to_one_and_follow_the_inverse_distance() -> None:
    """Over the neighbors of each sample; the released code's add up over the samples instead."""
    samples = torch.randn(40, 3) * 0.5
    found = near(samples)
    assert torch.allclose(found.weight.sum(1), torch.ones(40))
    distance = (samples[:, None] - POINTS[found.index]).norm(dim=2)
    expected = 1 / (distance + 1e-4)
    assert torch.allclose(found.weight, expected / expected.sum(1, keepdim=True), rtol=1e-3)
    alone = near(samples[:1])
    assert torch.equal(alone.weight, found.weight[:1])  # other samples do not matter


def test_a_sample_on_a_point_is_finite_and_takes_its_value() -> None:
    found = near(POINTS[:5].clone())
    assert found.weight.isfinite().all()
    assert (found.weight[:, 0] > 0.99).all()
    assert torch.equal(found.index[:, 0], torch.arange(5))


def test_points_beyond_the_radius_count_for_nothing() -> None:
    samples = POINTS[:20] + 0.01
    found = near(samples, radius=0.1)
    _, square = nearest(POINTS, samples, 8, 0.1)
    assert (found.weight[~square.isfinite()] == 0).all()
    assert torch.allclose(found.weight.sum(1), torch.ones(20))


def test_the_published_field_has_the_published_size() -> None:
    field = PointField(5023, 32, 64, unit_offsets=False)
    assert sum(parameter.numel() for parameter in field.parameters()) == 166_656


@pytest.mark.parametrize("unit", [False, True])
def test_offsets_show_how_far_a_point_is_unless_asked_to_hide_it(unit) -> None:
    field = PointField(60, 4, 8, unit_offsets=unit)
    samples = torch.randn(6, 3) * 0.4
    found = near(samples, count=1)
    farther = POINTS[found.index[:, 0]] + 2 * (samples - POINTS[found.index[:, 0]])
    same = torch.allclose(field(samples, POINTS, found), field(farther, POINTS, found), atol=1e-5)
    assert same == unit


def test_the_mean_of_features_is_what_it_says() -> None:
    field = PointMean(60, 4)
    samples = torch.randn(6, 3) * 0.4
    found = near(samples)
    expected = (field.table.weight[found.index] * found.weight[..., None]).sum(1)
    assert torch.allclose(field(samples, POINTS, found), expected, atol=1e-6)


def test_gradients_reach_samples_points_and_features() -> None:
    field = PointField(60, 3, 4, unit_offsets=False).double()
    samples = (torch.randn(4, 3) * 0.4).double().requires_grad_()
    points = POINTS.double().requires_grad_()
    index, square = nearest(points, samples, 3, 9.0)
    found = weigh_neighbors(index, square)

    def run(samples: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return field(samples, points, found)

    assert torch.autograd.gradcheck(run, (samples, points))
    values = torch.randn(60, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: weighted_mean(values, found), (values,))
