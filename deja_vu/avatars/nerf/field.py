"""The radiance field: density and features of a sample from the planes, the surface points near it and the view."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from deja_vu.avatars.nerf.config import NerfConfig
from deja_vu.nets.encodings import harmonic, harmonic_size
from deja_vu.nets.expression_field import PointField, PointMean, weigh_neighbors, weighted_mean
from deja_vu.nets.mlp import perceptron
from deja_vu.nets.triplane import sample_plane, sample_planes

DENSITY = 100.0
"""Density of a sample whose logit is one, per scene unit: one centimeter of it lets through less than a hundredth of the light."""
SHARPNESS = 10.0
"""Of the softplus from logit to density."""
PRIOR_WIDTH = 0.02
"""Scene units over which the surface prior's logit falls by one across the surface."""
PRIOR_LOW = -0.3
"""Least logit of the surface prior: hair must be able to grow above the surface."""
PRIOR_HIGH = 1.0
"""Largest logit of the surface prior."""
BEGINNING = 0.03
"""Share of the last layers' usual weights where colors begin as those of a picture, and density as that of the surface."""
WIDEN = 0.001
"""Colors may pass the ends of [0, 1] by so much, that black and white are reached."""


@dataclass(frozen=True)
class PosedPoints:
    """The head's points of one frame, in scene coordinates."""

    points: Float[Tensor, "V 3"]
    normals: Float[Tensor, "V 3"]
    displacement: Float[Tensor, "V 3"]
    """From the expressionless head."""


class RadianceField(nn.Module):
    """Planes and points in, density and features out; the same decoder as published at every size."""

    def __init__(self, config: NerfConfig, points: int) -> None:
        super().__init__()
        self.config = config
        size, width = config.point_features, config.width
        self.points: PointField | PointMean
        if config.points == "perceptron":
            self.points = PointField(points, size, 2 * size, unit_offsets=config.unit_offsets)
        else:
            self.points = PointMean(points, size)
        self.read = nn.Linear(config.plane_channels + size, width)
        self.code = nn.Linear(config.code, width, bias=False) if config.code else None
        self.trunk = perceptron((width, width, width))
        self.density = nn.Linear(width, 1)
        self.shade = perceptron((width + harmonic_size(3, config.view_octaves), width // 2, config.features))
        if config.picture:
            with torch.no_grad():
                for last in (self.density, self.shade[-1]):
                    assert isinstance(last, nn.Linear)
                    last.weight.mul_(BEGINNING)
                    last.bias.mul_(BEGINNING)

    def forward(
        self,
        planes: Float[Tensor, "3 C s s"],
        surface: PosedPoints,
        samples: Float[Tensor, "n 3"],
        directions: Float[Tensor, "n 3"],
        index: Int[Tensor, "n K"],
        square: Float[Tensor, "n K"],
        code: Float[Tensor, " D"] | None,
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n F"]]:
        """Density per scene unit, and features whose first three are a color.

        Args:
            planes: XY, XZ, ZY.
            surface: posed head.
            samples: in the cube [-1, 1].
            directions: unit, from the camera.
            index: surface points near each sample.
            square: of their distances; infinite ones count for nothing.
            code: of the frame.
        """
        near = weigh_neighbors(index, square)
        moved = torch.cat([surface.displacement, surface.normals, (surface.normals * surface.points).sum(1, keepdim=True)], 1)
        shift, normal, offset = weighted_mean(moved, near).split([3, 3, 1], 1)
        at = samples - shift if self.config.canonical else samples
        read = sample_planes(planes[None], at[None])[0]
        hidden = self.read(torch.cat([read, self.points(samples, surface.points, near)], 1))
        if self.code is not None:
            hidden = hidden + self.code(code)
        hidden = self.trunk(relu(hidden))
        logit = self.density(hidden)[:, 0]
        if self.config.surface_prior:
            height = (normal * samples).sum(1) - offset[:, 0]
            logit = logit + (-height / PRIOR_WIDTH).clamp(PRIOR_LOW, PRIOR_HIGH)
        features = self.shade(torch.cat([hidden, harmonic(directions, self.config.view_octaves)], 1))
        if self.config.picture:
            features = torch.cat([features[:, :3] + sample_plane(planes[0, :3], at[:, :2]), features[:, 3:]], 1)
        color = features[:, :3].sigmoid() * (1 + 2 * WIDEN) - WIDEN
        return DENSITY * softplus(logit, SHARPNESS), torch.cat([color, features[:, 3:]], 1)
