"""A mouth for heads that end at their lips (FLAME): two ruled sheets from the lips to a line behind them, as in Gaussian Deja-vu.

Every vertex of the sheets is a fixed mixture of vertices of the lips, moved back by a constant; so they have the lips' shapes, expressions
and skinning. Where the mouth is follows from the mesh: its hole that lies in the region of the lips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deja_vu.heads.base import HeadData

COLUMNS = 24
"""Vertices of the sheets along the lips."""
ROWS = 5
"""Vertices of each sheet from the lip to the line behind, both included."""
DEPTH = 0.02
"""Distance of that line behind the corners of the mouth, meters."""
STRIP = 0.1
"""Lowest part of the chart, which is cleared for the sheets."""
PATCH = (0.3, 0.7)
"""From where to where the sheets reach across the chart."""
GAP = 0.01
"""Free chart above and below the sheets."""
REGION = "mouth_inner"


@dataclass(frozen=True)
class ChartedMesh:
    """What of a head the sheets are added to."""

    data: HeadData
    faces: np.ndarray
    uv: np.ndarray
    """v downwards."""
    uv_faces: np.ndarray
    regions: Mapping[str, Tensor]


def add_mouth(surface: ChartedMesh) -> ChartedMesh:
    """The surface with sheets in its mouth; as it was where no hole lies in the region `lips`."""
    corners = find_lips(surface)
    if corners is None:
        return surface
    mixture = mix(*corners, len(surface.data.template))
    old, data = len(surface.data.template), surface.data

    def extend(values: Tensor, axis: int) -> Tensor:
        added = torch.tensordot(mixture, values, ([1], [axis])).movedim(0, axis)
        return torch.cat([values, added], axis)

    template = extend(data.template, 0)
    back = torch.ones(2 * ROWS - 1, COLUMNS) - (torch.arange(2 * ROWS - 1) - (ROWS - 1)).abs()[:, None] / (ROWS - 1)
    template[old:, 2] -= DEPTH * back.flatten()
    cells = np.arange((2 * ROWS - 1) * COLUMNS).reshape(-1, COLUMNS)
    a, b, c, d = (cells[:-1, :-1].ravel(), cells[:-1, 1:].ravel(), cells[1:, :-1].ravel(), cells[1:, 1:].ravel())
    sheet = np.concatenate([np.stack([a, c, d], 1), np.stack([a, d, b], 1)])
    points = template[old:].numpy()
    normals = np.cross(points[sheet[:, 1]] - points[sheet[:, 0]], points[sheet[:, 2]] - points[sheet[:, 0]])
    sheet = sheet if normals[:, 2].sum() > 0 else sheet[:, ::-1]
    across, down = np.meshgrid(np.linspace(*PATCH, COLUMNS), np.linspace(1 - STRIP + GAP, 1 - GAP, 2 * ROWS - 1))
    uv = np.concatenate([surface.uv * [1, 1 - STRIP], np.stack([across.ravel(), down.ravel()], 1)])
    regions = {name: torch.cat([mask, torch.zeros(len(sheet), dtype=torch.bool)]) for name, mask in surface.regions.items()}
    regions[REGION] = torch.arange(len(surface.faces) + len(sheet)) >= len(surface.faces)
    return ChartedMesh(
        data=replace(
            data,
            template=template,
            shape_basis=extend(data.shape_basis, 1),
            expression_basis=extend(data.expression_basis, 1),
            skin_weights=extend(data.skin_weights, 0),
            pose_basis=None if data.pose_basis is None else extend(data.pose_basis, 1),
        ),
        faces=np.concatenate([surface.faces, sheet + old]),
        uv=uv,
        uv_faces=np.concatenate([surface.uv_faces, sheet + len(surface.uv)]),
        regions=regions,
    )


def find_lips(surface: ChartedMesh) -> tuple[np.ndarray, np.ndarray] | None:
    """Vertices of the upper and the lower lip from the right corner of the mouth (-x) to its left one; None where none is open."""
    if "lips" not in surface.regions:
        return None
    lips = np.unique(surface.faces[surface.regions["lips"].numpy()])
    loops = [loop for loop in find_holes(surface.faces) if len(loop) >= 6 and np.isin(loop, lips).mean() > 0.5]
    if not loops:
        return None
    loop = max(loops, key=len)
    points = surface.data.template.numpy()[loop]
    loop = np.roll(loop, -int(points[:, 0].argmin()))
    points = surface.data.template.numpy()[loop]
    left = int(points[:, 0].argmax())
    one, other = loop[: left + 1], np.concatenate([loop[left:], loop[:1]])[::-1]
    height = [surface.data.template.numpy()[line, 1].mean() for line in (one, other)]
    return (one, other) if height[0] > height[1] else (other, one)


def find_holes(faces: np.ndarray) -> list[np.ndarray]:
    """Closed lines of edges that belong to one triangle only; where such edges meet in one vertex, none is followed."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, place, count = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    border = edges[count[place.ravel()] == 1]
    starts, times = np.unique(border[:, 0], return_counts=True)
    after = {int(a): int(b) for a, b in border if a in set(starts[times == 1].tolist())}
    loops = []
    while after:
        begin, loop = next(iter(after)), []
        here: int | None = begin
        while here is not None and here in after:
            loop.append(here)
            here = after.pop(here)
        if here == begin:
            loops.append(np.array(loop))
    return loops


def mix(upper: np.ndarray, lower: np.ndarray, vertices: int) -> Tensor:
    """Mixture of a head's vertices that makes those of the sheets [n V]: rows from the upper lip back, then to the lower one."""

    def along(line: np.ndarray) -> np.ndarray:
        """COLUMNS points, evenly spaced by number, on a line of vertices."""
        place = np.linspace(0, len(line) - 1, COLUMNS)
        first = np.minimum(place.astype(int), len(line) - 2)
        weights = np.zeros((COLUMNS, vertices))
        weights[np.arange(COLUMNS), line[first]] += 1 - (place - first)
        weights[np.arange(COLUMNS), line[first + 1]] += place - first
        return weights

    behind = along(upper[[0, -1]])
    share = np.linspace(0, 1, ROWS)[:, None, None]
    sheets = [(1 - share) * along(line) + share * behind for line in (upper, lower)]
    return torch.from_numpy(np.concatenate([sheets[0], sheets[1][-2::-1]]).reshape(-1, vertices)).float()
