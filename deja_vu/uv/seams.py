"""Seams of a chart: texels on both sides of a cut are neighbors on the surface, but not in the chart."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.uv.layout import UVLayout

CANDIDATES = 12
"""Nearest border texels among which the other side of a seam is looked for."""


def border_texels(layout: UVLayout) -> Bool[Tensor, " M"]:
    """Texels that lack at least one of their four neighbors in the chart."""
    valid = layout.scatter(torch.ones(len(layout), 1))[..., 0].bool()
    padded = torch.nn.functional.pad(valid, (1, 1, 1, 1))
    whole = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return ~whole.flatten()[layout.texels]


def seam_gaps(points: Float[Tensor, "M 3"], layout: UVLayout) -> Float[Tensor, " M"]:
    """Distance from each texel on a seam to the nearest one on its other side, 0 where there is none, meters.

    Only texels whose triangles share a vertex lie on one seam: lips and lids are near each other without one.

    Args:
        points: where the texels lie, meters.
        layout: their chart.
    """
    border = torch.nonzero(border_texels(layout))[:, 0]
    gaps = torch.zeros(len(points))
    if len(border) < 2:
        return gaps
    count = min(CANDIDATES + 1, len(border))
    distance, place = cKDTree(points[border].double().numpy()).query(points[border].double().numpy(), k=[*range(2, count + 1)])
    other = border[torch.from_numpy(place)]
    row, column = layout.texels // layout.size, layout.texels % layout.size
    apart = ((row[border, None] - row[other]).abs() > 2) | ((column[border, None] - column[other]).abs() > 2)
    joined = (layout.corners[border][:, None, :, None] == layout.corners[other][:, :, None, :]).any(-1).any(-1)
    across = torch.where(apart & joined, torch.from_numpy(distance).float(), torch.inf).amin(1)
    gaps[border] = torch.where(across.isinf(), 0.0, across)
    return gaps
