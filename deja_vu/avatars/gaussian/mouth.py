"""The mouth's walls, moved inwards so that they are seen only between the lips.

A throat that reaches to the nape shows from behind and below.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deja_vu.core.head import HeadTopology
from deja_vu.heads.regions import region_faces
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.layout import UVLayout

INNER_MOUTH = ("mouth_inner", "tongue")
"""Regions that are drawn in; the teeth stay."""
MOUTH_DEPTH = 0.045
"""Distance behind the lips at which the mouth ends: beyond the last teeth, and well inside the cheeks, meters."""


def inner_mouth(topology: HeadTopology, layout: UVLayout) -> Bool[Tensor, " M"]:
    """Texels of the mouth's walls and of the tongue; none on a head without such."""
    names = [name for name in INNER_MOUTH if name in topology.regions]
    return region_faces(topology, names)[layout.faces] if names else torch.zeros(len(layout), dtype=torch.bool)


def draw_in(rest: SurfaceFrames, inner: Bool[Tensor, " M"]) -> Float[Tensor, "M 3"]:
    """Offsets in tangent frames that draw what lies deep in the mouth towards the lips, until nothing lies deeper than `MOUTH_DEPTH`.

    Args:
        rest: texels of the neutral head in head space [1 M].
        inner: the mouth's walls and tongue.
    """
    points, frames = rest.points[0], rest.frames[0]
    if not inner.any():
        return torch.zeros_like(points)
    front = points[inner & (points[:, 2] > points[inner, 2].amax() - 0.01)]
    middle = torch.stack([torch.zeros_like(front[0, 0]), (front[:, 1].amin() + front[:, 1].amax()) / 2, front[:, 2].amax()])
    depth = middle[2] - points[:, 2]
    share = torch.where(inner, 1 - MOUTH_DEPTH / depth.clamp_min(MOUTH_DEPTH), torch.zeros_like(depth))
    return (frames.transpose(-1, -2) @ (share[:, None] * (middle - points))[..., None])[..., 0]
