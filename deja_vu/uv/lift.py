"""Colors of texels, from images that show them, and by push-pull for texels that no image shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, max_pool2d, normalize

from deja_vu.core.camera import Camera
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.layout import UVLayout

DEPTH_TOLERANCE = 0.006
"""A texel further than this behind the nearest surface is hidden, meters."""
RIM_PIXELS = 1
"""Pixels along the head's outline whose color is not taken for the head's: light from behind shines into them."""


@dataclass(frozen=True)
class TexelView:
    """Samples of B pictures at M texels."""

    color: Float[Tensor, "B M 3"]
    alpha: Float[Tensor, "B M"]
    """Coverage of the head at the texel's pixel."""
    within: Float[Tensor, "B M"]
    """The least coverage of the head within `RIM_PIXELS` of that pixel."""
    facing: Float[Tensor, "B M"]
    """Cosine between the normal and the direction to the camera."""
    unhidden: Float[Tensor, "B M"]
    """1 where no other part of the head lies before the texel."""

    @property
    def trust(self) -> Float[Tensor, "B M"]:
        """Weight of each picture's color at each texel, in [0, 1]."""
        return self.facing.clamp_min(0).square() * self.unhidden * (self.within > 0.95)


def sample_plane(plane: Float[Tensor, "B H W 1"], points: Float[Tensor, "B M 3"], camera: Camera) -> Float[Tensor, "B M"]:
    """What a plane of B pictures holds in the pixels to which points project, whatever lies before them; 0 beyond the pictures."""
    pixels, _ = camera.project(points)
    grid = (pixels / pixels.new_tensor([camera.width / 2, camera.height / 2]) - 1)[:, None]
    return grid_sample(plane.movedim(-1, 1), grid, mode="nearest", align_corners=False)[:, 0, 0]


def sample_texels(
    surface: SurfaceFrames,
    camera: Camera,
    depth: Float[Tensor, "B h w"],
    image: Float[Tensor, "B H W 3"],
    alpha: Float[Tensor, "B H W 1"],
    tolerance: Float[Tensor, " M"] | float = DEPTH_TOLERANCE,
) -> TexelView:
    """Sample B pictures at every texel.

    Args:
        surface: posed texels of every picture.
        camera: the pictures' camera, or one each, at the world's origin.
        depth: depth of the posed mesh on any grid over the same view; 0 where there is none.
        image: colors in [0, 1].
        alpha: where the picture shows the head, in [0, 1].
        tolerance: how far behind the nearest surface a texel is still seen, meters.
    """
    pixels, distance = camera.project(surface.points)
    grid = (pixels / pixels.new_tensor([camera.width / 2, camera.height / 2]) - 1)[:, None]
    nearest = grid_sample(depth[:, None], grid, mode="nearest", align_corners=False)[:, 0, 0]
    facing = -(surface.frames[..., 2] * normalize(surface.points, dim=-1)).sum(-1)
    within = erode(alpha, RIM_PIXELS)
    picture = torch.cat([image, alpha, within], -1).permute(0, 3, 1, 2)
    sampled = grid_sample(picture, grid, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
    unhidden = (nearest == 0) | (distance < nearest + tolerance)
    return TexelView(
        color=sampled[..., :3], alpha=sampled[..., 3], within=sampled[..., 4], facing=facing, unhidden=unhidden.to(sampled.dtype)
    )


def erode(alpha: Float[Tensor, "B H W 1"], pixels: int) -> Float[Tensor, "B H W 1"]:
    """Least alpha within some pixels along rows and columns."""
    return -max_pool2d(-alpha.permute(0, 3, 1, 2), 2 * pixels + 1, 1, pixels).permute(0, 2, 3, 1)


class ColorLift:
    """Weighted mean of the colors that texels show in some frames; squarely seen texels weigh more."""

    def __init__(self, count: int, min_trust: float = 0.1) -> None:
        """Begin without a frame.

        Args:
            count: texels.
            min_trust: squared cosine between normal and view from which on a texel's color is taken: at the rim, the background shines
                through.
        """
        self.min_trust = min_trust
        self.total, self.weight, self.best = torch.zeros(count, 3), torch.zeros(count), torch.zeros(count)
        self.facing = torch.full((count,), -1.0)

    def add(
        self,
        surface: SurfaceFrames,
        camera: Camera,
        depth: Float[Tensor, "B h w"],
        image: Float[Tensor, "B H W 3"],
        alpha: Float[Tensor, "B H W 1"],
    ) -> None:
        """Add B frames; see `sample_texels`."""
        view = sample_texels(surface, camera, depth, image, alpha)
        self.total += (view.trust[..., None] * view.color).sum(0)
        self.weight += view.trust.sum(0)
        self.best = torch.maximum(self.best, view.trust.amax(0))
        self.facing = torch.maximum(self.facing, view.facing.amax(0))

    def colors(self, layout: UVLayout, scalp: Bool[Tensor, " M"] | None = None) -> Float[Tensor, "M 3"]:
        """Mean color of every texel in [0, 1]; texels never seen well take the color of their surroundings in the chart.

        Args:
            layout: the texels' chart.
            scalp: texels that are filled from each other alone, so that the back of a head gets the color of hair, not of skin.
        """
        mean = self.total / self.weight.clamp_min(1e-6)[:, None]
        known = self.best > self.min_trust
        if scalp is None or not (known & scalp).any():
            return push_pull(mean, known, layout)
        filled = torch.where((scalp & ~known)[:, None], push_pull(mean, reject_outliers(mean, known & scalp), layout), mean)
        return torch.where(scalp[:, None], filled, push_pull(mean, known & ~scalp, layout))


def reject_outliers(values: Float[Tensor, "M C"], chosen: Bool[Tensor, " M"]) -> Bool[Tensor, " M"]:
    """The chosen texels, one or more, whose value is near their median: the hairline's skin is no example of hair."""
    unlike = (values - values[chosen].median(0).values).abs().sum(-1)
    return chosen & (unlike <= 2 * unlike[chosen].median())


def push_pull(values: Float[Tensor, "M C"], known: Tensor, layout: UVLayout) -> Float[Tensor, "M C"]:
    """Fill unknown texels with the average of the finest pyramid level that knows anything there (The Lumigraph, SIGGRAPH 1996)."""
    weight = layout.scatter(known.float()[:, None]).permute(2, 0, 1)[None]
    image = layout.scatter(values * known[:, None]).permute(2, 0, 1)[None]
    levels = [(image, weight)]
    while levels[-1][1].shape[-1] > 1:
        image, weight = (torch.nn.functional.avg_pool2d(level, 2, ceil_mode=True) for level in levels[-1])
        levels.append((image, weight))
    filled = levels[-1][0] / levels[-1][1].clamp_min(1e-8)
    for image, weight in reversed(levels[:-1]):
        coarse = interpolate(filled, size=image.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 1e-6, image / weight.clamp_min(1e-6), coarse)
    return filled[0].flatten(1).T[layout.texels]


def fill_from_nearest(
    values: Float[Tensor, "M C"], weight: Float[Tensor, " M"], points: Float[Tensor, "M D"], known: float, neighbors: int
) -> Float[Tensor, "M C"]:
    """Values of all texels; those that are hardly known fade into the mean of the nearest known ones in space.

    A chart's pieces lie beside each other at random, so that its surroundings there say nothing about a piece no frame shows.

    Args:
        values: of each texel.
        weight: how well each is known.
        points: where texels lie, in any space in which what is alike is near, meters.
        known: weight from which a value is taken as it is.
        neighbors: over how many known texels the others take their mean, closer ones counting more.
    """
    source = torch.nonzero(weight >= known)[:, 0]
    if not len(source):
        return values
    count = min(neighbors, len(source))
    distance, place = cKDTree(points[source].double().numpy()).query(points.double().numpy(), k=[*range(1, count + 1)])
    share = 1 / (torch.from_numpy(distance).float() + 0.005) ** 2 * weight[source][torch.from_numpy(place)]
    mean = (values[source][torch.from_numpy(place)] * share[..., None]).sum(1) / share.sum(1, keepdim=True)
    return mean.lerp(values, (weight / known).clamp(0, 1)[:, None])
