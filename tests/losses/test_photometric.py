from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from deja_vu.losses.photometric import dssim_loss, huber, ssim, ssim_map

SHAPES = [(2, 37, 29, 3), (1, 6, 6, 1), (3, 20, 50, 4), (1, 16, 16, 3)]


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(shape, generator=generator)
    return a, (a + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torchmetrics(variant, shape):
    a, b = pair(shape)
    expected = structural_similarity_index_measure(a.movedim(-1, 1), b.movedim(-1, 1), data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b, reduction="none"), expected, atol=1e-5, rtol=0)  # both round in float32
    torch.testing.assert_close(ssim(a, b), expected.mean(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_native_gradient_equals_autograd_in_double(variant, shape):
    a, b = pair(shape)
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    (found,) = torch.autograd.grad(ssim_map(a.requires_grad_(), b), a, upstream)
    double = a.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(ssim_map(double, b.double()), double, upstream.double())
    assert ((found - expected).norm() / expected.norm()).item() < 2e-5  # float32 variances of nearly equal sums


def test_gradient_by_finite_differences():
    a, b = (image.double() for image in pair((1, 8, 7, 2)))
    assert torch.autograd.gradcheck(ssim_map, (a.requires_grad_(), b.requires_grad_()))


def test_same_bits_whatever_the_number_of_threads():
    a, b = pair((3, 70, 40, 3))
    a.requires_grad_()
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        values = ssim_map(a, b)
        results.append((values.detach(), torch.autograd.grad(values, a, b)[0]))
    torch.set_num_threads(before)
    for values, gradient in results[1:]:
        assert torch.equal(values, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_an_image_resembles_itself_completely():
    a, b = pair((1, 20, 20, 3))
    torch.testing.assert_close(ssim_map(a, a), torch.ones_like(a), atol=1e-5, rtol=0)
    assert dssim_loss(a, a).abs() < 1e-6
    torch.testing.assert_close(ssim(a, b), ssim(b, a))


def test_masks_weigh_pixels():
    a, b = pair((2, 16, 18, 3))
    mask = torch.zeros(2, 16, 18, 1)
    mask[:, 4:9, 3:12] = 1
    window = 0.5 * (1 - ssim_map(a, b))[:, 4:9, 3:12]
    torch.testing.assert_close(dssim_loss(a, b, mask), window.mean())
    torch.testing.assert_close(huber(a, b, 0.1, mask), huber(a[:, 4:9, 3:12], b[:, 4:9, 3:12], 0.1))
    assert dssim_loss(a, b, torch.zeros_like(mask)) == 0


def test_huber_by_its_definition():
    a, b = pair((1, 9, 9, 3))
    d = np.abs((a - b).numpy().astype(float))
    expected = np.where(d <= 0.05, d**2 / 2, 0.05 * (d - 0.025)).mean()
    assert huber(a, b, 0.05).item() == pytest.approx(expected, rel=1e-5)


def test_unbatched_and_empty():
    a, b = pair((12, 12, 3))
    assert ssim(a, b, reduction="none").shape == ()
    assert ssim_map(torch.zeros(0, 12, 12, 3), torch.zeros(0, 12, 12, 3)).shape == (0, 12, 12, 3)


@pytest.mark.usefixtures("unchecked_types")
def test_refusals():
    with pytest.raises(ValueError, match="at least 6 pixels a side"):
        ssim(torch.zeros(1, 5, 9, 3), torch.zeros(1, 5, 9, 3))
    with pytest.raises(ValueError, match="one shape"):
        ssim(torch.zeros(1, 9, 9, 3), torch.zeros(1, 9, 9, 1))
