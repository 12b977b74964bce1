from __future__ import annotations

import pytest
import torch

from deja_vu.bench.quality import Shown, gain, score, temporal_error, to_eight_bits
from deja_vu.bench.statistics import differs, summarize
from deja_vu.io.assets import find

needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")


def shown(position: int, offset: float = 0.0, level: float = 0.5) -> Shown:
    target = torch.full((48, 48, 3), level)
    return Shown(target + offset, target, torch.ones(48, 48, 1), {"mouth": (slice(10, 40), slice(5, 35))}, position, position % 2 == 0)


def test_the_interval_covers_the_mean_and_knows_that_neighbours_are_alike() -> None:
    torch.manual_seed(0)
    noise = torch.randn(300).tolist()
    independent = summarize(noise, block=1)
    assert independent["low"] < independent["mean"] < independent["high"]
    # 95 % of a mean of 300 independent draws: 2 x 1.96 / sqrt(300) wide; the sample's own deviation is off by some percent.
    assert independent["high"] - independent["low"] == pytest.approx(2 * 1.96 / 300**0.5, rel=0.15)
    held = torch.randn(30).repeat_interleave(10).tolist()  # ten equal frames in a row: thirty draws, not three hundred
    assert summarize(held)["high"] - summarize(held)["low"] > 2.2 * (summarize(held, block=1)["high"] - summarize(held, block=1)["low"])


def test_short_and_constant_series() -> None:
    assert summarize([2.0]) == {"mean": 2.0, "std": 0.0, "low": 2.0, "high": 2.0, "frames": 1}
    assert summarize([1.0, 1.0, 1.0])["std"] == 0


def test_intervals_that_overlap_tell_nothing() -> None:
    a, b = {"low": 1.0, "high": 2.0}, {"low": 1.9, "high": 3.0}
    assert not differs(a, b)
    assert differs(a, {"low": 2.1, "high": 3.0})
    assert differs({"low": 2.1, "high": 3.0}, a)


def test_temporal_error_sees_flicker_and_forgives_a_constant_error() -> None:
    steady = temporal_error(shown(0, 0.1), shown(1, 0.1))
    assert steady == pytest.approx(0, abs=1e-6)
    assert temporal_error(shown(0, 0.1), shown(1, -0.1)) == pytest.approx(0.2, abs=1e-6)
    frozen = Shown(torch.full((48, 48, 3), 0.5), torch.full((48, 48, 3), 0.8), torch.ones(48, 48, 1), {}, 1, False)
    assert temporal_error(shown(0), frozen) == pytest.approx(0.3, abs=1e-6)  # the truth moved, the prediction did not
    half = shown(1, -0.1)
    half.mask[:24] = 0
    half.image[:24] = 0
    assert temporal_error(shown(0, 0.1), half) == pytest.approx(0.2, abs=1e-6)


@needs_perceptual
def test_scores_of_a_known_error_by_region() -> None:
    from deja_vu.bench.metrics import FrameMetrics
    from deja_vu.losses.perceptual import PerceptualDistance

    frames = [shown(0, 0.1), shown(1, 0.1), shown(5, 0.1)]
    found = score(frames, FrameMetrics(PerceptualDistance.load()))
    assert found["full"]["psnr"]["mean"] == pytest.approx(20.0, abs=1e-3)  # an error of 0.1 everywhere
    assert found["mouth"]["psnr"]["mean"] == pytest.approx(20.0, abs=1e-3)
    assert found["full"]["l1"]["mean"] == pytest.approx(0.1, abs=1e-5)
    assert found["full"]["temporal"]["frames"] == 1  # frames 1 and 5 are no neighbours
    assert found["full"]["st_lpips"]["frames"] == 1  # asked for in frame 0 alone
    assert gain(found, found) == dict.fromkeys(("l1", "psnr", "ssim", "st_lpips", "temporal"), 0.0)


def test_eight_bits() -> None:
    assert torch.equal(to_eight_bits(torch.tensor([-1.0, 0.5, 2.0])), torch.tensor([0.0, 128 / 255, 1.0]))
