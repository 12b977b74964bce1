from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deja_vu.core.errors import FormatError
from deja_vu.io.assets import find
from deja_vu.losses.perceptual import BINOMIAL, KERNELS, MIN_SIZE, PerceptualDistance

needs_weights = pytest.mark.skipif(
    find("stlpips_alex") is None, reason="ST-LPIPS weights are not here (deja-vu doctor says how to get them)"
)


def random_metric(dtype: torch.dtype = torch.float32) -> PerceptualDistance:
    """The architecture with random weights of a size that keeps activations near one; needs no file."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(o, i, k, k, generator=generator, dtype=dtype) * math.sqrt(2 / (i * k * k)) for o, i, k in KERNELS]
    biases = [torch.randn(o, generator=generator, dtype=dtype) * 0.1 for o, _, _ in KERNELS]
    return PerceptualDistance(weights, biases, [torch.rand(o, generator=generator, dtype=dtype) for o, _, _ in KERNELS]).to(dtype)


def astronaut() -> Tensor:
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the portrait")
    return torch.from_numpy(data.astronaut()[:160, 140:300].astype(np.float32) / 255)[None]


def shifted(image: Tensor) -> Tensor:
    return image.roll(1, dims=2)


def noisy(image: Tensor) -> Tensor:
    noise = np.random.default_rng(0).normal(0, 0.1, image.shape).astype(np.float32)
    return (image + torch.from_numpy(noise)).clamp(0, 1)


def blurred(size: int) -> Callable[[Tensor], Tensor]:
    def blur(image: Tensor) -> Tensor:
        return F.avg_pool2d(image.movedim(-1, 1), size, stride=1, padding=size // 2, count_include_pad=False).movedim(1, -1)

    return blur


def odd_size(image: Tensor) -> Tensor:
    return blurred(3)(image)[:, :-1, :-2]


# Computed by stlpips-pytorch 0.0.2 itself, LPIPS(net="alex", variant="shift_tolerant"), normalize=True.
GOLDEN: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "shift by one pixel": (shifted, 0.00467986),
    "noise": (noisy, 0.50054866),
    "blur 3": (blurred(3), 0.14233524),
    "blur 7": (blurred(7), 0.54034853),
    "blur 13": (blurred(13), 0.71810627),
    "odd size": (odd_size, 0.14273241),
}


@needs_weights
@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_the_published_package(name: str) -> None:
    distort, expected = GOLDEN[name]
    distorted = distort(astronaut())
    with torch.no_grad():
        distance = PerceptualDistance.load()(distorted, astronaut()[:, : distorted.shape[1], : distorted.shape[2]])
    assert distance.item() == pytest.approx(expected, abs=1e-5)  # float32 sums in another order; agreement was 1e-8 on the author's machine


@needs_weights
def test_worse_pictures_are_further_away() -> None:
    image, metric = astronaut(), PerceptualDistance.load()
    with torch.no_grad():
        distances = [metric(blurred(size)(image), image).item() for size in (1, 3, 7, 13)]
        shift = metric(shifted(image), image).item()
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert shift < distances[1] / 2  # shift tolerance is what the metric is for


@pytest.mark.parametrize(("height", "width"), [(MIN_SIZE, MIN_SIZE), (33, 40), (40, 33), (31, 37)])
def test_fused_first_layer_is_convolution_then_blur(height: int, width: int) -> None:
    metric = random_metric(torch.float64)
    x = torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    convolved = F.pad(F.conv2d(x, metric.weight_0, metric.bias_0, padding=2), (2, 2, 2, 2), mode="reflect")
    kernel = BINOMIAL.outer(BINOMIAL).double().expand(64, 1, 3, 3)
    expected = F.conv2d(convolved, kernel, stride=2, groups=64)
    torch.testing.assert_close(metric._first_layer(x), expected, rtol=1e-10, atol=1e-10)  # float64, sums of 500 terms


def test_is_a_distance() -> None:
    metric, generator = random_metric(), torch.Generator().manual_seed(2)
    a, b = torch.rand(3, 32, 28, 3, generator=generator), torch.rand(3, 32, 28, 3, generator=generator)
    with torch.no_grad():
        assert metric(a, b).shape == (3,)
        assert (metric(a, b) > 0).all()
        torch.testing.assert_close(metric(a, b), metric(b, a), rtol=0, atol=0)
        torch.testing.assert_close(metric(a, a), torch.zeros(3), rtol=0, atol=0)
        kept = metric.encode(b)
        torch.testing.assert_close(metric.distance(metric.encode(a), kept), metric(a, b), rtol=0, atol=0)
        torch.testing.assert_close(metric(a[:1], b[:1]), metric(a, b)[:1], rtol=1e-5, atol=0)  # other blocking of the sums


def test_gradient_in_both_images() -> None:
    metric, generator = random_metric(torch.float64), torch.Generator().manual_seed(3)
    a, b = (torch.rand(1, MIN_SIZE, MIN_SIZE, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    # Finite differences cross kinks of the rectifiers and pools: a small step, and one random direction (fast mode).
    assert torch.autograd.gradcheck(metric, (a, b), eps=1e-7, atol=1e-5, rtol=1e-3, fast_mode=True)


def test_gradient_stays_finite_where_all_features_are_zero() -> None:
    metric = random_metric()
    for layer in range(5):
        getattr(metric, f"bias_{layer}").fill_(-100)
    image = torch.zeros(1, 32, 32, 3, requires_grad=True)
    metric(image, torch.rand(1, 32, 32, 3)).sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


def test_weights_stay_out_of_checkpoints_and_optimizers() -> None:
    metric = random_metric()
    assert metric.state_dict() == {}
    assert list(metric.parameters()) == []


@pytest.mark.parametrize("content", [b"", b"not a weight file", b"cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_not_the_weights_is_refused(tmp_path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="ST-LPIPS"):
        PerceptualDistance.load(path)


def test_a_file_of_another_network_is_refused(tmp_path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(FormatError, match="ST-LPIPS"):
        PerceptualDistance.load(tmp_path / "other.pth")


def test_as_a_loss_in_half_precision_it_pulls_the_same_way() -> None:
    """Eight bits of every feature: the distance of noise to a percent, its gradient in direction to a few degrees."""
    image = torch.rand(2, 64, 64, 3)
    wanted, found = (noisy(image).requires_grad_() for _ in range(2))
    distances, slopes = [], []
    for leaf, metric in ((wanted, random_metric()), (found, random_metric().bfloat16())):
        distance = metric(leaf, image)
        distances.append(distance)
        slopes.append(torch.autograd.grad(distance.sum(), leaf)[0])
    assert distances[1].dtype == slopes[1].dtype == torch.float32
    torch.testing.assert_close(distances[1], distances[0], rtol=0.02, atol=0)
    assert F.cosine_similarity(slopes[1].flatten(), slopes[0].flatten(), dim=0) > 0.99
