"""Where the head ends and where to look: a soft neck plane and the regions of eyes and mouth, from the fitted head."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel, surface_points
from deja_vu.render.mesh import rasterize_mesh

GRID = 128
"""Pixels a side at which depth and regions are rendered; both are smooth or dilated afterwards."""
CHIN = 152
"""MediaPipe's landmark at the bottom of the chin."""
BELOW_CHIN = 0.012
"""Distance of the neck plane below the chin, metres."""
TILT = 0.25
"""Rise of the neck plane per metre towards the back of the head."""
SOFTNESS = 0.003
"""Distance over which the head fades into the neck, metres."""
ATTENTION_REGIONS = ("lips", "mouth_inner", "teeth_upper", "teeth_lower", "tongue", "eye_left", "eye_right", "lids")


class HeadMasks:
    """Soft neck plane and attention regions of one person."""

    def __init__(self, head: HeadModel, shape: Float[Tensor, "S"]) -> None:
        self.head = head
        marks = head.topology.landmarks["mediapipe"]
        chin = int((marks.ids == CHIN).nonzero()[0, 0])
        neutral = head.template + torch.einsum("s,svc->vc", shape, head.shape_basis)
        corners = head.topology.faces[marks.faces[chin]][None]
        self.chin = surface_points(neutral, corners, marks.bary[chin][None])[0]
        named = [head.topology.regions[name] for name in ATTENTION_REGIONS if name in head.topology.regions]
        self.attention_faces = torch.stack(named).any(0)

    def above_neck(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b"]:
        """Signed height of head-space points over the neck plane, metres."""
        return points[..., 1] - (self.chin[1] - BELOW_CHIN) - TILT * (self.chin[2] - points[..., 2])

    def render(self, params: HeadParams, camera: Camera, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Head weight and attention of B frames, uint8 [B resolution resolution].

        A pixel's place in space is the mesh's surface where it covers the pixel, blending to a plane through the head's
        origin beside it, where hair is.
        """
        small = camera.resized(GRID, GRID)
        fragments = rasterize_mesh(self.head(params), self.head.topology.faces, small)
        covered = (fragments.face_id >= 0).float()
        origin = params.world_from_head[:, 2, 3][:, None, None]
        depth = _spread(fragments.depth.nan_to_num() * covered, covered, origin)
        heights = self.above_neck(_to_head(depth, params, small))
        watched = (fragments.face_id >= 0) & self.attention_faces[fragments.face_id.clamp_min(0).long()]
        weights, attention = [], []
        for height, eyes_and_mouth in zip(heights.numpy(), watched.numpy(), strict=True):
            large = cv2.resize(height, (resolution, resolution), interpolation=cv2.INTER_LINEAR)
            weights.append(np.rint(255 / (1 + np.exp(-np.clip(large / SOFTNESS * 2, -40, 40)))).astype(np.uint8))
            grown = cv2.GaussianBlur(cv2.dilate(eyes_and_mouth.astype(np.float32), np.ones((3, 3))), (0, 0), 1.0)
            attention.append(np.rint(255 * cv2.resize(grown, (resolution, resolution))).astype(np.uint8))
        return np.stack(weights), np.stack(attention)


def _spread(depth: Tensor, covered: Tensor, fallback: Tensor) -> Float[Tensor, "B H W"]:
    """Mesh depth, continued outside by blurring and fading into the fallback."""
    filled = []
    for image, mask, far in zip(depth.numpy(), covered.numpy(), fallback[:, 0, 0].numpy(), strict=True):
        weight = cv2.GaussianBlur(mask, (0, 0), 3.0)
        blurred = cv2.GaussianBlur(image, (0, 0), 3.0)
        smooth = (blurred + 0.05 * far) / (weight + 0.05)
        filled.append(np.where(mask > 0, image, smooth).astype(np.float32))
    return torch.from_numpy(np.stack(filled))


def _to_head(depth: Float[Tensor, "B H W"], params: HeadParams, camera: Camera) -> Float[Tensor, "B H W 3"]:
    """Head-space point of every pixel at a given depth, for a camera at the world's origin."""
    rows, columns = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    ray_x = (columns - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
    ray_y = (rows - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1]
    world = torch.stack([ray_x * depth, ray_y * depth, depth], -1)
    rotation, translation = params.world_from_head[:, :3, :3], params.world_from_head[:, :3, 3]
    return (world - translation[:, None, None]) @ rotation[:, None]
