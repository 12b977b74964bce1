"""From what photos show of each texel to a correction of the lifted UV Gaussian map.

Evidence is aligned with the output texel by texel, so a U-Net with skips fits. Photos are fused before it, by attention in each
texel whose weights start as the photos' trust; a code of the whole picture tells the U-Net what no texel shows (style of hair, light).
The last layer starts at zero: an untrained network leaves the lifted map as it is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle, silu

from deja_vu.nets.config import UVNetConfig

FOLD = 2
"""Texels a side that one cell of the network's finest grid holds."""
LEAST_TRUST = 1e-3
"""Trust of a photo that does not show a texel at all: all photos count alike where none does."""
NORM_GROUPS = 8


class Block(nn.Module):
    """Residual block of one or two convolutions, scaled and shifted by the code."""

    def __init__(self, inputs: int, outputs: int, code: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.style = nn.Linear(code, 2 * outputs)
        self.second = nn.Sequential(nn.GroupNorm(NORM_GROUPS, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        if depth == 1:
            self.second = nn.Sequential()
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.style.weight)
        nn.init.zeros_(self.style.bias)

    def forward(self, x: Float[Tensor, "B c h w"], code: Float[Tensor, "B k"]) -> Float[Tensor, "B d h w"]:
        scale, shift = self.style(code)[..., None, None].chunk(2, dim=1)
        inner = self.first(silu(self.norm(x))) * (1 + scale) + shift
        return self.skip(x) + self.second(inner)


class PictureEncoder(nn.Module):
    """Code of a whole head crop."""

    def __init__(self, channels: int, widths: tuple[int, ...], code: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((channels, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(NORM_GROUPS, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.code = nn.Linear(widths[-1], code)

    def forward(self, pictures: Float[Tensor, "B c h w"]) -> Float[Tensor, "B k"]:
        return self.code(self.layers(pictures).mean((2, 3)))


class Fusion(nn.Module):
    """Features of N photos become one, whatever N and whatever their order."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(inputs, outputs, 1)
        self.mixed = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.score = nn.Conv2d(outputs, 1, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, photos: Float[Tensor, "B N c h w"], trust: Float[Tensor, "B N h w"]) -> Float[Tensor, "B d h w"]:
        features = self.features(photos.flatten(0, 1))
        features = features + self.mixed(silu(features))
        score = self.score(features).unflatten(0, trust.shape[:2]) + (trust[:, :, None] + LEAST_TRUST).log()
        return (score.softmax(1) * features.unflatten(0, trust.shape[:2])).sum(1)


class UVNet(nn.Module):
    """Correction of a lifted map from its evidence."""

    def __init__(
        self, photo_channels: int, shared_channels: int, picture_channels: int, outputs: tuple[int, int], config: UVNetConfig
    ) -> None:
        """Build the network.

        Args:
            photo_channels: of a texel in each photo.
            shared_channels: of a texel, from all photos together.
            picture_channels: of the whole pictures.
            outputs: channels of the map that vary from cell to cell, smoothly, and after them those that vary from texel to texel. Shape
                belongs to the first: a cell's texels would share their work unevenly, which is seen as a comb at any outline.
            config: sizes.
        """
        super().__init__()
        widths, cell = config.widths, FOLD * FOLD
        self.picture = PictureEncoder(picture_channels, config.code_widths, config.code)
        self.fusion = Fusion(cell * (photo_channels + 1), widths[0])
        self.stem = nn.Conv2d(widths[0] + cell * shared_channels, widths[0], 1)
        depths = [1 if level == 0 else 2 for level in range(len(widths))]
        self.down = nn.ModuleList(
            Block(inputs, outputs, config.code, depth)
            for inputs, outputs, depth in zip((widths[0], *widths[:-1]), widths, depths, strict=True)
        )
        self.up = nn.ModuleList(
            Block(widths[level] + widths[level + 1], widths[level], config.code, depths[level])
            for level in reversed(range(len(widths) - 1))
        )
        self.norm = nn.GroupNorm(NORM_GROUPS, widths[0])
        self.smooth, sharp = outputs
        self.out = nn.Conv2d(widths[0], self.smooth + cell * sharp, 1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        photos: Float[Tensor, "B N c s s"],
        trust: Float[Tensor, "B N s s"],
        shared: Float[Tensor, "B d s s"],
        pictures: Float[Tensor, "B N e h w"],
    ) -> Float[Tensor, "B o s s"]:
        """Corrections of B maps.

        Args:
            photos: evidence of each photo, 0 where no texel is valid.
            trust: how well each photo shows each texel, in [0, 1].
            shared: evidence of all photos together, and of the head.
            pictures: head crops.
        """
        assert photos.shape[-1] % (FOLD << len(self.up)) == 0, photos.shape
        code = self.picture(pictures.flatten(0, 1)).unflatten(0, trust.shape[:2]).mean(1)
        folded = pixel_unshuffle(torch.cat([photos, trust[:, :, None]], 2), FOLD)
        x = self.stem(torch.cat([self.fusion(folded, avg_pool2d(trust, FOLD)), pixel_unshuffle(shared, FOLD)], 1))
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else avg_pool2d(x, 2), code)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat([interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1), code)
        out = self.out(silu(self.norm(x)))
        smooth = interpolate(out[:, : self.smooth], scale_factor=FOLD, mode="bilinear", align_corners=False)
        return torch.cat([smooth, pixel_shuffle(out[:, self.smooth :], FOLD)], 1)
