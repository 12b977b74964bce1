"""The table from texels to points of the surface, built once from the UV chart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.errors import ConfigError
from deja_vu.core.head import HeadTopology

MIN_SIZE = 64
"""Fewest texels a side."""
MAX_SIZE = 512
"""Most texels a side."""
AnyTable = TypeVar("AnyTable", bound="TexelTable")


@dataclass(frozen=True, kw_only=True)
class TexelTable:
    """Points of a surface on which M texels lie."""

    faces: Int[Tensor, " M"]
    """Triangle under each texel's center."""
    corners: Int[Tensor, "M 3"]
    """Vertex indices of that triangle."""
    bary: Float[Tensor, "M 3"]
    """Barycentric coordinates of the texel's center."""
    uv_gradient: Float[Tensor, "M 2"]
    """Weights (a, b) of the triangle's edges (p1 - p0, p2 - p0) that give the direction in which u grows."""

    def __len__(self) -> int:
        return len(self.faces)

    def to(self: AnyTable, device: torch.device | str) -> AnyTable:
        """The same table on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)})

    def join(self, other: TexelTable, vertices: int, faces: int) -> TexelTable:
        """These texels, then those of another surface that follows on this one in one list of vertices and faces.

        Args:
            other: texels of the surface behind.
            vertices: how many this surface has.
            faces: how many this surface has.
        """
        return TexelTable(
            faces=torch.cat([self.faces, other.faces + faces]),
            corners=torch.cat([self.corners, other.corners + vertices]),
            bary=torch.cat([self.bary, other.bary]),
            uv_gradient=torch.cat([self.uv_gradient, other.uv_gradient]),
        )


@dataclass(frozen=True, kw_only=True)
class UVLayout(TexelTable):
    """Texel-to-surface table over the M texels of a chart whose center a triangle covers."""

    size: int
    """Texels a side, s."""
    texels: Int[Tensor, " M"]
    """Row-major index of each valid texel in the s x s map, ascending."""
    hash: str
    """Digest of size, chart and table; an avatar stores it and refuses another layout."""

    def scatter(self, values: Float[Tensor, "M C"], fill: float = 0.0) -> Float[Tensor, "s s C"]:
        """The values as an image, `fill` where no texel is valid."""
        image = values.new_full((self.size * self.size, values.shape[-1]), fill)
        image[self.texels] = values
        return image.unflatten(0, (self.size, self.size))


def build_layout(topology: HeadTopology, size: int, drop: Tensor | None = None) -> UVLayout:
    """Rasterize the UV chart at texel centers.

    Args:
        topology: surface with its chart; faces of zero UV area own no texel.
        size: texels a side, 64 to 512.
        drop: faces to leave out [F] bool.

    Raises:
        ConfigError: `size` is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"UV size {size} is out of range: expected {MIN_SIZE} to {MAX_SIZE} texels a side.")
    triangles = topology.uv[topology.uv_faces].double().numpy() * size
    if drop is not None:
        triangles[drop.numpy()] = 0.0
    texels, faces, bary = _covered_centers(triangles, size)
    edges = triangles[faces]
    e1, e2 = edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    gradient = np.stack([e2[:, 1], -e1[:, 1]], axis=1) / area[:, None]
    digest = hashlib.sha256(np.int64(size).tobytes() + texels.tobytes() + faces.tobytes() + np.round(bary, 5).tobytes())
    return UVLayout(
        size=size,
        texels=torch.from_numpy(texels),
        faces=torch.from_numpy(faces),
        corners=topology.faces[torch.from_numpy(faces)],
        bary=torch.from_numpy(bary).float(),
        uv_gradient=torch.from_numpy(gradient).float(),
        hash=digest.hexdigest()[:16],
    )


def _covered_centers(triangles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texels whose center a triangle covers, that triangle, and barycentric coordinates; the first triangle wins on a shared edge."""
    low = np.clip(np.ceil(triangles.min(1) - 0.5), 0, size).astype(np.int64)
    high = np.clip(np.floor(triangles.max(1) - 0.5) + 1, 0, size).astype(np.int64)
    extent = np.maximum(high - low, 0)
    count = extent.prod(1)
    owner = np.repeat(np.arange(len(triangles)), count)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    x = low[owner, 0] + rank % np.maximum(extent[owner, 0], 1)
    y = low[owner, 1] + rank // np.maximum(extent[owner, 0], 1)
    center = np.stack([x, y], axis=1) + 0.5
    a, b, c = triangles[owner, 0], triangles[owner, 1], triangles[owner, 2]
    area = _cross(b - a, c - a)
    inside = np.abs(area) > 1e-9
    safe = np.where(inside, area, 1.0)
    bary = (
        np.stack([_cross(b - center, c - center), _cross(c - center, a - center), _cross(a - center, b - center)], axis=1) / safe[:, None]
    )
    inside &= (bary >= -1e-9).all(1)
    texels, first = np.unique((y * size + x)[inside], return_index=True)
    return texels, owner[inside][first], bary[inside][first]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def resample_weights(coarse: UVLayout, fine: UVLayout) -> tuple[Int[Tensor, "M 4"], Float[Tensor, "M 4"]]:
    """Bilinear taps that carry values from the texels of one layout to those of another of the same chart.

    Taps that fall on invalid texels are dropped and the rest renormalized; a texel with no valid tap takes the nearest
    valid texel of the coarse layout.

    Returns:
        Indices into the coarse layout's valid texels and their weights, for each valid texel of the fine layout.
    """
    slots = torch.full((coarse.size * coarse.size,), -1, dtype=torch.long)
    slots[coarse.texels] = torch.arange(len(coarse))
    row, column = fine.texels // fine.size, fine.texels % fine.size
    x = (column + 0.5) * coarse.size / fine.size - 0.5
    y = (row + 0.5) * coarse.size / fine.size - 0.5
    x0, y0 = x.floor(), y.floor()
    taps, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - (x - x0 - dx).abs()) * (1 - (y - y0 - dy).abs())
            tx = (x0 + dx).long().clamp(0, coarse.size - 1)
            ty = (y0 + dy).long().clamp(0, coarse.size - 1)
            tap = slots[ty * coarse.size + tx]
            taps.append(tap.clamp_min(0))
            weights.append(torch.where(tap >= 0, weight, torch.zeros_like(weight)))
    index, weight = torch.stack(taps, 1), torch.stack(weights, 1)
    untapped = weight.sum(1) < 1e-6
    if untapped.any():
        ours = torch.stack([y[untapped], x[untapped]], 1)
        theirs = torch.stack([coarse.texels // coarse.size, coarse.texels % coarse.size], 1).float()
        index[untapped] = torch.cdist(ours, theirs).argmin(1, keepdim=True).expand(-1, 4)
        weight[untapped] = 0.25
    return index, weight / weight.sum(1, keepdim=True)
