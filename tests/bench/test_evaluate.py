from __future__ import annotations

import pytest
import torch

from deja_vu.bench.evaluate import FramePair, gain, temporal_error
from deja_vu.bench.statistics import Estimate, differs, summarize


def pair(position: int, offset: float = 0.0, level: float = 0.5) -> FramePair:
    target = torch.full((48, 48, 3), level)
    return FramePair(target + offset, target, torch.ones(48, 48, 1), position)


def test_the_interval_covers_the_mean_and_knows_that_neighbors_are_alike() -> None:
    torch.manual_seed(0)
    noise = torch.randn(300).tolist()
    independent = summarize(noise, block=1)
    assert independent.low < independent.mean < independent.high
    # 95 % of a mean of 300 independent draws: 2 x 1.96 / sqrt(300) wide; the sample's own deviation is off by some percent.
    assert independent.high - independent.low == pytest.approx(2 * 1.96 / 300**0.5, rel=0.15)
    held = torch.randn(30).repeat_interleave(10).tolist()  # ten equal frames in a row: thirty draws, not three hundred
    honest, naive = summarize(held), summarize(held, block=1)
    assert honest.high - honest.low > 2.2 * (naive.high - naive.low)


def test_short_and_constant_series() -> None:
    assert summarize([2.0]) == Estimate(mean=2.0, std=0.0, low=2.0, high=2.0, frames=1)
    assert summarize([1.0, 1.0, 1.0]).std == 0


def estimate(low: float, high: float) -> Estimate:
    return Estimate(mean=(low + high) / 2, std=1.0, low=low, high=high, frames=9)


def test_intervals_that_overlap_tell_nothing() -> None:
    assert not differs(estimate(1.0, 2.0), estimate(1.9, 3.0))
    assert differs(estimate(1.0, 2.0), estimate(2.1, 3.0))
    assert differs(estimate(2.1, 3.0), estimate(1.0, 2.0))


def test_temporal_error_sees_flicker_and_forgives_a_constant_error() -> None:
    steady = temporal_error(pair(0, 0.1), pair(1, 0.1))
    assert steady == pytest.approx(0, abs=1e-6)
    assert temporal_error(pair(0, 0.1), pair(1, -0.1)) == pytest.approx(0.2, abs=1e-6)
    frozen = FramePair(torch.full((48, 48, 3), 0.5), torch.full((48, 48, 3), 0.8), torch.ones(48, 48, 1), 1)
    assert temporal_error(pair(0), frozen) == pytest.approx(0.3, abs=1e-6)  # the truth moved, the prediction did not
    half = pair(1, -0.1)
    half.mask[:24] = 0
    half.image[:24] = 0
    assert temporal_error(pair(0, 0.1), half) == pytest.approx(0.2, abs=1e-6)


def test_a_gain_is_the_difference_of_what_both_have() -> None:
    assert gain({"psnr": 30.0, "ssim": 0.9}, {"psnr": 28.5, "l1": 0.1}) == {"psnr": 1.5}
