"""Named parts of a head: their faces, and where they appear in a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadTopology

PixelBox = tuple[slice, slice]
"""Rows and columns of a picture."""

DROPPED_REGIONS = ("neck", "lashes", "eye_socket")
"""Surface that no avatar covers: the torso's part, and what lids and eyeballs cover."""

MOUTH_REGIONS = ("mouth_inner", "teeth_upper", "teeth_lower", "tongue")
"""What lies behind the lips, and closed lips hide."""
EYES_MOUTH_REGIONS = ("lips", *MOUTH_REGIONS, "eye_left", "eye_right", "lids")
"""Where errors are seen first."""
FOLLOWED_REGIONS = {"lips": ("lips",), "eyes": ("eye_left", "eye_right"), "face": ("face",)}
"""What shows whether an avatar follows its person, and the regions of the head around which each is looked at."""
BROW_LANDMARKS = (
    (276, 282, 283, 285, 293, 295, 296, 300, 334, 336),
    (46, 52, 53, 55, 63, 65, 66, 70, 105, 107),
)
"""MediaPipe's landmarks on the subject's left brow and on the right one."""


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


def region_box(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], region: Bool[Tensor, " F"], camera: Camera, margin: float = 0.1
) -> tuple[slice, slice]:
    """Rows and columns of the box around a region's projection, at least one pixel, within it: numbers, for which a GPU is waited for.

    Args:
        vertices: posed head, world space.
        faces: of the head.
        region: the part's faces.
        camera: one view.
        margin: share of the box's size added on every side.
    """
    return points_box(vertices[faces[region].unique()], camera, margin)


def points_box(points: Float[Tensor, "n 3"], camera: Camera, margin: float, least: int = 1) -> PixelBox:
    """Rows and columns of the box around some projected points, within the picture.

    Args:
        points: world space.
        camera: one view.
        margin: share of the box's size added on every side.
        least: rows and columns that it has at least, as far as the picture does.
    """
    first, last = box_around(points, camera, margin, least)
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    return slice(top, bottom), slice(left, right)


def followed_parts(topology: HeadTopology) -> dict[str, list[Int[Tensor, " _"]]]:
    """Vertices of lips, eyes, brows and face, each eye and each brow by itself; what a head does not have is left out."""
    parts = {
        name: [topology.faces[topology.regions[one]].unique() for one in regions]
        for name, regions in FOLLOWED_REGIONS.items()
        if all(one in topology.regions for one in regions)
    }
    points = topology.landmarks.get("mediapipe")
    if points is not None:
        sides = [torch.isin(points.ids, torch.tensor(ids, device=points.ids.device)) for ids in BROW_LANDMARKS]
        if all(bool(side.any()) for side in sides):
            parts["brows"] = [topology.faces[points.faces[side]].unique() for side in sides]
    return parts


def box_around(points: Float[Tensor, "n 3"], camera: Camera, margin: float, least: int = 1) -> tuple[Int[Tensor, "2"], Int[Tensor, "2"]]:
    """First column and row of the box around some projected points, within the picture, and those behind its last.

    Args:
        points: world space.
        camera: one view.
        margin: share of the box's size added on every side.
        least: rows and columns that it has at least, as far as the picture does.
    """
    pixels, _ = camera.project(points)
    low, high = pixels.amin(0), pixels.amax(0)
    extra = torch.maximum(margin * (high - low), (least - (high - low)) / 2)
    starts, ends = (low - extra).floor().long(), (high + extra).ceil().long()
    sizes = (camera.width, camera.height)  # numbers: a tensor of them would have to be brought to the device
    first = torch.stack([start.clamp_max(size - least).clamp_min(0) for start, size in zip(starts, sizes, strict=True)])
    last = torch.stack([end.clamp_max(size) for end, size in zip(ends, sizes, strict=True)]).maximum(first + least)
    return first, torch.stack([end.clamp_max(size) for end, size in zip(last, sizes, strict=True)])
