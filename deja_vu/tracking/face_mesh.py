"""Landmarks and expression scores of a face whose place is known: MediaPipe's networks, in the way of its graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from deja_vu.io.video import Image
from deja_vu.tracking.face_boxes import MIN_SCORE, FaceBoxes, FaceSquare
from deja_vu.tracking.face_pose import FacePose
from deja_vu.tracking.lite_model import LiteModel, read_member, warp_to_square

SIDE = 256
"""Of the face that the network sees, pixels."""
MIN_PRESENCE = 0.0
"""Least logit of there being a face."""
SCORED = (
    "0-1 4-8 10 13-14 17 21 33 37 39-40 46 52-55 58 61 63 65-67 70 78 80-82 84 87-88 91 93 95 103 105 107 109 127 132-133 136 144-146 "
    "148-150 152-155 157-163 168 172-173 176 178 181 185 191 195 197 234 246 249 251 263 267 269-270 276 282-285 288 291 293 295-297 300 "
    "308 310-312 314 317-318 321 323-324 332 334 336 338 356 361-362 365 373-375 377-382 384-390 397-398 400 402 405 409 415 454 466 "
    "468-477"
)
"""Landmarks from which the scores are computed."""


@dataclass(frozen=True)
class FaceMesh:
    """One face."""

    landmarks: Float[np.ndarray, "478 3"]
    """x right, y down in pixels of the picture; z away from the camera at the same scale."""
    scores: Float[np.ndarray, "51"]
    """Of the expressions in `ARKIT_NAMES` without `tongueOut`, in [0, 1]."""
    pose: Float[np.ndarray, "4 4"]
    """Of the canonical face, centimeters, y up, looking along -z."""


class FaceMeshes:
    """Detector, landmarks, scores and pose."""

    def __init__(self, bundle: Path, most: int, min_score: float = MIN_SCORE) -> None:
        """Load them.

        Args:
            bundle: face_landmarker.task.
            most: faces looked for in each picture.
            min_score: least score of the detector's answers, in [0, 1].

        Raises:
            MissingAssetError: LiteRT does not load.
        """
        self._boxes = FaceBoxes(read_member(bundle, "face_detector.tflite"), most, min_score)
        self._landmarks = LiteModel(read_member(bundle, "face_landmarks_detector.tflite"))
        self._scores = LiteModel(read_member(bundle, "face_blendshapes.tflite"))
        self._pose = FacePose.read(read_member(bundle, "geometry_pipeline_metadata_landmarks.binarypb"))
        self._scored = _members(SCORED)

    def close(self) -> None:
        """Nothing to free; the other runtime has."""

    def __call__(self, rgb: Image) -> list[FaceMesh]:
        """Faces, the surest first."""
        meshes = (self._look_at(rgb, square) for square in self._boxes(rgb))
        return [mesh for mesh in meshes if mesh is not None]

    def _look_at(self, rgb: Image, square: FaceSquare) -> FaceMesh | None:
        seen = warp_to_square(rgb, square.corners, SIDE, repeat_border=True)
        answers = self._landmarks(seen * np.float32(1 / 255))
        if answers["Identity_1"].item() < MIN_PRESENCE:
            return None
        points = answers["Identity"].reshape(-1, 3).astype(np.float64) / SIDE
        flat = square.center + square.side * (points[:, :2] - 0.5) @ square.axes
        landmarks = np.column_stack([flat, square.side * points[:, 2]])
        (scores,) = self._scores(flat[self._scored]).values()
        height, width = rgb.shape[:2]
        return FaceMesh(landmarks.astype(np.float32), scores[1:], self._pose.fit(landmarks, width, height).astype(np.float32))


def _members(ranges: str) -> list[int]:
    """Numbers of "0-1 4": 0, 1, 4."""
    found: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
