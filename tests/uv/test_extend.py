"""Values carried on beyond what was seen."""

from __future__ import annotations

import torch

from deja_vu.uv.extend import extend_harmonic

LENGTH = 0.1


def strip() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A band 60 cm long whose first 10 cm are known: its places, how far beyond the border they lie, and what is known."""
    x, y = torch.meshgrid(torch.linspace(-0.1, 0.5, 121), torch.linspace(0, 0.2, 41), indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), 0 * x.flatten()], 1), x.flatten(), x.flatten() < 1e-4


def test_one_value_is_carried_on_as_the_equation_says() -> None:
    points, beyond, known = strip()
    found = extend_harmonic(torch.ones(len(points), 1), known, points, LENGTH)[:, 0]
    wanted = torch.cosh((0.5 - beyond) / LENGTH) / torch.cosh(torch.tensor(0.5 / LENGTH))  # v'' = v / length^2, free at its end
    assert (found - wanted)[~known].abs().max() < 0.03  # places half a centimeter apart, eight neighbors of which are joined
    assert found[known].eq(1).all()


def test_it_is_linear_smooth_at_the_border_and_within_what_is_known() -> None:
    points, beyond, known = strip()
    values = torch.stack([points[:, 1], torch.sin(40 * points[:, 1]), torch.ones(len(points))], 1)
    found = extend_harmonic(values, known, points, LENGTH)
    for column in range(3):
        alone = extend_harmonic(values[:, column : column + 1], known, points, LENGTH)
        torch.testing.assert_close(found[:, column : column + 1], alone)
        low, high = values[known, column].aminmax()
        assert (found[:, column] <= high.clamp_min(0) + 1e-6).all()
        assert (found[:, column] >= low.clamp_max(0) - 1e-6).all()
    nearest = (beyond > 1e-4) & (beyond < 0.006)
    assert (found[nearest, 0] - values[nearest, 0]).abs().max() < 0.02  # half a centimeter further, of a value up to 0.2


def test_it_is_monotone_where_nothing_holds_it() -> None:
    points, _, known = strip()
    found = extend_harmonic(torch.ones(len(points), 1), known, points, LENGTH).reshape(121, 41)
    assert (found[1:] <= found[:-1] + 1e-6).all()


def test_what_is_far_from_everything_known_gets_nothing() -> None:
    points, _, known = strip()
    island = points + torch.tensor([5.0, 0.0, 0.0])
    found = extend_harmonic(torch.ones(2 * len(points), 1), torch.cat([known, known & False]), torch.cat([points, island]), LENGTH)
    assert found[len(points) :].eq(0).all()


def test_nothing_is_made_up_where_all_or_nothing_is_known() -> None:
    points, _, known = strip()
    values = torch.rand(len(points), 2)
    assert extend_harmonic(values, known | True, points, LENGTH).equal(values)
    assert extend_harmonic(values, known & False, points, LENGTH).eq(0).all()
