"""Rigid pose of a face from its landmarks: the canonical face of MediaPipe before a camera of its own."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

VIEW_ANGLE = math.radians(63)
"""Of the assumed camera, from the lower to the upper border."""


@dataclass(frozen=True)
class FacePose:
    """The canonical face and how much each of its points counts."""

    canonical: Float[np.ndarray, "468 3"]
    """Centimeters, y up, looking along z."""
    weight: Float[np.ndarray, " 468"]
    """Of each point in the fit."""

    @classmethod
    def read(cls, content: bytes) -> FacePose:
        """From the bundle's geometry_pipeline_metadata_landmarks.binarypb.

        Args:
            content: of that file, a protocol buffer: mesh (1: vertices (3)), points that count (2: number (1), weight (2)).
        """
        mesh = b"".join(field.content for field in _fields(content) if field.number == 1)
        vertices = np.frombuffer(b"".join(field.content for field in _fields(mesh) if field.number == 3), "<f4").reshape(-1, 5)
        weight = np.zeros(len(vertices))
        for entry in _fields(content):
            if entry.number == 2:
                parts = {field.number: field for field in _fields(entry.content)}
                weight[parts[1].value if 1 in parts else 0] = struct.unpack("<f", parts[2].content)[0]
        return cls(vertices[:, :3].astype(np.float64), weight)

    def fit(self, landmarks: Float[np.ndarray, "n 3"], width: int, height: int) -> Float[np.ndarray, "4 4"]:
        """Pose in which the canonical face, seen in perspective, shows these landmarks.

        Depths of landmarks are relative, so the scale is found first as if the camera were far away, and then with perspective.

        Args:
            landmarks: pixels, as `FaceObservation.landmarks`.
            width: of the picture, pixels.
            height: of the picture, pixels.
        """
        per_pixel = 2 * math.tan(VIEW_ANGLE / 2) / height
        points = (landmarks[: len(self.canonical)] - [width / 2, height / 2, 0]) * per_pixel
        points[:, 2] -= points[:, 2].mean()
        scale = 1.0
        metric = points * [1, -1, -1]
        for _ in range(2):
            scale *= _fit_similarity(self.canonical, metric, self.weight)[0]
            metric = self._unproject(points, scale)
        factor, rotation, translation = _fit_similarity(self.canonical, metric, self.weight)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = factor * rotation, translation
        return pose

    @staticmethod
    def _unproject(points: Float[np.ndarray, "n 3"], scale: float) -> Float[np.ndarray, "n 3"]:
        depth = (points[:, 2] + 1) / scale
        return np.column_stack([points[:, 0] * depth, -points[:, 1] * depth, -depth])


def _fit_similarity(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], weight: Float[np.ndarray, " n"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Scale, rotation and translation from source to target by weighted least squares (Umeyama, 1991)."""
    share = weight / weight.sum()
    middle = share @ source
    moved = (source - middle) * share[:, None]
    u, _, vt = np.linalg.svd(target.T @ moved)
    rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    turned = moved @ rotation.T
    scale = float((turned * target).sum() / (moved * source).sum())
    return scale, rotation, share @ (target - scale * source @ rotation.T)


@dataclass(frozen=True)
class _Field:
    """One entry of a protocol buffer: a whole number, or bytes."""

    number: int
    value: int
    content: bytes


def _fields(content: bytes) -> Iterator[_Field]:
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, kind = key >> 3, key & 7
        value, place = _varint(content, place) if kind in (0, 2) else ({1: 8, 5: 4}[kind], place)
        size = value if kind else 0
        yield _Field(number, value, content[place : place + size])
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
