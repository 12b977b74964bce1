"""Which program runs the networks that find faces and people."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float

from deja_vu.io.assets import locate
from deja_vu.io.video import Image
from deja_vu.tracking.detection_config import Runtime
from deja_vu.tracking.face_mesh import FaceMesh, FaceMeshes
from deja_vu.tracking.lite_model import LiteModel, warp_to_square
from deja_vu.tracking.mediapipe_tasks import MediapipeFaces, MediapipeSegmenter

SEGMENTER_SIDE = 256
"""Of the picture that the segmenter sees, pixels."""


@runtime_checkable
class FindsFaces(Protocol):
    """All faces of a picture, the surest first."""

    def __call__(self, rgb: Image) -> list[FaceMesh]: ...
    def close(self) -> None: ...


@runtime_checkable
class Segments(Protocol):
    """How surely each pixel is a person's, in [0, 1]."""

    def __call__(self, rgb: Image) -> Float[np.ndarray, "H W"]: ...
    def close(self) -> None: ...


class LiteSegmenter:
    """The selfie segmenter of MediaPipe."""

    def __init__(self, content: bytes) -> None:
        """Load it.

        Args:
            content: of selfie_segmentation.tflite.

        Raises:
            MissingAssetError: LiteRT does not load.
        """
        self._model = LiteModel(content)

    def close(self) -> None:
        """Nothing to free; the other runtime has."""

    def __call__(self, rgb: Image) -> Float[np.ndarray, "H W"]:
        """How surely each pixel is a person's, in [0, 1]."""
        height, width = rgb.shape[:2]
        seen = warp_to_square(rgb, np.array([[0.0, 0.0], [width, 0.0], [0.0, height]]), SEGMENTER_SIDE, repeat_border=True)
        (coverage,) = self._model(seen * np.float32(1 / 255)).values()
        return cv2.resize(coverage[0, ..., 0], (width, height), interpolation=cv2.INTER_LINEAR)


def open_faces(runtime: Runtime, most: int) -> FindsFaces:
    """The face landmarker in a runtime.

    Args:
        runtime: which.
        most: faces looked for in each picture.

    Raises:
        MissingAssetError: the runtime's package, a system library or the model file is absent.
    """
    bundle = locate("face_landmarker")
    return MediapipeFaces(bundle, most) if runtime == "mediapipe" else FaceMeshes(bundle, most)


def open_segmenter(runtime: Runtime) -> Segments:
    """The segmenter in a runtime.

    Args:
        runtime: which.

    Raises:
        MissingAssetError: the runtime's package, a system library or the model file is absent.
    """
    model = locate("selfie_segmenter")
    return MediapipeSegmenter(model) if runtime == "mediapipe" else LiteSegmenter(model.read_bytes())
