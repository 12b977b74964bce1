from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deja_vu.bench.metrics import METRICS, FrameMetrics, average
from deja_vu.losses.perceptual import KERNELS, PerceptualDistance

SIDE = 48


@pytest.fixture(scope="module")
def metrics() -> FrameMetrics:
    """The perceptual part with random weights: its values mean nothing, but it needs no file."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(o, i, k, k, generator=generator) * math.sqrt(2 / (i * k * k)) for o, i, k in KERNELS]
    return FrameMetrics(PerceptualDistance(weights, [torch.zeros(o) for o, _, _ in KERNELS], [torch.ones(o) for o, _, _ in KERNELS]))


@pytest.fixture
def target() -> Tensor:
    return torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1)) * 0.8


@pytest.fixture
def mask() -> Tensor:
    """Everything counts but the lower quarter."""
    mask = torch.ones(SIDE, SIDE, 1)
    mask[3 * SIDE // 4 :] = 0
    return mask


def score(metrics: FrameMetrics, image: Tensor, target: Tensor, mask: Tensor) -> dict[str, float]:
    return metrics.score(image, metrics.reference(target, mask, perceptual=True))


def test_a_constant_error_has_a_known_psnr_and_l1(metrics, target, mask) -> None:
    found = score(metrics, target + 0.1, target, mask)
    assert set(found) == set(METRICS)
    assert found["psnr"] == pytest.approx(20, abs=1e-3)
    assert found["l1"] == pytest.approx(0.1, abs=1e-6)
    assert score(metrics, target - 0.01, target, torch.ones_like(mask))["psnr"] == pytest.approx(40, abs=1e-2)


def test_equal_images_are_equal(metrics, target, mask) -> None:
    found = score(metrics, target, target, mask)
    assert found["ssim"] == pytest.approx(1, abs=1e-6)
    assert found["psnr"] == pytest.approx(100), "the most there is"
    assert found["l1"] == found["st_lpips"] == 0


def test_pixels_that_do_not_count_do_not_matter(metrics, target, mask) -> None:
    image = (target + 0.05 * torch.randn(target.shape)).clamp(0, 1)
    spoiled, other = image.clone(), target.clone()
    spoiled[mask[..., 0] == 0] = 0.0
    other[mask[..., 0] == 0] = torch.rand(3)
    assert score(metrics, spoiled, other, mask) == score(metrics, image, target, mask)
    spoiled[0] = 0.0
    assert score(metrics, spoiled, other, mask)["psnr"] < score(metrics, image, target, mask)["psnr"] - 3


def test_half_counted_pixels_weigh_half(metrics, target) -> None:
    image = target.clone()
    image[: SIDE // 2] += 0.2
    halved = torch.ones(SIDE, SIDE, 1)
    halved[: SIDE // 2] = 0.5
    found = score(metrics, image, target, halved)
    assert found["l1"] == pytest.approx(0.2 * 0.5 / 1.5, rel=1e-4)
    assert found["psnr"] == pytest.approx(-10 * math.log10(0.04 * 0.5 / 1.5), abs=1e-3)


def test_ssim_is_that_of_scikit_image_where_everything_counts(metrics, target) -> None:
    oracle = pytest.importorskip("skimage.metrics", reason="scikit-image is the oracle")
    image = (target + 0.1 * torch.randn(target.shape)).clamp(0, 1)
    options = {"channel_axis": 2, "data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = oracle.structural_similarity(image.numpy().astype(np.float64), target.numpy().astype(np.float64), **options)
    found = metrics.score(image, metrics.reference(target, torch.ones(SIDE, SIDE, 1), perceptual=False))["ssim"]
    assert found == pytest.approx(expected, abs=0.01)  # the oracle leaves out a border of five pixels


def test_more_noise_scores_worse_in_every_metric(metrics, target, mask) -> None:
    noise = torch.randn(target.shape)
    little, much = (score(metrics, (target + sigma * noise).clamp(0, 1), target, mask) for sigma in (0.02, 0.2))
    assert little["psnr"] > much["psnr"]
    assert little["ssim"] > much["ssim"]
    assert little["st_lpips"] < much["st_lpips"]
    assert little["l1"] < much["l1"]


def test_the_perceptual_metric_is_left_out_where_asked(metrics, target, mask) -> None:
    reference = metrics.reference(target, mask, perceptual=False)
    assert set(metrics.score(target, reference)) == set(METRICS) - {"st_lpips"}


def test_averages_are_over_the_frames_that_have_a_metric() -> None:
    rows = [{"psnr": 20.0, "ssim": 0.5, "l1": 0.1, "st_lpips": 0.3}, {"psnr": 30.0, "ssim": 0.7, "l1": 0.2}]
    assert average(rows) == {"psnr": 25.0, "ssim": 0.6, "l1": 0.15, "st_lpips": 0.3}
