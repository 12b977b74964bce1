"""Masks drawn from the fitted head: where it ends at the neck, and the regions of eyes and mouth."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import EYES_MOUTH_REGIONS, region_faces
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.config import HeadMaskConfig


class HeadMasks:
    """Where the head of one person is, and where its eyes and mouth are."""

    def __init__(self, head: HeadModel, config: HeadMaskConfig = HeadMaskConfig()) -> None:
        self.head, self.config, regions = head, config, head.topology.regions
        marks = head.topology.landmarks["mediapipe"]
        lowest = head.at_points(marks.faces, marks.bary).template[:, 1].argmin()[None]
        self.chin = head.at_points(marks.faces[lowest], marks.bary[lowest])
        self.neck_faces = regions["neck"]
        self.eyes_mouth_faces = region_faces(head.topology, EYES_MOUTH_REGIONS)

    def render(self, params: HeadParams, camera: Camera, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Head weight and mask of eyes and mouth of B frames, uint8 [B resolution resolution].

        On the mesh, a pixel belongs to the head unless it shows the neck region. Beside it, where hair is, it does if it lies
        above a plane under the chin; its place in space is taken to be in the plane through the head's origin that faces the camera.
        """
        small = camera.resize(self.config.grid, self.config.grid)
        faces = rasterize_mesh(self.head(params), self.head.topology.faces, small).face_id
        shown = faces.clamp_min(0).long()
        on_mesh, on_neck = (faces >= 0).float().numpy(), ((faces >= 0) & self.neck_faces[shown]).float().numpy()
        on_eyes_mouth = ((faces >= 0) & self.eyes_mouth_faces[shown]).float().numpy()
        beside = torch.sigmoid(4 * self._above_neck(params, small) / self.config.softness).numpy()
        weights, eyes_mouth = [], []
        for mesh, neck, air, eyes_and_mouth in zip(on_mesh, on_neck, beside, on_eyes_mouth, strict=True):
            near = cv2.GaussianBlur(mesh, (0, 0), self.config.edge)
            blurred = cv2.GaussianBlur(mesh - neck, (0, 0), self.config.edge) / np.maximum(near, 1e-3)
            weight = near * blurred + (1 - near) * air
            weights.append(_enlarge(weight, resolution))
            grown = cv2.GaussianBlur(cv2.dilate(eyes_and_mouth, np.ones((5, 5))), (0, 0), 2.0)
            eyes_mouth.append(_enlarge(grown, resolution))
        return np.stack(weights), np.stack(eyes_mouth)

    def _above_neck(self, params: HeadParams, camera: Camera) -> Float[Tensor, "B H W"]:
        """Signed height of every pixel's billboard point over the plane under the chin, meters."""
        chin, config = self.chin.rest(params)[:, 0], self.config
        points = _to_head(params.world_from_head[:, 2, 3][:, None, None].expand(-1, camera.height, camera.width), params, camera)
        plane = chin[:, 1, None, None] - config.below_chin + config.tilt * (chin[:, 2, None, None] - points[..., 2])
        beyond = (points[..., 0].abs() - config.half_width).clamp_min(0)
        return points[..., 1] - plane - (config.shoulder_rise * beyond).clamp_max(config.shoulder_top)


def head_alpha(foreground: UInt8[np.ndarray, "*b H W"], weight: UInt8[np.ndarray, "*b H W"]) -> UInt8[np.ndarray, "*b H W"]:
    """Coverage of the head, 0 to 255: the person's where the head is, by the weight of `HeadMasks.render`."""
    return np.rint(foreground * (weight / 255.0)).astype(np.uint8)


def _enlarge(image: np.ndarray, resolution: int) -> np.ndarray:
    return np.rint(255 * cv2.resize(image, (resolution, resolution), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def _to_head(depth: Float[Tensor, "B H W"], params: HeadParams, camera: Camera) -> Float[Tensor, "B H W 3"]:
    """Head-space point of every pixel at a given depth, for a camera at the world's origin."""
    rows, columns = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    ray_x = (columns - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
    ray_y = (rows - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1]
    world = torch.stack([ray_x * depth, ray_y * depth, depth], -1)
    rotation, translation = params.world_from_head[:, :3, :3], params.world_from_head[:, :3, 3]
    return (world - translation[:, None, None]) @ rotation[:, None]
