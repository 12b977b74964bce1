"""Named parts of a head: their faces, and where they appear in a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadTopology

DROPPED_REGIONS = ("neck", "lashes", "eye_socket")
"""Surface that no avatar covers: the torso's part, and what lids and eyeballs cover."""


def region_faces(topology: HeadTopology, names: Sequence[str]) -> Bool[Tensor, " F"]:
    """Faces in at least one of some regions.

    Args:
        topology: of a head that has one of the regions or more.
        names: of the regions; those that the head does not have are passed over.
    """
    return torch.stack([topology.regions[name] for name in names if name in topology.regions]).any(0)


def dropped_faces(topology: HeadTopology) -> Bool[Tensor, " F"]:
    """Faces that carry no Gaussians and no field, see `DROPPED_REGIONS`."""
    return region_faces(topology, DROPPED_REGIONS)


def region_window(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], region: Bool[Tensor, " F"], camera: Camera, margin: float = 0.1
) -> tuple[slice, slice]:
    """Rows and columns of the box around a region's projection, at least one pixel, within the picture.

    Args:
        vertices: posed head, world space.
        faces: of the head.
        region: the part's faces.
        camera: one view.
        margin: share of the box's size added on every side.
    """
    pixels, _ = camera.project(vertices[faces[region].unique()])
    low, high = pixels.amin(0), pixels.amax(0)
    extra = margin * (high - low)
    size = torch.tensor([camera.width, camera.height], device=pixels.device)
    first = (low - extra).floor().long().clamp_min(0).minimum(size - 1)
    last = (high + extra).ceil().long().minimum(size).maximum(first + 1)
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    return slice(top, bottom), slice(left, right)
