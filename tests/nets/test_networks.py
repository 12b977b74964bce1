"""Networks of the field paths: counted against the published figures, and held to their laws."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deja_vu.nets.cost import multiply_adds
from deja_vu.nets.encodings import harmonic, harmonic_size
from deja_vu.nets.mlp import perceptron
from deja_vu.nets.style_unet import StyledLayer, StyleUNet
from deja_vu.nets.triplane import PlaneAttention, sample_planes, total_variation
from deja_vu.nets.upscale import ResidualUpscale, Upscale


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("sizes", "parameters", "gigamacs"),
    [((512, 256, 3, 96), 48_785_871, 56.2), ((512, 512, 32, 3), 48_675_388, 68.5)],
)
def test_the_style_network_has_the_published_size(sizes, parameters, gigamacs) -> None:
    with torch.device("meta"):  # counts need no numbers
        network = StyleUNet(*sizes)
        picture = torch.empty(1, sizes[2], 512, 512)
    assert count(network) == parameters
    assert round(multiply_adds(lambda: network(picture)) / 1e9, 1) == gigamacs


def test_the_style_network_maps_pictures_one_by_one_and_repeats_itself() -> None:
    network = StyleUNet(32, 16, 3, 6, width=0.05)
    pictures = torch.rand(2, 3, 32, 32)
    both = network(pictures)
    assert both.shape == (2, 6, 16, 16)
    for number in range(2):  # grouped convolutions mix nothing between images; sums in another order cost a few last places
        assert torch.allclose(network(pictures[number : number + 1])[0], both[number], atol=1e-4)
    assert torch.equal(network(pictures), both)  # noise stands still
    both.square().mean().backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert all(name.startswith("side_images") for name in silent)


@torch.no_grad()
def test_demodulation_keeps_the_variance_whatever_the_style() -> None:
    layer = StyledLayer(16, 32, 24, 8)
    layer.convolution.modulation.bias.data.normal_()
    x = torch.randn(1, 16, 24, 24)
    quiet, loud = (layer.convolution(x, scale * torch.ones(1, 8)) for scale in (0.1, 10.0))
    for out in (quiet, loud):  # of 576 x 32 correlated samples, and zero borders
        assert float(out[..., 1:-1, 1:-1].std()) == pytest.approx(1, abs=0.15)


def test_attention_over_planes() -> None:
    attention = PlaneAttention(32, 4)
    assert count(attention) - 3 * 32 * 4 * 4 == 6465
    sources = torch.randn(2, 3, 3, 32, 4, 4)
    assert torch.equal(attention(sources[:, :1]), sources[:, 0])
    mixed = attention(sources)
    # A softmax and a sum in another order: rounding only.
    assert torch.allclose(attention(sources[:, [2, 0, 1]]), mixed, atol=1e-5)
    assert torch.allclose(attention(sources[:, :1].expand(-1, 4, -1, -1, -1, -1)), sources[:, 0], atol=1e-5)
    assert (mixed <= sources.amax(1) + 1e-5).all()
    assert (mixed >= sources.amin(1) - 1e-5).all()


def test_planes_are_read_at_their_own_axes() -> None:
    size = 8
    at = (torch.arange(size) + 0.5) * 2 / size - 1
    ramp = torch.stack([at.expand(size, size), at[:, None].expand(size, size)])  # its column, its row
    planes = ramp.expand(3, 2, size, size)[None]
    point = torch.tensor([[[0.25, -0.5, 0.75]]])
    x, y, z = point[0, 0]
    expected = torch.stack([torch.stack([x, y]), torch.stack([x, z]), torch.stack([z, y])]).mean(0)
    assert torch.allclose(sample_planes(planes, point)[0, 0], expected, atol=1e-6)
    assert sample_planes(planes, torch.full((1, 1, 3), 1.5)).abs().max() == 0


def test_total_variation_of_a_ramp() -> None:
    ramp = torch.arange(5.0).expand(2, 5, 5)
    assert total_variation(ramp) == pytest.approx(1.0)
    assert total_variation(torch.ones(1, 4, 4)) == 0


def test_harmonics() -> None:
    x = torch.tensor([[0.3, -1.2]])
    out = harmonic(x, 3)
    assert out.shape[-1] == harmonic_size(2, 3) == 14
    assert torch.allclose(out[0, 2:8], torch.tensor([0.3, 0.6, 1.2, -1.2, -2.4, -4.8]).sin())
    assert torch.allclose(out[0, 8:], torch.tensor([0.3, 0.6, 1.2, -1.2, -2.4, -4.8]).cos())
    assert torch.equal(harmonic(x, 0), x)


def test_a_perceptron_ends_without_activation() -> None:
    network = perceptron((3, 5, 2))
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("kind", ["shuffle", "transposed"])
def test_super_resolution_is_four_times_as_large_and_starts_smooth(kind) -> None:
    assert Upscale(5, 8, 1, 3, kind)(torch.rand(1, 5, 6, 7)).shape == (1, 3, 24, 28)
    network = ResidualUpscale(5, 8, 1, 3, kind)
    x = torch.rand(1, 5, 6, 7)
    smooth = nn.functional.interpolate(x[:, :3], scale_factor=4, mode="bicubic", align_corners=False)
    assert torch.equal(network(x), smooth)


def test_transposed_convolutions_are_billed_at_their_input() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2)
    assert multiply_adds(lambda: layer(torch.rand(1, 4, 10, 10))) == 10 * 10 * 4 * 6 * 9
