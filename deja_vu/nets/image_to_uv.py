"""The published network of Gaussian Deja-vu (WACV 2025): a face picture in, a UV Gaussian map out.

An encoder in image space and a decoder in UV space, without skips between them, as the two are not aligned; the positions of the
head's surface enter the decoder at every size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, max_pool2d, pad

ENCODER = (64, 64, 128, 256, 512)
"""Channels at full side, half, a quarter ..."""
POSITIONS = 3
OUTPUTS = 13
PARAMETERS = 8_584_809
"""Of the published network."""


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Twice: 3 x 3 convolution with reflected border, instance normalization, ReLU; neither has a bias or scale."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, padding_mode="reflect", bias=False), nn.InstanceNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UpBlock(nn.Module):
    """Twice the side by a transposed convolution, whose checks a small fixed blur takes away; then a double convolution."""

    blur: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)
        self.convolve = double_convolution(inputs, outputs)
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("blur", taps.outer(taps)[None, None], persistent=False)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h2 w2"]:
        large = self.enlarge(x)
        kernel = self.blur.expand(large.shape[1], 1, 3, 3)
        return self.convolve(conv2d(pad(large, (1, 1, 1, 1), mode="reflect"), kernel, groups=large.shape[1]))


class ImageToUV(nn.Module):
    """8,584,809 parameters; published for sides of 320, works on every multiple of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(double_convolution(a, b) for a, b in zip((3, *ENCODER[:-1]), ENCODER, strict=True))
        widths = (*reversed(ENCODER[1:]), ENCODER[0])
        self.decoder = nn.ModuleList(UpBlock(a + POSITIONS, b) for a, b in zip(widths[:-1], (256, 128, 64, 64), strict=True))
        self.out = nn.Conv2d(ENCODER[0], OUTPUTS, 1)

    def forward(self, image: Float[Tensor, "B 3 s s"], positions: Float[Tensor, "B 3 s s"]) -> Float[Tensor, "B 13 s s"]:
        """Raw offsets.

        Args:
            image: head crop in [-1, 1], its background white.
            positions: surface of the head by texel, meters.
        """
        assert image.shape[-1] == image.shape[-2] == positions.shape[-1], (image.shape, positions.shape)
        assert image.shape[-1] % 16 == 0, image.shape
        x = image
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else max_pool2d(x, 2))
        for block in self.decoder:
            place = interpolate(positions, x.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([x, place], 1))
        return self.out(x)
