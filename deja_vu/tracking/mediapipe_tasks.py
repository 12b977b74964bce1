"""The package MediaPipe as a runtime: the same models as LiteRT runs, in its own graph, kept from reporting to its publisher."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from jaxtyping import Float

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.errors import MissingAssetError
from deja_vu.io.video import Image
from deja_vu.tracking.face_mesh import FaceMesh
from deja_vu.tracking.quiet import quiet

APT_COMMAND = "apt-get install -y libegl1 libgles2 libgl1 libglib2.0-0"
"""System libraries that its wheel links on Linux."""
NO_PROXY = b"nowhere://127.0.0.1:9"
"""A proxy of a kind that libcurl does not know: it gives up before it opens a socket or asks for a name."""
SMALL = 64
"""Side of an empty picture, pixels."""


def stop_usage_reports() -> None:
    """Keep MediaPipe from sending its publisher how often, where and for how long it was used; call it before a task is made.

    Its tasks post such reports through a libcurl of their own (`mediapipe/tasks/c/libmediapipe.so`, to play.googleapis.com), with no
    option against it. libcurl reads its proxy from the C library's environment when it connects, so a proxy that cannot be is set there;
    Python's `os.environ`, by which this program's own downloads go, is another copy and stays as it is.
    """
    libc = ctypes.CDLL(None)
    for name in (b"no_proxy", b"NO_PROXY"):
        libc.unsetenv(name)
    for name in (b"https_proxy", b"HTTPS_PROXY"):
        libc.setenv(name, NO_PROXY, 1)


class MediapipeFaces:
    """Its FaceLandmarker. Each picture is looked at on its own: the video mode smooths landmarks, which then trail the picture."""

    def __init__(self, bundle: Path, most: int) -> None:
        """Load it.

        Args:
            bundle: face_landmarker.task.
            most: faces looked for in each picture.

        Raises:
            MissingAssetError: mediapipe or a system library is absent.
        """
        stop_usage_reports()
        try:
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(bundle)),
                num_faces=most,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            with quiet():
                self._task = vision.FaceLandmarker.create_from_options(options)
                self._task.detect(_wrap(np.zeros((SMALL, SMALL, 3), np.uint8)))  # the first call talks
        except (ImportError, OSError) as error:
            raise _explain_missing(error) from error

    def close(self) -> None:
        """Free the models."""
        with quiet():
            self._task.close()

    def __call__(self, rgb: Image) -> list[FaceMesh]:
        """Faces, the surest first."""
        found, (height, width) = self._task.detect(_wrap(rgb)), rgb.shape[:2]
        meshes = []
        for points, scores, pose in zip(found.face_landmarks, found.face_blendshapes, found.facial_transformation_matrixes, strict=True):
            by_name = {category.category_name: category.score for category in scores}
            landmarks = np.array([(point.x, point.y, point.z) for point in points], np.float32)
            landmarks *= np.array([width, height, width], np.float32)
            named = np.array([by_name[name] for name in ARKIT_NAMES if name in by_name], np.float32)
            meshes.append(FaceMesh(landmarks, named, np.asarray(pose, np.float32)))
        return meshes


class MediapipeSegmenter:
    """Its ImageSegmenter."""

    def __init__(self, model: Path) -> None:
        """Load it.

        Args:
            model: selfie_segmentation.tflite.

        Raises:
            MissingAssetError: mediapipe or a system library is absent.
        """
        stop_usage_reports()
        try:
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.ImageSegmenterOptions(
                base_options=BaseOptions(model_asset_path=str(model)), output_confidence_masks=True, output_category_mask=False
            )
            with quiet():
                self._task = vision.ImageSegmenter.create_from_options(options)
                self._task.segment(_wrap(np.zeros((SMALL, SMALL, 3), np.uint8)))
        except (ImportError, OSError) as error:
            raise _explain_missing(error) from error

    def close(self) -> None:
        """Free the model."""
        with quiet():
            self._task.close()

    def __call__(self, rgb: Image) -> Float[np.ndarray, "H W"]:
        """How surely each pixel is a person's, in [0, 1]."""
        return self._task.segment(_wrap(rgb)).confidence_masks[-1].numpy_view().reshape(rgb.shape[:2]).copy()


def _wrap(rgb: Image):
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))


def _explain_missing(error: Exception) -> MissingAssetError:
    """The error that says how to make mediapipe load."""
    if isinstance(error, ModuleNotFoundError):
        return MissingAssetError(
            f"The package {error.name} is not installed, which runtime mediapipe needs: pip install 'mediapipe>=1.2', or use litert."
        )
    return MissingAssetError(f"mediapipe cannot load a system library: {error}. On Debian or Ubuntu run as root: {APT_COMMAND}")
