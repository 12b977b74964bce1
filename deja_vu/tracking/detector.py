"""MediaPipe's face landmarker: 478 landmarks, 52 expression scores and a rough pose for each face in a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np
from jaxtyping import Float

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.io.video import Image
from deja_vu.tracking.detection_config import DetectionConfig, Runtime
from deja_vu.tracking.face_mesh import FaceMesh
from deja_vu.tracking.runtimes import open_faces

NUM_LANDMARKS = 478
APPEARANCE_LANDMARKS = (50, 280, 10, 151, 108, 337, 195, 152, 205, 425, 13, 105, 334)
"""Landmarks on cheeks, forehead, nose, chin, lips and brows."""
APPEARANCE_REACH = 0.03
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
    appearance: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(3 * len(APPEARANCE_LANDMARKS), np.float32))
    """Colors in [0, 1] about `APPEARANCE_LANDMARKS`: by them one person is told from another in the same video."""

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

    def __init__(
        self,
        max_faces: int = 3,
        same_face_overlap: float = DetectionConfig().same_face_overlap,
        runtime: Runtime = DetectionConfig().runtime,
    ) -> None:
        """Load the models.

        Args:
            max_faces: faces looked for in each picture.
            same_face_overlap: overlap of two boxes from which `detect` takes a face for the previous picture's.
            runtime: what runs them.

        Raises:
            MissingAssetError: the runtime's package, a system library or the model file is absent.
        """
        self._same_face_overlap = same_face_overlap
        self._previous: np.ndarray | None = None
        self._find = open_faces(runtime, max_faces)

    def __enter__(self) -> LandmarkDetector:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the models."""
        self._find.close()

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
        assert rgb.dtype == np.uint8, rgb.dtype
        found = self._find(rgb)
        faces = [FaceObservation(mesh.landmarks, _scores(mesh), mesh.pose, len(found)) for mesh in found]
        return [replace(face, appearance=_measure_appearance(rgb, face)) for face in faces]


def _scores(mesh: FaceMesh) -> Float[np.ndarray, "52"]:
    """The landmarker does not know the last of `ARKIT_NAMES`, tongueOut."""
    return np.append(mesh.scores, np.zeros(len(ARKIT_NAMES) - len(mesh.scores), np.float32))


def _measure_appearance(rgb: Image, face: FaceObservation) -> Float[np.ndarray, " n"]:
    reach = max(1, round(APPEARANCE_REACH * face.width))
    colors = np.zeros((len(APPEARANCE_LANDMARKS), 3), np.float32)
    for row, (x, y) in enumerate(face.landmarks[list(APPEARANCE_LANDMARKS), :2].astype(int)):
        part = rgb[max(0, y - reach) : max(0, y + reach + 1), max(0, x - reach) : max(0, x + reach + 1)]
        if part.size:
            colors[row] = part.reshape(-1, 3).mean(0) / 255
    return colors.ravel()


def overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
    return float(inner / union) if union > 0 else 0.0
