"""GPAvatar's image network: a U-Net whose decoder modulates a style generator (after GFPGAN, CVPR 2021, and StyleGAN2, CVPR 2020)."""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, leaky_relu

STYLE_LAYERS = 8
GAIN = math.sqrt(2)
"""Keeps the variance of what a leaky ReLU is going to halve."""
INNER_SHARE = 0.3
"""Deviation of what a residual block adds to its input at the start, as a share of the input's."""
SCALE_SHARE = 0.1
"""Deviation of the generator's scales about one at the start."""
SHIFT_SHARE = 0.5
"""Deviation of its shifts, which are what the generator sees of the picture."""


def generator_width(size: int, width: float) -> int:
    """Channels of the generator at an image side: 512 up to 32 pixels, then halved with every doubling, times `width`."""
    return max(8, round(width * min(512, 512 * 32 // size)))


def unet_width(size: int, width: float) -> int:
    """Channels of the U-Net at an image side: half the generator's."""
    return generator_width(size, width) // 2


class ModulatedConv(nn.Module):
    """Convolution whose kernel is scaled by a style, per image; the input may be doubled in size first."""

    def __init__(self, inputs: int, outputs: int, kernel: int, style: int, *, demodulate: bool, up: bool = False) -> None:
        super().__init__()
        self.demodulate, self.up = demodulate, up
        self.modulation = nn.Linear(style, inputs)
        nn.init.ones_(self.modulation.bias)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / math.sqrt(inputs * kernel * kernel))

    def forward(self, x: Float[Tensor, "B c h w"], style: Float[Tensor, "B s"]) -> Float[Tensor, "B d h2 w2"]:
        weight = self.weight * self.modulation(style)[:, None, :, None, None]
        if self.demodulate:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        if self.up:
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        batch, outputs = weight.shape[:2]
        grouped = conv2d(x.flatten(0, 1)[None], weight.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
        return grouped.view(batch, outputs, *grouped.shape[2:])


class StyledLayer(nn.Module):
    """Modulated convolution, fixed noise of learned strength, bias, leaky ReLU.

    The noise is drawn once from a seed: live noise would make two renders of one frame differ, which flickers.
    """

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.convolution = ModulatedConv(inputs, outputs, 3, style, demodulate=True, up=up)
        self.strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        noise = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(size + up))
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, x: Float[Tensor, "B c h w"], style: Float[Tensor, "B s"]) -> Float[Tensor, "B d h2 w2"]:
        return leaky_relu(GAIN * self.convolution(x, style) + self.strength * self.noise + self.bias, 0.2)


class ToImage(nn.Module):
    """A generator level's share of the picture, added to the coarser levels' share."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.convolution = ModulatedConv(inputs, outputs, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor, style: Tensor, coarser: Tensor | None) -> Tensor:
        image = self.convolution(x, style) + self.bias
        return image if coarser is None else image + interpolate(coarser, scale_factor=2, mode="bilinear", align_corners=False)


class GeneratorLevel(nn.Module):
    """Twice the size: styled layer, scale and shift from the U-Net, styled layer, share of the picture."""

    def __init__(self, inputs: int, outputs: int, image: int, size: int, style: int) -> None:
        super().__init__()
        self.first = StyledLayer(inputs, outputs, size, style, up=True)
        self.second = StyledLayer(outputs, outputs, size, style)
        self.to_image = ToImage(outputs, image, style)

    def forward(self, x: Tensor, style: Tensor, scale: Tensor, shift: Tensor, coarser: Tensor) -> tuple[Tensor, Tensor]:
        x = self.second(self.first(x, style) * scale + shift, style)
        return x, self.to_image(x, style, coarser)


class ResizeBlock(nn.Module):
    """Residual block that halves or doubles the image side."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.first = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.second = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h2 w2"]:
        def resize(y: Tensor) -> Tensor:
            return interpolate(y, scale_factor=self.factor, mode="bilinear", align_corners=False)

        inner = leaky_relu(self.second(resize(leaky_relu(self.first(x), 0.2))), 0.2)
        return inner + self.skip(resize(x))


class StyleUNet(nn.Module):
    """Image to image or feature planes: U-Net features modulate every level of a style generator.

    At width 1 it is GPAvatar's: 48,785,871 parameters for (512, 256, 3, 96), 48,675,388 for (512, 512, 32, 3).
    """

    def __init__(self, in_size: int, out_size: int, in_channels: int, out_channels: int, width: float = 1.0) -> None:
        """Build for one pair of image sides.

        Args:
            in_size: side of the input, a power of two.
            out_size: side of the output, a power of two, at most `in_size`.
            in_channels: of the input.
            out_channels: of the output.
            width: factor on all channel counts.
        """
        super().__init__()
        assert 8 <= out_size <= in_size, (in_size, out_size)
        assert in_size & (in_size - 1) == out_size & (out_size - 1) == 0, (in_size, out_size)
        self.in_size, self.out_size = in_size, out_size
        style = round(512 * width)
        downs = [in_size >> step for step in range(in_size.bit_length() - 2)]  # in_size ... 8, 4
        ups = [8 << step for step in range(out_size.bit_length() - 3)]  # 8, 16 ... out_size
        u, g = (lambda size: unet_width(size, width)), (lambda size: generator_width(size, width))
        self.stem = nn.Conv2d(in_channels, u(in_size), 1)
        self.down = nn.ModuleList(ResizeBlock(u(a), u(b), 0.5) for a, b in itertools.pairwise(downs))
        self.bottom = nn.Conv2d(u(4), u(4), 3, padding=1)
        self.code = nn.Linear(u(4) * 16, style)
        self.up = nn.ModuleList(ResizeBlock(u(size // 2), u(size), 2) for size in ups)
        self.side_images = nn.ModuleList(nn.Conv2d(u(size), 3, 1) for size in ups)
        """Of the published network, which never reads them either; kept so that its weights fit."""
        self.scales = nn.ModuleList(_branch(u(size), g(size)) for size in ups)
        """Less one: at the start nothing is scaled."""
        self.shifts = nn.ModuleList(_branch(u(size), g(size)) for size in ups)
        layers = [layer for _ in range(STYLE_LAYERS) for layer in (nn.Linear(style, style), nn.LeakyReLU(0.2))]
        self.style = nn.Sequential(*layers)
        self.constant = nn.Parameter(torch.randn(1, g(4), 4, 4))
        self.first = StyledLayer(g(4), g(4), 4, style)
        self.first_image = ToImage(g(4), out_channels, style)
        self.levels = nn.ModuleList(GeneratorLevel(g(size // 2), g(size), out_channels, size, style) for size in ups)
        self._draw_weights()

    @torch.no_grad()
    def _draw_weights(self) -> None:
        """Weights under which the picture's variance stays what it is through blocks that add to it; otherwise it doubles in each."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ResizeBlock):
                nn.init.kaiming_normal_(module.skip.weight, a=1.0)
                module.second.weight.mul_(INNER_SHARE)
        for branch, share in [*((scale, SCALE_SHARE) for scale in self.scales), *((shift, SHIFT_SHARE) for shift in self.shifts)]:
            assert isinstance(branch, nn.Sequential)
            last = branch[-1]
            assert isinstance(last, nn.Conv2d)
            last.weight.mul_(share)

    @torch.no_grad()
    def scale_output(self, share: float) -> None:
        """Multiply what every level adds to the output, and with it the output itself while all biases are zero."""
        for module in self.modules():
            if isinstance(module, ToImage):
                module.convolution.weight.mul_(share)

    def forward(self, image: Float[Tensor, "B c s s"]) -> Float[Tensor, "B d t t"]:
        assert image.shape[2:] == (self.in_size, self.in_size), image.shape
        x = leaky_relu(self.stem(image), 0.2)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = leaky_relu(self.bottom(x), 0.2)
        style = self._map_style(self.code(x.flatten(1)))
        conditions = []
        for number, block in enumerate(self.up):
            x = block(x + skips[-1 - number])
            conditions.append((1 + self.scales[number](x), self.shifts[number](x)))
        out = self.first(self.constant.expand(len(image), -1, -1, -1), style)
        picture = self.first_image(out, style, None)
        for level, (scale, shift) in zip(self.levels, conditions, strict=True):
            out, picture = level(out, style, scale, shift, picture)
        return picture

    def _map_style(self, code: Float[Tensor, "B s"]) -> Float[Tensor, "B s"]:
        return self.style(code * (code.square().mean(1, keepdim=True) + 1e-8).rsqrt())


def _branch(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(inputs, outputs, 3, padding=1))
