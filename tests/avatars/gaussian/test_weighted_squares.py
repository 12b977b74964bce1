from __future__ import annotations

import torch

from deja_vu.avatars.gaussian.weighted_squares import weighted_squares


def test_sums_are_those_written_out_and_so_are_their_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    values, texels, channels = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in ((7, 5), (3, 7), (3, 5)))
    expected = torch.einsum("tm,tc,mc->t", texels, channels, values.square())
    torch.testing.assert_close(weighted_squares(values, texels, channels), expected)
    assert torch.autograd.gradcheck(lambda leaf: weighted_squares(leaf, texels, channels), (values.requires_grad_(),))
