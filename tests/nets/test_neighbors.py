from __future__ import annotations

import math

import pytest
import torch

from deja_vu.nets.neighbors import brute_force, nearest


@pytest.mark.parametrize("radius", [0.02, 0.3, math.inf])
@pytest.mark.parametrize(("points", "count"), [(1, 1), (3, 8), (400, 1), (400, 4), (3000, 16)])
def test_the_grid_finds_what_every_distance_finds(points, count, radius) -> None:
    cloud = torch.nn.functional.normalize(torch.randn(points, 3), dim=1) * torch.tensor([0.08, 0.12, 0.1])
    queries = torch.cat([torch.randn(500, 3) * 0.1, torch.randn(50, 3), cloud[:50]])
    index, square = nearest(cloud, queries, count, radius)
    expected, distance = brute_force(cloud, queries, count, radius)
    # Different order of rounding: a few units in the last place of the coordinates' squares.
    assert torch.allclose(square, distance, rtol=1e-4, atol=1e-7)
    found = square.isfinite()
    assert torch.equal(found, distance.isfinite())
    again = (queries[:, None] - cloud[index]).square().sum(-1)
    assert torch.allclose(again[found], square[found], rtol=1e-5, atol=1e-9)
    assert (index[~found] == 0).all()
    swapped = (index != expected) & found
    assert torch.allclose(square[swapped], distance[swapped], rtol=1e-4, atol=1e-7)  # only ties may change places


def test_points_on_a_line_or_a_spot_are_no_special_case() -> None:
    line = torch.zeros(40, 3)
    line[:, 1] = torch.linspace(0, 1, 40)
    for cloud in (line, torch.ones(7, 3)):
        queries = torch.rand(60, 3)
        assert torch.allclose(nearest(cloud, queries, 5, 0.6)[1], brute_force(cloud, queries, 5, 0.6)[1], atol=1e-6)


def test_float64_goes_through_plain_torch() -> None:
    cloud, queries = torch.randn(30, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    assert nearest(cloud, queries, 3, 2.0)[1].dtype == torch.float64


@pytest.mark.parametrize(("count", "radius"), [(0, 1.0), (17, 1.0), (3, 0.0)])
def test_sizes_that_do_not_fit_are_refused(count, radius) -> None:
    with pytest.raises(ValueError, match="neighbors within"):
        nearest(torch.zeros(4, 3), torch.zeros(2, 3), count, radius)


def test_what_is_not_finite_has_no_neighbors() -> None:
    cloud, queries = torch.randn(30, 3), torch.randn(4, 3)
    queries[1, 0], queries[2, 2], queries[3, 1] = math.nan, math.inf, -1e20
    for search in (nearest, brute_force):
        assert search(cloud, queries, 3, 9.0)[1].isfinite().all(1).tolist() == [True, False, False, False]
    cloud[0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        nearest(cloud, queries, 3, 9.0)
