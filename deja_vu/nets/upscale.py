"""Light super-resolution: residual blocks at the small size, then a larger picture (EDSR, CVPR workshops 2017)."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate


class ConvBlock(nn.Module):
    """x + Conv(LeakyReLU(Conv(x))), no norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Upscale(nn.Module):
    """Pictures four times as wide and high.

    `transposed` is LightAvatar's deployed form (two transposed convolutions of stride two, then one at full size); `shuffle` moves all
    work to the small size and rearranges its last channels into pixels, several times cheaper.
    """

    FACTOR = 4

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, kind: Literal["transposed", "shuffle"]) -> None:
        """Build.

        Args:
            inputs: channels.
            width: channels inside.
            depth: residual blocks.
            outputs: channels.
            kind: how the picture grows.
        """
        super().__init__()
        self.head = nn.Conv2d(inputs, width, 3, padding=1)
        self.body = nn.Sequential(*(ConvBlock(width) for _ in range(depth)), nn.Conv2d(width, width, 3, padding=1))
        if kind == "transposed":
            grow = [nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1) for _ in range(2)]
            self.tail = nn.Sequential(*grow, nn.Conv2d(width, outputs, 3, padding=1))
        else:
            self.tail = nn.Sequential(nn.Conv2d(width, outputs * self.FACTOR**2, 3, padding=1), nn.PixelShuffle(self.FACTOR))

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h4 w4"]:
        head = self.head(x)
        return self.tail(head + self.body(head))


class ResidualUpscale(nn.Module):
    """Enlarges the first channels smoothly and adds what `Upscale` makes of all of them; at the start it adds nothing."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, kind: Literal["transposed", "shuffle"]) -> None:
        super().__init__()
        self.outputs = outputs
        self.detail = Upscale(inputs, width, depth, outputs, kind)
        for parameter in self.detail.tail[2 if kind == "transposed" else 0].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h4 w4"]:
        smooth = interpolate(x[:, : self.outputs], scale_factor=Upscale.FACTOR, mode="bicubic", align_corners=False)
        return smooth + self.detail(x)
