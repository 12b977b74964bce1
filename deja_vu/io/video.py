"""Video files in and out: frames as shown to a viewer, one at a time, in constant memory."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from deja_vu.core.errors import InputError, OutputError
from deja_vu.io.files import begin_part, finish_part

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer

Image = UInt8[np.ndarray, "H W 3"]

NOT_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf", "image2", "ico"})
"""Demuxers that draw any text or picture file as frames."""
WIDEST_PIXEL = 4.0
"""Width of a pixel over its height, or the reverse, beyond which the file is not believed; anamorphic film has 2, DVDs 1.42."""
MISSING_SHARE = 0.01
"""Share of the announced frames that may be absent without a warning; containers round and trim."""


class InputWarning(UserWarning):
    """An input that can be used, though not all of it or not as it seems."""


@dataclass(frozen=True)
class VideoInfo:
    """Size, rate and orientation of a video file's picture."""

    width: int
    """Width as shown, after rotation and with square pixels."""
    height: int
    """Height as shown, after rotation and with square pixels."""
    fps: float
    """Average frame rate, 1/s."""
    frames: int
    """Frames announced by the file; an estimate from the duration where it does not say; 0 where unknown."""
    rotation: int
    """Degrees clockwise by which stored frames are turned to be shown: 0, 90, 180 or 270."""
    pixel_aspect: float
    """Width of a stored pixel over its height; 1 for nearly all files, else frames are stretched to square pixels."""


def probe(path: Path | str) -> VideoInfo:
    """Read the size, rate and orientation of a video.

    Args:
        path: file.

    Raises:
        InputError: no such file, a folder, not a video, a picture, sound only, or no frame that decodes.
    """
    with _open(path) as (container, stream):
        first = next(_decode(container, stream, Path(path)), None)
        if first is None:
            raise InputError(f"{path} holds a video track without a single readable frame. Record or export it again.")
        return _info(container, stream, first)


def read_frames(path: Path | str, max_frames: int | None = None, max_fps: float | None = 30.0) -> Iterator[tuple[int, float, Image]]:
    """Yield (index, time, frame) in order of display, upright and with square pixels, with the file's own time stamps.

    Frames are never doubled to fill a variable rate. Above `max_fps` every second, third, ... frame is kept.
    Only one frame is in memory at a time. A file that breaks off in the middle yields what can be read and warns.

    Args:
        path: file.
        max_frames: stop after so many yielded frames; None for all.
        max_fps: highest average rate, 1/s; None keeps every frame.

    Yields:
        index: position among the file's decoded frames, from 0 (skipped ones count).
        time: seconds since the file's start.
        frame: RGB.

    Raises:
        InputError: as `probe`, and when the frame size changes.
    """
    if max_frames is not None and max_frames <= 0:
        return
    with _open(path) as (container, stream):
        size: tuple[int, int] | None = None
        stride, count, yielded, last_time = 1, 0, 0, -math.inf
        for frame in _decode(container, stream, Path(path)):
            if size is None:
                size = (frame.width, frame.height)
                info = _info(container, stream, frame)
                stride = max(1, math.ceil(info.fps / (max_fps * 1.05))) if max_fps else 1
            elif size != (frame.width, frame.height):
                raise InputError(
                    f"{path} changes its frame size at frame {count}: from {size[0]}x{size[1]} to {frame.width}x{frame.height}.\n"
                    "Expected one size throughout. Cut the video there, or re-encode it to one size."
                )
            if count % stride == 0:
                time = frame.time if frame.time is not None else count / info.fps
                time = max(time, np.nextafter(last_time, math.inf)) if math.isfinite(last_time) else time
                yield count, float(time), _rotate_upright(frame, info.pixel_aspect)
                yielded, last_time = yielded + 1, time
                if yielded == max_frames:
                    return
            count += 1
        if size is None:
            raise InputError(f"{path} holds a video track without a single readable frame. Record or export it again.")
        if count < stream.frames * (1 - MISSING_SHARE) - 1:  # 0 where the file does not say
            warnings.warn(
                f"{path} is damaged or cut off: {count} of {stream.frames} frames could be read, and only these are used.",
                InputWarning,
                stacklevel=2,
            )


@contextmanager
def _open(path: Path | str) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av

    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file {path}. Expected the path of a video.")
    if not path.is_file():
        raise InputError(f"{path} is a folder or device. Expected the path of a video file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes). Expected a video file.")
    try:
        container = av.open(str(path.resolve()))
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: permission denied.") from error
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{path} is not a video that can be opened, or it is cut off before its index ({error.__class__.__name__}).\n"
            "Expected MP4, MOV, MKV, WebM or AVI. If the recording was interrupted, export it again from its source."
        ) from error
    with container:
        name = container.format.name
        if name in NOT_VIDEO or name.endswith("_pipe"):
            raise InputError(f"{path} is a picture or text file ({name}), not a video.")
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            held = "only sound" if container.streams.audio else "no picture track"
            raise InputError(f"{path} holds {held}. Expected a video with frames.")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _decode(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """Decode until the end or the first break; damaged frames are left out."""
    import av

    try:
        for frame in container.decode(stream):
            if not frame.is_corrupt:
                yield frame
    except av.FFmpegError as error:
        warnings.warn(f"{path} breaks off: {error.strerror or error}.", InputWarning, stacklevel=3)


def _info(container: InputContainer, stream: VideoStream, frame: VideoFrame) -> VideoInfo:
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    frames = stream.frames
    if not frames and container.duration:
        frames = max(1, math.floor(container.duration / 1_000_000 * rate))
    turn = _orientation(frame)
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        warnings.warn(
            f"{container.name} says its pixels are {aspect:.3g} times as wide as high; that is ignored.", InputWarning, stacklevel=3
        )
        aspect = 1.0
    width, height = _square_size(frame, aspect)
    if turn[0, 0] == 0:
        width, height = height, width
    rotation = round(math.degrees(math.atan2(turn[1, 0], turn[0, 0]))) % 360
    return VideoInfo(width, height, float(rate), frames, rotation, aspect)


def _square_size(frame: VideoFrame, pixel_aspect: float) -> tuple[int, int]:
    """Stored width and height stretched to square pixels, along one axis, so that no detail is lost."""
    return round(frame.width * max(pixel_aspect, 1.0)), round(frame.height * max(1 / pixel_aspect, 1.0))


def _orientation(frame: VideoFrame) -> np.ndarray:
    """Signed permutation [2, 2] that takes stored pixel axes (x right, y down) to shown ones: the display matrix, to a quarter turn."""
    from av.sidedata.sidedata import SideData

    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2, dtype=int)
    assert isinstance(data, SideData), type(data)
    # Nine native int32, rows (a b u), (c d v), (x y w): shown = (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(memoryview(data), dtype=np.int32)[:5].astype(float)
    matrix = np.array([[a, c], [b, d]])
    straight = abs(a) + abs(d) >= abs(b) + abs(c)
    turn = np.sign(np.where(np.eye(2, dtype=bool) == straight, matrix, 0.0)).astype(int)
    return turn if abs(np.linalg.det(turn)) == 1 else np.eye(2, dtype=int)


def _rotate_upright(frame: VideoFrame, pixel_aspect: float) -> Image:
    width, height = _square_size(frame, pixel_aspect)
    if (width, height) != (frame.width, frame.height):
        rgb = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC").to_ndarray()
    else:
        rgb = frame.to_ndarray(format="rgb24")
    turn = _orientation(frame)
    if turn[0, 0] == 0:
        rgb = rgb.swapaxes(0, 1)
    if turn[1].sum() < 0:
        rgb = rgb[::-1]
    if turn[0].sum() < 0:
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


class VideoWriter:
    """Write frames to an H.264 MP4 that every player opens, or to a VP9 WebM, which can be transparent.

    The file appears only when it is complete.
    """

    def __init__(self, path: Path | str, fps: float, crf: int = 16, *, webm: bool = False) -> None:
        """Prepare a file; it is created with the first frame.

        Args:
            path: target, any suffix; its folder must exist.
            fps: frame rate, 1/s.
            crf: the encoder's constant quality, 0 lossless to 51 (VP9: 63) worst.
            webm: write WebM; its frames may be RGBA, with straight alpha.

        Raises:
            OutputError: the folder is absent or cannot be written.
        """
        if not (math.isfinite(fps) and fps > 0):
            raise OutputError(f"A video cannot be written at {fps} frames a second. Expected a positive rate.")
        self.path, self.fps, self.crf, self.webm = Path(path), fps, crf, webm
        self._part: Path | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size: tuple[int, int] | None = None
        self._format = "yuv420p"
        if not self.path.parent.is_dir():
            raise OutputError(f"The folder {self.path.parent} does not exist, so {self.path.name} cannot be written there.")
        if not os.access(self.path.parent, os.W_OK):
            raise OutputError(f"The folder {self.path.parent} is read-only, so {self.path.name} cannot be written there.")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def write(self, frame: UInt8[np.ndarray, "H W C"]) -> None:
        """Append one frame; odd sizes gain a copied last row or column, as the format wants even ones.

        Raises:
            OutputError: the disk is full or the frame's size differs from the first one's.
        """
        import av

        assert frame.dtype == np.uint8, frame.dtype
        assert frame.ndim == 3, frame.shape
        assert frame.shape[2] in ((3, 4) if self.webm else (3,)), frame.shape
        height, width = frame.shape[:2]
        if self._size is None:
            self._size = (width, height)
            self._format = "yuva420p" if frame.shape[2] == 4 else "yuv420p"
            self._start(width + width % 2, height + height % 2)
        if self._size != (width, height):
            raise OutputError(f"{self.path.name}: a frame of {width}x{height} follows frames of {self._size[0]}x{self._size[1]}.")
        assert self._container is not None
        assert self._stream is not None
        padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgba" if frame.shape[2] == 4 else "rgb24")
        # Named, because players guess the color matrix of an untagged file by its size.
        picture = picture.reformat(format=self._format, dst_colorspace="ITU709", dst_color_range="MPEG")
        with self._report_errors():
            self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: no frame was written, or the disk is full.
        """
        if self._container is None or self._stream is None or self._part is None:
            raise OutputError(f"{self.path.name} was to be written without a single frame.")
        with self._report_errors():
            self._container.mux(self._stream.encode(None))
            self._container.close()
            finish_part(self._part, self.path)

    def _start(self, width: int, height: int) -> None:
        import av

        rate, options = Fraction(self.fps).limit_denominator(1001), {"crf": str(self.crf)}
        fast = {"b": "0", "deadline": "good", "cpu-used": "5", "auto-alt-ref": "0"}
        with self._report_errors():
            self._part = begin_part(self.path)
            kind, options_of_file = ("webm", {}) if self.webm else ("mp4", {"movflags": "+faststart"})
            container = av.open(str(self._part.resolve()), "w", format=kind, options=options_of_file)
            self._container = container
            if self.webm:
                stream = container.add_stream("libvpx-vp9", rate=rate, options=options | fast)
            else:
                stream = container.add_stream("libx264", rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, self._format
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
            context.color_range = 1  # limited
            self._stream = stream

    @contextmanager
    def _report_errors(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self._discard()
            reason = error.strerror or error
            raise OutputError(f"{self.path} could not be written: {reason}. Free some space or choose another folder.") from error

    def _discard(self) -> None:
        import av

        if self._container is not None:
            with suppress(av.FFmpegError, OSError):
                self._container.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)


def write_video(path: Path | str, frames: Iterable[Image], fps: float, crf: int = 16) -> None:
    """Write a whole video from an iterable of RGB frames of one size.

    Args:
        path: target file.
        frames: uint8 pictures.
        fps: frame rate, 1/s.
        crf: x264's constant quality, 0 lossless to 51 worst.

    Raises:
        OutputError: no frames, or the file cannot be written.
    """
    with VideoWriter(path, fps, crf) as writer:
        for frame in frames:
            writer.write(frame)
