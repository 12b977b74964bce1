"""A photo on the front of the head's expressionless surface, where the same texel shows the same point of the face in every expression."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import FACING_CAMERA
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import dropped_faces
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.render.volume import SCENE_SCALE

FAR = 50.0
"""Distance from which the front is looked at, meters: its rays are as good as parallel."""


@dataclass(frozen=True)
class Front:
    """What is seen of a head from straight before it, on the square [-1, 1] of its scene; columns are x and rows y, both rising."""

    corners: Int[Tensor, "s s 3"]
    """Vertices of the triangle seen; where there is none, of the one seen nearest to it."""
    bary: Float[Tensor, "s s 3"]
    beside: Float[Tensor, "s s 3"]
    """From the point on that triangle to the pixel, meters, head space: nothing where the triangle covers the pixel."""


def find_front(head: HeadModel, shape: Float[Tensor, " S"], size: int) -> Front:
    """The front of a person's expressionless head.

    Args:
        head: on the host.
        shape: the person's identity.
        size: side of the result in pixels.
    """
    vertices = head(replace(head.neutral((1,)), shape=shape[None]))[0]
    faces = head.topology.faces[~dropped_faces(head.topology)]
    pose = torch.eye(4)
    pose[:3, :3], pose[2, 3] = FACING_CAMERA, FAR
    camera = Camera.from_focal(0.5 * size * FAR * SCENE_SCALE, size, size)
    seen = rasterize_mesh(vertices @ pose[:3, :3].T + pose[:3, 3], faces, camera)
    found, bary = seen.face_id.flip(0), seen.bary.flip(0)  # the camera's rows fall with y
    nearest = _nearest_covered(found.numpy() >= 0)
    corners, bary = faces[found.flatten()[nearest]], bary.flatten(0, 1)[nearest]
    at = (torch.arange(size) + 0.5) * (2 / size) - 1
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    pixels = torch.stack([columns, rows], -1) / SCENE_SCALE
    beside = torch.zeros(size, size, 3)
    beside[..., :2] = pixels - (vertices[corners, :2] * bary[..., None]).sum(-2)
    return Front(corners, bary, torch.where((found >= 0)[..., None], 0.0, beside))


def project_front(photo: Batch, head: HeadModel, size: int) -> Float[Tensor, "s s 3"]:
    """Sample one photo's head, before black, where it shows the front of the expressionless surface, or what hides that.

    Args:
        photo: one frame, on the host.
        head: on the host.
        size: side of the result in pixels.
    """
    front, camera = find_front(head, photo.params.shape[0], size), photo.camera.view(0)
    turn = photo.params.world_from_head[0, :3, :3]
    points = (head(photo.params)[0][front.corners] * front.bary[..., None]).sum(-2) + front.beside @ turn.T
    pixels, _ = camera.project(points.reshape(-1, 3))
    grid = pixels / pixels.new_tensor([camera.width, camera.height]) * 2 - 1
    picture = (photo.image * photo.head)[0].movedim(-1, 0)[None]
    return grid_sample(picture, grid.view(1, size, size, 2), padding_mode="zeros", align_corners=False)[0].movedim(0, -1)


def _nearest_covered(covered: np.ndarray) -> Int[Tensor, "s s"]:
    """For each pixel the place, in row-major order, of the covered one nearest to it."""
    _, labels = cv2.distanceTransformWithLabels((~covered).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    places = np.zeros(labels.max() + 1, np.int64)
    places[labels[covered]] = np.flatnonzero(covered)
    return torch.from_numpy(places[labels])
