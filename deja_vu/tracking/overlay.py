"""The fitted head drawn over the video, to see at a glance whether tracking holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.base import HeadModel, surface_points
from deja_vu.io.video import write_video
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.uv.attach import vertex_normals


def write_overlay(head: HeadModel, sequence: TrackedSequence, path: Path) -> None:
    """Video of the crop with the shaded mesh blended in on the right half of the face, landmarks' surface points as dots."""
    write_video(path, (draw(head, sequence, position) for position in range(len(sequence))), sequence.info.fps)


@torch.no_grad()
def draw(head: HeadModel, sequence: TrackedSequence, position: int) -> np.ndarray:
    """One frame of the overlay, uint8 [H W 3]."""
    image = sequence.frame(position).image.numpy()
    params = sequence.params[torch.tensor([position])]
    vertices, faces = head(params), head.topology.faces
    side = image.shape[0] // 2
    fragments = rasterize_mesh(vertices, faces, sequence.camera.resize(side, side))
    facing = -vertex_normals(vertices, faces)[0, :, 2]
    corners = faces[fragments.face_id[0].clamp_min(0).long()]
    shade = (facing[corners] * fragments.bary[0]).sum(-1).clamp(0, 1).numpy()
    covered = cv2.resize((fragments.face_id[0] >= 0).float().numpy(), image.shape[1::-1])[..., None] * 0.55
    grey = cv2.resize(shade, image.shape[1::-1])[..., None] * np.array([205, 225, 255.0])
    blended = (image * (1 - covered) + grey * covered).astype(np.uint8)
    marks = head.topology.landmarks["mediapipe"]
    pixels, _ = sequence.camera.project(surface_points(vertices, faces[marks.faces], marks.bary))
    for x, y in pixels[0].numpy():
        cv2.circle(blended, (int(x), int(y)), 1, (20, 160, 60), -1)
    return np.concatenate([image, blended], axis=1)
