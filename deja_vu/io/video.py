"""Video files in and out: frames as shown to a viewer, one at a time, in constant memory."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from deja_vu.core.errors import InputError, OutputError
from deja_vu.io.color import is_transparent, read_tags, to_srgb
from deja_vu.io.decode import InputWarning, Reading, Stamps, open_video, orientation, read_stamps
from deja_vu.io.files import begin_part, finish_part
from deja_vu.io.sound import Sound

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer

Image = UInt8[np.ndarray, "H W 3"]

WIDEST_PIXEL = 4.0
"""Width of a pixel over its height, or the reverse, beyond which the file is not believed; anamorphic film has 2, DVDs 1.42."""
FINE = Fraction(1, 90_000)
"""Clock of films whose frames come at their own times, seconds."""
SAME_RATE = 1.05
"""Factor by which a rate may pass a highest one."""


@dataclass(frozen=True)
class VideoInfo:
    """Size, rate and orientation of a video file's picture."""

    width: int
    """Width as shown, after rotation and with square pixels."""
    height: int
    """Height as shown, after rotation and with square pixels."""
    fps: float
    """Frame rate by the median step between stamps, 1/s; the one in the file's head where there are no stamps."""
    frames: int
    """Frames that are shown; for long files the number announced, or an estimate from the duration; 0 where unknown."""
    rotation: int
    """Degrees clockwise by which stored frames are turned to be shown: 0, 90, 180 or 270."""
    pixel_aspect: float
    """Width of a stored pixel over its height; 1 for nearly all files, else frames are stretched to square pixels."""


def probe(path: Path | str) -> VideoInfo:
    """Read the size, rate and orientation of a video; warn of what is not as it should be, and of what is done about it.

    Args:
        path: file.

    Raises:
        InputError: no such file, a folder, not a video, a picture, sound only, colors that cannot be read, or no frame that decodes.
    """
    stamps = read_stamps(path)
    with open_video(path) as (container, stream):
        reading = Reading(container, stream, Path(path))
        first = next(reading.frames(), None)
        if first is None:
            raise InputError(f"{path} holds a video track without a single readable frame. Record or export it again.")
        for note in _notes(first, reading, Path(path).name):
            warnings.warn(note, InputWarning, stacklevel=2)
        return _info(container, stream, first, stamps)


def read_frames(
    path: Path | str, max_frames: int | None = None, max_fps: float | None = 30.0, *, warn: bool = True
) -> Iterator[tuple[int, float, Image]]:
    """Yield (index, time, frame) in order of display, upright, with square pixels, in sRGB, with the file's own time stamps.

    Frames are never doubled to fill a variable rate. Above `max_fps` every second, third, ... frame is kept.
    Only one frame is in memory at a time. A file that breaks off in the middle yields what can be read and warns.

    Args:
        path: file.
        max_frames: stop after so many yielded frames; None for all.
        max_fps: highest rate by the median step, 1/s; None keeps every frame.
        warn: whether to warn, at the end, of frames and stamps that are missing.

    Yields:
        index: position among the file's decoded frames, from 0 (skipped ones count).
        time: seconds since the file's start, growing.
        frame: RGB.

    Raises:
        InputError: as `probe`, and when the frame size changes.
    """
    if max_frames is not None and max_frames <= 0:
        return
    stamps = read_stamps(path)
    with open_video(path) as (container, stream):
        reading = Reading(container, stream, Path(path))
        clock = _Clock(stamps, (container.start_time or 0) / 1_000_000)
        chosen = _Thinning(stamps.rate, max_fps)
        size: tuple[int, int] | None = None
        yielded = 0
        for index, frame in enumerate(reading.frames()):
            if size is None:
                size = (frame.width, frame.height)
            elif size != (frame.width, frame.height):
                raise InputError(
                    f"{path} changes its frame size at frame {index}: from {size[0]}x{size[1]} to {frame.width}x{frame.height}. "
                    "Expected one size throughout. Cut the video there, or re-encode it to one size."
                )
            time = clock.read(index, frame)
            if time is not None and chosen.keeps(time):
                yield index, time, _as_shown(frame, stream, Path(path).name)
                yielded += 1
                if yielded == max_frames:
                    return
        if size is None:
            raise InputError(f"{path} holds a video track without a single readable frame. Record or export it again.")
        for note in (reading.note_missing(index + 1), clock.note(Path(path).name)):
            if note is not None and warn:
                warnings.warn(note, InputWarning, stacklevel=2)


class _Clock:
    """Growing times of a stream's frames."""

    def __init__(self, stamps: Stamps, origin: float) -> None:
        self._stamps, self._shift = stamps, -origin
        self._last = -math.inf
        self._jumps = 0

    def read(self, index: int, frame: VideoFrame) -> float | None:
        """Seconds of a frame; None where it repeats the moment of the one before. Stamps that jump back go on from the last one."""
        step = 1 / self._stamps.rate
        if not self._stamps.trusted:
            return index * step
        moment = frame.time
        if moment is None or not math.isfinite(moment):  # one frame without a stamp, among others that have one
            moment = (self._last + step if math.isfinite(self._last) else 0.0) - self._shift
        time = moment + self._shift
        if time <= self._last - step:
            self._jumps += 1
            self._shift += self._last + step - time
            time = moment + self._shift
        if time <= self._last:
            return None
        self._last = time
        return time

    def note(self, name: str) -> str | None:
        """What is to be said of the stamps, if anything."""
        if not self._stamps.trusted:
            return f"{name} has no time stamps that can be used: its frames are taken to be {1 / self._stamps.rate:.3g} s apart."
        return f"{name}: the time jumps back {self._jumps} times; the film goes on there as if without a gap." if self._jumps else None


class _Thinning:
    """Chooses every n-th frame of a fast video, by time, as rates vary."""

    def __init__(self, rate: float, max_fps: float | None) -> None:
        stride = max(1, math.ceil(rate / (max_fps * SAME_RATE))) if max_fps else 1
        self._step = 0.0 if stride == 1 else (stride - 0.5) / rate
        self._kept = -math.inf

    def keeps(self, time: float) -> bool:
        """Whether the frame of this time is kept."""
        if time - self._kept < self._step:
            return False
        self._kept = time
        return True


def _info(container: InputContainer, stream: VideoStream, frame: VideoFrame, stamps: Stamps) -> VideoInfo:
    frames = stamps.count if stamps.count is not None else stream.frames
    if not frames and container.duration:
        frames = max(1, math.floor(container.duration / 1_000_000 * stamps.rate))
    turn, aspect = orientation(frame), _pixel_aspect(stream)
    width, height = _square_size(frame, aspect)
    if turn[0, 0] == 0:
        width, height = height, width
    rotation = round(math.degrees(math.atan2(turn[1, 0], turn[0, 0]))) % 360
    return VideoInfo(width, height, stamps.rate, frames, rotation, aspect)


def _notes(frame: VideoFrame, reading: Reading, name: str) -> Iterator[str]:
    """What a video has that is changed or ignored, as its first frame tells."""
    aspect = float(reading.stream.sample_aspect_ratio or 1)
    if _pixel_aspect(reading.stream) != aspect:
        yield f"{name} says its pixels are {aspect:.3g} times as wide as high; that is ignored."
    if reading.fields:
        yield f"{name} is interlaced: the two fields of each frame are brought to one moment. Film progressively where you can choose."
    if (color := read_tags(frame, name).note) is not None:
        yield f"{name} was {color}"
    if is_transparent(frame) and frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255:
        yield f"{name} is transparent in part; it is shown over white."


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a stored pixel over its height, 1 where the file's word is not believed."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL else 1.0


def _square_size(frame: VideoFrame, pixel_aspect: float) -> tuple[int, int]:
    """Stored width and height stretched to square pixels, along one axis, so that no detail is lost."""
    return round(frame.width * max(pixel_aspect, 1.0)), round(frame.height * max(1 / pixel_aspect, 1.0))


def _as_shown(frame: VideoFrame, stream: VideoStream, name: str) -> Image:
    """A frame in sRGB, with square pixels, upright."""
    from av import FFmpegError

    try:
        rgb = to_srgb(frame, read_tags(frame, name))
    except (FFmpegError, ValueError) as error:
        raise InputError(f"{name} holds frames of {frame.format.name}, which cannot be shown ({error}). Export it as H.264.") from error
    size = _square_size(frame, _pixel_aspect(stream))
    if size != (frame.width, frame.height):
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    turn = orientation(frame)
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

    def __init__(
        self, path: Path | str, fps: float, crf: int = 16, *, webm: bool = False, timed: bool = False, sound: Sound | None = None
    ) -> None:
        """Prepare a file; it is created with the first frame.

        Args:
            path: target, any suffix; its folder must exist.
            fps: frame rate, 1/s.
            crf: the encoder's constant quality, 0 lossless to 51 (VP9: 63) worst.
            webm: write WebM; its frames may be RGBA, with straight alpha.
            timed: each frame comes with its time, and is shown from then on.
            sound: to be heard with the frames, as long as they last.

        Raises:
            OutputError: the folder is absent or cannot be written.
        """
        if not (math.isfinite(fps) and fps > 0):
            raise OutputError(f"A video cannot be written at {fps} frames a second. Expected a positive rate.")
        self.path, self.fps, self.crf, self.webm = Path(path), fps, crf, webm
        self._timed, self._sound = timed, sound
        self._count, self._first = 0, 0.0
        self._part: Path | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size: tuple[int, int] | None = None
        self._format = "yuv420p"
        if self.path.exists() and not self.path.is_file():
            raise OutputError(f"{self.path} is a folder, a device or a pipe, so no video can be written there. Choose another name.")
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

    def write(self, frame: UInt8[np.ndarray, "H W C"], time: float = 0.0) -> None:
        """Append one frame; odd sizes gain a copied last row or column, as the format wants even ones.

        Args:
            frame: RGB or RGBA.
            time: from when on it is shown, seconds; counts where frames are timed.

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
        if self._timed:
            self._first = time if self._count == 0 else self._first
            picture.pts, picture.time_base = round((time - self._first) / FINE), FINE
        self._count += 1
        with self._report_errors():
            self._container.mux(self._stream.encode(picture))
            if self._sound is not None:
                self._sound.write(self._container, self._count / self.fps)

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: no frame was written, or the disk is full.
        """
        if self._container is None or self._stream is None or self._part is None:
            raise OutputError(f"{self.path.name} was to be written without a single frame.")
        with self._report_errors():
            self._container.mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.write(self._container, self._count / self.fps, end=True)
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
            if self._timed:
                stream.time_base = context.time_base = FINE
            self._stream = stream
            if self._sound is not None:
                self._sound.begin(container, "libopus" if self.webm else "aac")

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


def write_video(path: Path | str, frames: Iterable[Image], fps: float, crf: int = 16, *, times: Sequence[float] | None = None) -> None:
    """Write a whole video from an iterable of RGB frames of one size.

    Args:
        path: target file.
        frames: uint8 pictures.
        fps: frame rate, 1/s.
        crf: x264's constant quality, 0 lossless to 51 worst.
        times: of each frame, seconds; None where they are even.

    Raises:
        OutputError: no frames, or the file cannot be written.
    """
    with VideoWriter(path, fps, crf, timed=times is not None) as writer:
        for place, frame in enumerate(frames):
            writer.write(frame, 0.0 if times is None else times[place])
