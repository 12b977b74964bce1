"""Color of hair that no picture shows: that of the nearest hair, with a share of its contrast, drawn out along strands."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from deja_vu.uv.config import StrandConfig
from deja_vu.uv.lift import reject_outliers

WHORL = (0.0, 0.8, -0.6)
"""Direction from the middle of the scalp from which hair falls to all sides."""
SEED = 11
"""Of the strands."""


def continue_hair(
    color: Float[Tensor, "M 3"],
    seen: Float[Tensor, " M"],
    trusted: Bool[Tensor, " M"],
    scalp: Bool[Tensor, " M"],
    directions: Float[Tensor, "M 3"],
    config: StrandConfig = StrandConfig(),
) -> Float[Tensor, "M 3"]:
    """Colors in which hair that was not seen continues what was.

    Args:
        color: of all texels, in [0, 1].
        seen: how far each was seen, in [0, 1]; own and continued color are mixed accordingly.
        trusted: texels seen so well that others may take their color.
        scalp: texels on which hair may grow.
        directions: of every texel from the middle of the scalp, unit length.
        config: how alike, and how distinct, strands are.
    """
    known = scalp & trusted
    if int(known.sum()) < 16:
        return color
    known = reject_outliers(color, known)
    places = known.nonzero()[:, 0]
    places = places[torch.linspace(0, len(places) - 1, min(config.examples, len(places))).long()]
    hidden = (scalp & (seen < 1)).nonzero()[:, 0]
    detail = color[places] - _average(color[places], directions[places], directions[places], config.smooth)
    strength = config.contrast * detail.std(0) * torch.sign(detail.mul(detail.mean(1, keepdim=True)).mean(0))
    noise = _strand_noise(directions[hidden], config)[:, None]
    made = _average(color[places], directions[places], directions[hidden], config.near) + noise * strength
    filled = color.clone()
    filled[hidden] = made.clamp(0, 1).lerp(color[hidden], seen[hidden, None])
    return filled


def _average(color: Float[Tensor, "n 3"], at: Float[Tensor, "n 3"], wanted: Float[Tensor, "m 3"], near: float) -> Float[Tensor, "m 3"]:
    """Colors of directions by inverse distance: near an example nearly its own, far from all of them that of many (Shepard, 1968)."""
    total = []
    for part in wanted.split(4096):
        weight = (near**2 + 2 * (1 - part @ at.T).clamp_min(0)).pow(-2)
        total.append(weight @ color / weight.sum(1, keepdim=True))
    return torch.cat(total)


def _strand_noise(directions: Float[Tensor, "n 3"], config: StrandConfig) -> Float[Tensor, " n"]:
    """Noise of mean 0 and deviation 1 that hardly changes along meridians round the whorl."""
    axis = torch.tensor(WHORL)
    axis = axis / axis.norm()
    side = torch.tensor([1.0, 0.0, 0.0])
    back = torch.linalg.cross(side, axis)
    polar = (directions @ axis).clamp(-1, 1).acos()
    around = torch.atan2(directions @ back, directions @ side)
    generator = torch.Generator().manual_seed(SEED)
    fine = torch.randn(1, 1, config.roots, config.strands, generator=generator)
    coarse = torch.randn(1, 1, config.roots // 3, config.strands // 5, generator=generator)
    coarse = interpolate(coarse, (config.roots, config.strands), mode="bilinear")
    field = torch.cat([fine + coarse] * 2, -1)  # twice round, so that nothing ends at the seam
    waved = around + 0.06 * torch.sin(7 * polar + 3 * around)
    grid = torch.stack([((waved / (2 * math.pi)) % 1.0) - 0.5, polar / math.pi * 2 - 1], -1)[None, None]
    noise = grid_sample(field, grid, align_corners=False, padding_mode="border")[0, 0, 0]
    return (noise - noise.mean()) / noise.std().clamp_min(1e-6)
