"""The distance of the fitted head's contour from the border of the matte.

Pixels inside the face say little about a head that turns while the mouth is pulled aside; hair, temples and ears against the
background do.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from deja_vu.tracking.config import SilhouetteConfig
from deja_vu.uv.layout import UVLayout
from deja_vu.uv.lift import push_pull

FIELD_SIDE = 128
"""Side of a stored distance field."""
UNITS = 8.0
"""Steps of a stored distance in a pixel of the matte: 1/8 pixel, so that 8 bits reach 16 pixels."""
FINER = 2
"""Enlargement of a matte before it is cut at one half, so that its soft border counts."""


@dataclass(frozen=True)
class ContourPoints:
    """The outermost surface point in each of n sectors of B frames."""

    index: Int[Tensor, "B n"]
    distance: Float[Tensor, "B n"]
    """Of the point inside the matte's border, pixels of the matte; negative outside."""
    slope: Float[Tensor, "B n 2"]
    """Derivative of the distance by the point's pixel."""
    trusted: Bool[Tensor, "B n"]


class Silhouettes:
    """Signed distance of every pixel from the border of every frame's matte, and the contour points that are measured on it."""

    def __init__(self, alpha: UInt8[Tensor, "T H W"], valid: UInt8[Tensor, "H W"], config: SilhouetteConfig) -> None:
        self.side, self.config = alpha.shape[-1], config
        device, alpha, valid = alpha.device, alpha.cpu(), valid.cpu()
        self.fields: Int8[Tensor, "T h w"] = torch.stack([_distances(matte.numpy()) for matte in alpha]).to(device)
        window = np.ones((config.unknown_margin, config.unknown_margin), np.uint8)
        clear = cv2.erode(valid.numpy(), window, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        self.clear = torch.from_numpy(clear > 127).float().to(device)
        room = cv2.distanceTransform((valid.numpy() > 127).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        self.room = torch.from_numpy(room).clamp_max(float(self.side)).to(device)

    def find_contour(self, frames: Int[Tensor, " B"], pixels: Float[Tensor, "B P 2"], usable: Bool[Tensor, " P"]) -> ContourPoints:
        """Contour of some frames.

        Args:
            frames: whose mattes.
            pixels: of the surface points in these frames.
            usable: points of which the contour may consist.
        """
        places, sectors = usable.nonzero()[:, 0], self.config.sectors
        candidates = pixels[:, places]
        arm = candidates - candidates.mean(1, keepdim=True)
        radius = arm.norm(dim=-1)
        sector = ((torch.atan2(arm[..., 1], arm[..., 0]) / (2 * torch.pi) + 0.5) * sectors).long().clamp(0, sectors - 1)
        farthest = radius.new_zeros(len(frames), sectors).scatter_reduce(1, sector, radius, "amax")
        outer = radius >= farthest.gather(1, sector)
        order = torch.arange(len(places), device=pixels.device).expand_as(sector)
        chosen = sector.new_full((len(frames), sectors), -1).scatter_reduce(1, sector, torch.where(outer, order, -1), "amax")
        index = places[chosen.clamp_min(0)]
        grid = pixels.gather(1, index[..., None].expand(-1, -1, 2)) / (self.side / 2) - 1
        distance, slope = self._sample(frames, grid)
        planes = torch.stack([self.clear, self.room]).expand(len(frames), -1, -1, -1)
        clear, room = grid_sample(planes, grid[:, None], align_corners=False)[:, :, 0].unbind(1)
        near = (distance.abs() < self.config.max_distance) & (distance.abs() < room - self.config.unknown_nearer)
        trusted = (chosen >= 0) & (clear > 0.99) & near
        return ContourPoints(index, distance, slope, trusted)

    def _sample(self, frames: Tensor, grid: Float[Tensor, "B n 2"]) -> tuple[Tensor, Tensor]:
        """Distance in pixels of the matte, and its slope by central differences over two pixels of the field."""
        field = self.fields[frames][:, None].float() / UNITS
        step = 2 / FIELD_SIDE
        offsets = grid.new_tensor([[0.0, 0.0], [step, 0.0], [-step, 0.0], [0.0, step], [0.0, -step]])
        places = grid[:, None] + offsets[None, :, None]
        middle, right, left, down, up = grid_sample(field, places, padding_mode="border", align_corners=False)[:, 0].unbind(1)
        reach = 2 * self.side / FIELD_SIDE
        return middle, torch.stack([right - left, down - up], -1) / reach


def mean_distance(contours: list[ContourPoints], layout: UVLayout, reach: float) -> Float[Tensor, " P"]:
    """How far inside the matte's border each point lies when it is on the contour, on average: what hair and cheeks add to the mesh.

    Args:
        contours: of training frames.
        layout: the surface points' chart.
        reach: distance from the first mean at which a measurement counts half, pixels.
    """
    index, distance, trusted = (torch.cat([getattr(c, name) for c in contours]).flatten() for name in ("index", "distance", "trusted"))
    none = distance.new_zeros(len(layout))
    mean, weight = none, trusted.float()
    for _ in range(3):
        total, summed = none.index_add(0, index, weight), none.index_add(0, index, weight * distance)
        mean = push_pull((summed / total.clamp_min(1e-6))[:, None], total > 0.5, layout)[:, 0]
        weight = trusted / (1 + ((distance - mean[index]) / reach) ** 2)
    return mean


def _distances(matte: UInt8[np.ndarray, "H W"]) -> Int8[Tensor, "h w"]:
    large = cv2.resize(matte, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_LINEAR)
    inside = (large > 127).astype(np.uint8)
    within, beyond = (cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5) for mask in (inside, 1 - inside))
    signed = np.where(inside > 0, within - 0.5, 0.5 - beyond) / FINER
    small = cv2.resize(signed, (FIELD_SIDE, FIELD_SIDE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.rint(small * UNITS).clip(-127, 127).astype(np.int8))
