"""MediaPipe's face landmarker: 478 landmarks, 52 expression scores and a rough pose for each face in a picture."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.io.assets import locate
from deja_vu.io.video import Image
from deja_vu.tracking.detection_config import DetectionConfig
from deja_vu.tracking.mediapipe_tasks import missing_mediapipe, quiet, stop_usage_reports

if TYPE_CHECKING:
    from mediapipe.tasks.python.vision import FaceLandmarker

NUM_LANDMARKS = 478
LOOKED_AT = (50, 280, 10, 151, 108, 337, 195, 152, 205, 425, 13, 105, 334)
"""Landmarks on cheeks, forehead, nose, chin, lips and brows."""
LOOK_REACH = 0.03
"""Half a side of the square about each whose color is averaged, widths of the face."""


@dataclass(frozen=True)
class FaceObservation:
    """One face in one picture."""

    landmarks: Float[np.ndarray, "478 3"]
    """x right, y down in pixels of the picture (a pixel's center at index + 0.5); z away from the camera at the same scale."""
    blendshapes: Float[np.ndarray, "52"]
    """Scores in [0, 1], ordered as `ARKIT_NAMES`."""
    transform: Float[np.ndarray, "4 4"]
    """Pose of MediaPipe's canonical face in front of its own camera: centimeters, x right, y up, looking along -z."""
    num_faces: int = 1
    """Faces seen in this picture, this one included."""
    look: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(3 * len(LOOKED_AT), np.float32))
    """Colors in [0, 1] about `LOOKED_AT`: by them one person is told from another in the same video."""

    @property
    def box(self) -> Float[np.ndarray, "4"]:
        """x0, y0, x1, y1 around the landmarks, pixels."""
        return np.concatenate([self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)])

    @property
    def width(self) -> float:
        """Longer side of the landmark box, pixels: unlike the width alone it does not shrink in profile."""
        box = self.box
        return float(max(box[2] - box[0], (box[3] - box[1]) / 1.25))

    @property
    def roll(self) -> float:
        """Turn of the face in the picture to the right, degrees in (-180, 180]: 0 is upright."""
        up = self.landmarks[10] - self.landmarks[152]
        return math.degrees(math.atan2(up[0], -up[1]))


class LandmarkDetector:
    """MediaPipe's FaceLandmarker; use it in a `with` block.

    Each picture is looked at on its own. MediaPipe's video mode smooths landmarks in time, which makes them trail the picture by a
    third of a frame, and after a jump it finds the same face twice; the fit smooths without delay instead.
    """

    def __init__(self, max_faces: int = 3, same_face_overlap: float = DetectionConfig().same_face_overlap) -> None:
        """Load the model.

        Args:
            max_faces: faces looked for in each picture.
            same_face_overlap: overlap of two boxes from which `detect` takes a face for the previous picture's.

        Raises:
            MissingAssetError: mediapipe, a system library or the model file is absent.
        """
        self._same_face_overlap = same_face_overlap
        self._previous: np.ndarray | None = None
        self._warm = False
        with quiet():
            self._landmarker = _create(max_faces)

    def __enter__(self) -> LandmarkDetector:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the model."""
        with quiet():
            self._landmarker.close()

    def detect(self, rgb: Image) -> FaceObservation | None:
        """The face that continues the previous picture's, else the largest; None where there is none.

        Args:
            rgb: picture.
        """
        faces = self.detect_all(rgb)
        if not faces:
            return None
        chosen = max(faces, key=lambda face: face.width)
        previous = self._previous
        if previous is not None:
            continued = max(faces, key=lambda face: overlap(face.box, previous))
            if overlap(continued.box, previous) > self._same_face_overlap:
                chosen = continued
        self._previous = chosen.box
        return chosen

    def detect_all(self, rgb: Image) -> list[FaceObservation]:
        """Every face in one picture.

        Args:
            rgb: picture.
        """
        import mediapipe

        assert rgb.dtype == np.uint8, rgb.dtype
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
        with contextlib.nullcontext() if self._warm else quiet():
            result = self._landmarker.detect(image)
        self._warm = True
        height, width = rgb.shape[:2]
        scale = np.array([width, height, width], dtype=np.float32)
        faces = [
            FaceObservation(
                np.array([(p.x, p.y, p.z) for p in points], dtype=np.float32) * scale,
                _scores(scores),
                np.asarray(pose, dtype=np.float32),
                len(result.face_landmarks),
            )
            for points, scores, pose in zip(
                result.face_landmarks, result.face_blendshapes, result.facial_transformation_matrixes, strict=True
            )
        ]
        return [replace(face, look=_look(rgb, face)) for face in faces]


def _look(rgb: Image, face: FaceObservation) -> Float[np.ndarray, " n"]:
    reach = max(1, round(LOOK_REACH * face.width))
    colors = np.zeros((len(LOOKED_AT), 3), np.float32)
    for row, (x, y) in enumerate(face.landmarks[list(LOOKED_AT), :2].astype(int)):
        part = rgb[max(0, y - reach) : max(0, y + reach + 1), max(0, x - reach) : max(0, x + reach + 1)]
        if part.size:
            colors[row] = part.reshape(-1, 3).mean(0) / 255
    return colors.ravel()


def _create(max_faces: int) -> FaceLandmarker:
    model = locate("face_landmarker")
    stop_usage_reports()
    try:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=max_faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        return vision.FaceLandmarker.create_from_options(options)
    except (ImportError, OSError) as error:
        raise missing_mediapipe(error) from error


def _scores(categories: Sequence[Any]) -> Float[np.ndarray, "52"]:
    by_name = {category.category_name: category.score for category in categories}
    return np.array([by_name.get(name, 0.0) for name in ARKIT_NAMES], dtype=np.float32)


def overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
    return float(inner / union) if union > 0 else 0.0
