"""What a surface and its chart must obey, counted the plain way."""

from __future__ import annotations

import torch
from torch import Tensor


def edges(faces: Tensor) -> Tensor:
    """The three directed edges of every triangle [3 F 2]."""
    return torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def coverage(uv: Tensor, faces: Tensor, size: int) -> Tensor:
    """How many triangles hold each texel's center strictly inside, by testing every texel of each triangle's box."""
    count = torch.zeros(size, size, dtype=torch.int32)
    points = uv.double() * size - 0.5
    for a, b, c in points[faces]:
        low, high = torch.stack([a, b, c]).amin(0).ceil().long(), torch.stack([a, b, c]).amax(0).floor().long()
        area = (b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]
        if (high < low).any() or area == 0:
            continue
        x, y = torch.meshgrid(torch.arange(low[0], high[0] + 1), torch.arange(low[1], high[1] + 1), indexing="xy")
        second = ((x - a[0]) * (c - a)[1] - (y - a[1]) * (c - a)[0]) / area
        third = ((b - a)[0] * (y - a[1]) - (b - a)[1] * (x - a[0])) / area
        inside = torch.stack([second, third, 1 - second - third]).amin(0) > 1e-5  # a shared edge belongs to neither
        count[y[inside], x[inside]] += 1
    return count
