"""Small networks in TensorFlow's lite format, run on the CPU by LiteRT."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from deja_vu.core.errors import MissingAssetError
from deja_vu.io.video import Image
from deja_vu.tracking.quiet import quiet

FRACTION_BITS = 5
"""Places of pixels are rounded to 1/32, as OpenCV 4 does in MediaPipe; OpenCV 5 is exact, which moves landmarks by up to a pixel."""


class LiteModel:
    """One network with one input."""

    def __init__(self, content: bytes) -> None:
        """Load it.

        Args:
            content: of a .tflite file.

        Raises:
            MissingAssetError: LiteRT is not installed, or does not load here.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter
        except (ImportError, OSError) as error:
            raise _missing_runtime(error) from error
        with quiet():
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = {output["name"]: output["index"] for output in self._interpreter.get_output_details()}

    def __call__(self, values: Float[np.ndarray, "..."]) -> dict[str, Float[np.ndarray, "..."]]:
        """Its outputs by name.

        Args:
            values: input, without the batch's dimension.
        """
        self._interpreter.set_tensor(self._input["index"], values[None].astype(np.float32, copy=False))
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


def read_member(bundle: Path, name: str) -> bytes:
    """One file of a .task bundle."""
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


def warp_to_square(rgb: Image, corners: Float[np.ndarray, "3 2"], side: int, *, repeat_border: bool) -> UInt8[np.ndarray, "s s 3"]:
    """A parallelogram of a picture as a square one, interpolated between the four nearest pixels.

    Args:
        rgb: picture.
        corners: its upper left, upper right and lower left, pixels; a pixel's index is its place, as the networks were trained.
        side: of the result, pixels.
        repeat_border: whether the border goes on beyond the picture; else all is black there.
    """
    origin = corners[0].astype(np.float64)
    across, down = ((corner - origin) / side for corner in corners[1:])
    steps = np.arange(side)
    places = origin + steps[None, :, None] * across + steps[:, None, None] * down
    fixed = np.rint(places * (1 << FRACTION_BITS)).astype(np.int32)
    fraction = fixed & ((1 << FRACTION_BITS) - 1)
    whole = (fixed >> FRACTION_BITS).clip(-(2**15), 2**15 - 1).astype(np.int16)
    table = ((fraction[..., 1] << FRACTION_BITS) + fraction[..., 0]).astype(np.uint16)
    return cv2.remap(rgb, whole, table, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE if repeat_border else cv2.BORDER_CONSTANT)


def _missing_runtime(error: Exception) -> MissingAssetError:
    """The error that says how to make LiteRT load."""
    if isinstance(error, ModuleNotFoundError):
        return MissingAssetError(f"The package {error.name} is not installed. Tracking needs it: pip install ai-edge-litert")
    return MissingAssetError(f"LiteRT cannot be loaded: {error}. Install it again: pip install --force-reinstall ai-edge-litert")
