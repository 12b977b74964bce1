"""The network on the texels' evidence, and the published one."""

from __future__ import annotations

import pytest
import torch

from deja_vu.nets.config import UVNetConfig
from deja_vu.nets.image_to_uv import PARAMETERS, ImageToUV
from deja_vu.nets.uv_unet import UVNet

SMALL = UVNetConfig(widths=(8, 16, 16), code=8, code_widths=(8, 8))


def network(seed: int = 0) -> UVNet:
    """A small network whose last layer is not zero, as after training."""
    torch.manual_seed(seed)
    net = UVNet(5, 4, 3, (4, 2), SMALL)
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return net.double().eval()


def evidence(photos: int, side: int = 32):
    """Random evidence of two people."""
    draw = torch.Generator().manual_seed(photos)

    def rand(*size):
        return torch.rand(*size, generator=draw, dtype=torch.float64)

    return rand(2, photos, 5, side, side), rand(2, photos, side, side), rand(2, 4, side, side), rand(2, photos, 3, 16, 16)


@torch.no_grad()
@pytest.mark.parametrize("photos", [1, 2, 5])
def test_any_number_of_photos_in_any_order(photos):
    net, (texels, trust, shared, pictures) = network(), evidence(photos)
    order = torch.randperm(photos)
    out = net(texels, trust, shared, pictures)
    assert out.shape == (2, 6, 32, 32)
    # Sums over photos run in another order: float64 rounding, grown by the layers behind.
    torch.testing.assert_close(net(texels[:, order], trust[:, order], shared, pictures[:, order]), out, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_same_photo_twice_is_one_photo():
    net, (texels, trust, shared, pictures) = network(), evidence(1)
    twice = [part.expand(-1, 2, *part.shape[2:]) for part in (texels, trust, pictures)]
    torch.testing.assert_close(net(twice[0], twice[1], shared, twice[2]), net(texels, trust, shared, pictures), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_what_a_photo_does_not_show_hardly_counts():
    net, (texels, trust, *_) = network(), evidence(2)
    torch.nn.init.zeros_(net.fusion.score.weight)
    trust[:, 0], trust[:, 1] = 1.0, 0.0
    fused = net.fusion(texels[..., :8, :8].repeat(1, 1, 5, 1, 1)[:, :, :24], trust[..., :8, :8])
    texels[:, 1] += 1.0
    other = net.fusion(texels[..., :8, :8].repeat(1, 1, 5, 1, 1)[:, :, :24], trust[..., :8, :8])
    assert (other - fused).abs().max() < 0.01 * fused.abs().max()
    assert (other - fused).abs().max() > 0


@torch.no_grad()
def test_untrained_it_corrects_nothing():
    texels, trust, shared, pictures = (part.float() for part in evidence(2))
    assert not UVNet(5, 4, 3, (4, 2), SMALL)(texels, trust, shared, pictures).any()


@torch.no_grad()
def test_shape_varies_smoothly_and_color_by_texel():
    """What alternates from texel to texel: hardly anything in a bilinear enlargement by two."""
    net, parts = network(), evidence(1)
    comb = torch.tensor([1.0, -1.0]).double().repeat(16)
    out = net(*parts)[..., 2:-2, 2:-2]
    period = (out * comb[2:-2]).mean(-1).abs().mean((0, 2))
    assert period[:4].max() < 0.1 * period[4:].min()


@torch.no_grad()
def test_the_published_network():
    net = ImageToUV()
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS == 8_584_809
    assert net(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)).shape == (2, 13, 32, 32)
    with pytest.raises(AssertionError):
        net(torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40))
