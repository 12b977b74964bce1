"""The neck of an avatar that shows only the head: it closes jaw and nape, ends above the shoulders, and has a floor.

The wall of the neck fades away downwards. What of its surface lies below that makes a floor inside, without which one would look into
the mouth from behind and below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.avatars.gaussian.config import NeckConfig
from deja_vu.core.gaussians import ACTIVATIONS, CHANNELS
from deja_vu.core.head import HeadTopology
from deja_vu.heads.regions import region_faces
from deja_vu.uv.attach import SurfaceFrames

NECK_REGIONS = ("neck_front", "nape")
"""Regions of the bust that such an avatar has."""
GOLDEN_ANGLE = math.pi * (3 - 5**0.5)
"""Turn from one point to the next that fills a disc evenly (Vogel, Mathematical Biosciences 1979), radians."""


@dataclass(frozen=True)
class Neck:
    """Where the texels of a neck go."""

    shown: Float[Tensor, " M"]
    """How much of each is shown, in [0, 1]."""
    floor: Bool[Tensor, " M"]
    """Texels that make the floor."""
    offset: Float[Tensor, "M 3"]
    """Way of each from the surface, in its tangent frame, meters."""
    spacing: Float[Tensor, ""]
    """Distance between neighbors on the floor, meters."""
    floor_opacity: float
    """In (0, 1)."""

    def shape(self, base: Float[Tensor, "M 13"]) -> Float[Tensor, "M 13"]:
        """A raw map of the neck with its fading wall and its floor.

        Args:
            base: of the whole neck's surface, see `init_map`.
        """
        shaped, opacity = base.clone(), CHANNELS["opacity_logit"]
        full = ACTIVATIONS["opacity_logit"].forward(base[:, opacity])
        shown = torch.where(self.floor[:, None], full.new_tensor(self.floor_opacity), full * self.shown[:, None])
        shaped[:, opacity] = torch.logit(shown.clamp_min(1e-3))
        shaped[:, CHANNELS["position"]] += self.offset
        shaped[self.floor, CHANNELS["log_scale"]] = (0.7 * self.spacing).log()
        return shaped


def beyond_neck(bust: HeadTopology) -> Bool[Tensor, " F"]:
    """Faces of the bust that an avatar of the head alone leaves out."""
    return ~region_faces(bust, NECK_REGIONS)


def end_neck(rest: SurfaceFrames, vertices: Float[Tensor, "V 3"], bust: HeadTopology, config: NeckConfig) -> Neck:
    """End the neck between the pit of the throat and the jaw.

    Args:
        rest: texels of the neutral neck in head space [1 M].
        vertices: of the same person's neutral bust, meters.
        bust: its surface.
        config: where the neck ends.
    """
    outside, points = beyond_neck(bust), rest.points[0]
    neck = bust.faces[~outside].unique()
    foot = vertices[neck[torch.isin(neck, bust.faces[outside])]]
    front, back = foot[foot[:, 2].argmax()], foot[foot[:, 2].argmin()]
    slope = (front[1] - back[1]) / (front[2] - back[2])
    steep = (1 + slope.square()).sqrt()
    height = (points[:, 1] - back[1] - slope * (points[:, 2] - back[2])) / steep
    share = ((height - config.end) / config.fade).clamp(0, 1)
    floor = height < config.end
    level = config.end + config.fade + config.floor_rise
    wall = points[(height - level).abs() < config.floor_band]
    place, spacing = fill_disc(wall[:, [0, 2]], points[floor][:, [0, 2]], config)
    on_floor = torch.stack([place[:, 0], back[1] + slope * (place[:, 1] - back[2]) + level * steep, place[:, 1]], 1)
    offset = torch.zeros_like(points)
    offset[floor] = (rest.frames[0, floor].transpose(-1, -2) @ (on_floor - points[floor])[..., None])[..., 0]
    return Neck(share * share * (3 - 2 * share), floor, offset, spacing, config.floor_opacity)


def fill_disc(
    outline: Float[Tensor, "n 2"], points: Float[Tensor, "m 2"], config: NeckConfig
) -> tuple[Float[Tensor, "m 2"], Float[Tensor, ""]]:
    """Places that fill the inside of an outline evenly, and their spacing; each point gets one that lies about as far front as it does.

    Args:
        outline: points on it, around the middle of their box; columns point sideways and to the front.
        points: to be placed.
        config: in how many directions the outline is measured, and how much of it is filled.
    """
    middle = (outline.amin(0) + outline.amax(0)) / 2
    away = outline - middle
    sector = _sector(away, config.floor_sectors)
    lengths = away.norm(dim=1)
    radius = lengths.median().repeat(config.floor_sectors)
    radius[sector.unique()] = torch.stack([lengths[sector == one].amax() for one in sector.unique()])
    number = torch.arange(len(points))
    angle = number * GOLDEN_ANGLE
    toward = torch.stack([angle.cos(), angle.sin()], 1)
    length = config.floor_share * radius[_sector(toward, config.floor_sectors)] * ((number + 0.5) / max(len(points), 1)).sqrt()
    places = middle + length[:, None] * toward
    matched = torch.empty_like(places)
    matched[points[:, 1].argsort()] = places[places[:, 1].argsort()]
    return matched, (math.pi * radius.square().mean() / max(len(points), 1)).sqrt()


def _sector(away: Float[Tensor, "n 2"], sectors: int) -> Int[Tensor, " n"]:
    turn = torch.atan2(away[:, 1], away[:, 0]) / (2 * math.pi) % 1
    return (turn * sectors).long().clamp_max(sectors - 1)
