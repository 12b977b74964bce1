"""Fused losses against their twins in plain torch, in values and gradients: on a CPU by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from deja_vu.losses import photometric

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-6}
"""Relative to the largest value; SSIM's variances cancel, which costs float32 another digit."""


def pair(shape: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures that resemble each other; the second is constant in a corner, where variances vanish."""
    a = torch.rand(shape, dtype=torch.float64)
    b = (a + 0.1 * torch.randn(shape, dtype=torch.float64)).clamp(0, 1)
    b[:, :3, :3] = 0.5
    return a.to(device), b.to(device)


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert (found.detach().double() - expected.detach()).abs().max() <= tolerance * expected.detach().abs().max()


@pytest.mark.parametrize("shape", [(2, 13, 29, 3), (1, 6, 6, 1), (1, 9, 70, 4)])
def test_similarity_is_that_of_plain_torch(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    from deja_vu.kernels.ssim import ssim_map

    a, b = pair(shape, device)
    exact, given = a.clone().requires_grad_(), a.to(dtype).requires_grad_()
    expected = photometric._ssim_torch(exact, b)
    found = ssim_map(given, b.to(dtype), photometric.window_taps(dtype, device))
    upstream = torch.randn(shape, dtype=torch.float64).to(device)
    tolerance = TOLERANCE[dtype] * (30 if dtype == torch.float32 else 1)
    assert_close(found, expected, tolerance)
    (slope,) = torch.autograd.grad(found, given, upstream.to(dtype))
    (wanted,) = torch.autograd.grad(expected, exact, upstream)
    assert_close(slope, wanted, tolerance)


def test_similarity_without_gradients(device: torch.device) -> None:
    from deja_vu.kernels.ssim import ssim_map

    a, b = (image.float() for image in pair((1, 8, 8, 3), device))
    assert_close(ssim_map(a, b, photometric.window_taps(a.dtype, device)), photometric._ssim_torch(a.double(), b.double()), 1e-5)
    torch.testing.assert_close(ssim_map(a, a, photometric.window_taps(a.dtype, device)), torch.ones_like(a), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 17, 23, 3), (1, 40, 40, 4), (3, 1, 1, 1)])
def test_huber_is_that_of_plain_torch(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    from deja_vu.kernels.distance import masked_huber

    a, b = pair(shape, device)
    mask = torch.rand(*shape[:-1], 1, dtype=torch.float64).to(device)
    exact, given = a.clone().requires_grad_(), a.to(dtype).requires_grad_()
    expected = photometric.huber(exact, b, 0.1, mask)
    found = masked_huber(given, b.to(dtype), mask.to(dtype), 0.1)
    assert_close(found, expected, TOLERANCE[dtype])
    (slope,), (wanted,) = (torch.autograd.grad(3 * value, leaf) for value, leaf in ((found, given), (expected, exact)))
    assert_close(slope, wanted, TOLERANCE[dtype])


def test_huber_of_pixels_that_do_not_count_is_nothing(device: torch.device) -> None:
    from deja_vu.kernels.distance import masked_huber

    a = torch.rand(2, 5, 5, 3, device=device, requires_grad=True)
    for shape in ((2, 5, 5, 3), (0, 5, 5, 3)):
        pictures = a[: shape[0]]
        found = masked_huber(pictures, torch.zeros_like(pictures), torch.zeros(*shape[:-1], 1, device=device), 0.1)
        assert found.item() == 0
        (slope,) = torch.autograd.grad(found, a)
        assert float(slope.abs().sum()) == 0
