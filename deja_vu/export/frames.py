"""Other destinations of rendered frames than a video file: a folder of transparent pictures, or a virtual camera."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from deja_vu.core.errors import MissingAssetError, OutputError
from deja_vu.io.arrays import write_picture


@runtime_checkable
class FrameSink(Protocol):
    """Takes one frame after the other; use it in a `with` block."""

    def __enter__(self) -> FrameSink: ...

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None: ...

    def write(self, frame: UInt8[np.ndarray, "H W C"]) -> None:
        """Append one frame, RGB or RGBA with straight alpha."""


class PngSequence:
    """A folder of pictures with straight alpha: 000000.png, 000001.png, ..."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            OutputError: it holds such pictures already, or cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.glob("[0-9]*.png"))
        except OSError as error:
            raise OutputError(f"{folder} cannot be written ({error.strerror}). Choose another --out.") from error
        if occupied:
            raise OutputError(f"{folder} holds pictures already. Choose another --out.")
        self._folder, self._count = folder, 0

    def __enter__(self) -> PngSequence:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        """Nothing is held open."""

    def write(self, frame: UInt8[np.ndarray, "H W C"]) -> None:
        """Write one picture, RGB or RGBA.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._folder / f"{self._count:06d}.png"
        order = cv2.COLOR_RGBA2BGRA if frame.shape[2] == 4 else cv2.COLOR_RGB2BGR
        write_picture(path, cv2.cvtColor(frame, order), [cv2.IMWRITE_PNG_COMPRESSION, 3], durable=False)
        self._count += 1


class VirtualCamera:
    """A camera for video calls, where the platform offers one (v4l2loopback on Linux, OBS elsewhere)."""

    def __init__(self, fps: float) -> None:
        """Find the driver.

        Args:
            fps: frame rate, 1/s.

        Raises:
            MissingAssetError: the package pyvirtualcam is not installed.
        """
        try:
            import pyvirtualcam
        except ImportError as error:
            raise MissingAssetError(
                f"A virtual camera needs the package pyvirtualcam ({error}): pip install '.[virtual-camera]' in the source folder. "
                "On Linux it also needs the module v4l2loopback, on Windows and macOS OBS Studio. Or write a video: --out driven.mp4"
            ) from error
        self._fps, self._module = fps, pyvirtualcam
        self._camera: Any = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> VirtualCamera:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._open.close()

    def write(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Show one frame.

        Raises:
            MissingAssetError: no virtual camera driver answers.
        """
        if self._camera is None:
            height, width = frame.shape[:2]
            try:
                self._camera = self._open.enter_context(self._module.Camera(width, height, self._fps))
            except RuntimeError as error:
                raise MissingAssetError(
                    f"No virtual camera answers ({error}). On Linux: modprobe v4l2loopback; on Windows and macOS install OBS Studio."
                ) from error
            print(f"virtual camera: {self._camera.device}")
        self._camera.send(frame)
