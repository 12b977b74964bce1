"""Decoding of video files: a stream of upright, progressive frames with their timestamps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deja_vu.core.errors import InputError

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import InputContainer

NOT_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf", "image2", "ico"})
"""Demuxers that draw any text or picture file as frames."""
MISSING_SHARE = 0.01
"""Share of the announced frames that may be absent without a warning; containers round and trim."""
MAX_PIXELS = 8192 * 8192
"""Largest frame that is decoded: one takes three to eight bytes a pixel, and decoders hold some."""
STAMPS = 3000
"""Frames from whose stamps the rate is taken."""
EQUAL_STAMPS = 0.1
"""Share of frames that may repeat the stamp of another before the stamps are not believed."""
SLOWEST, FASTEST = 0.05, 1000.0
"""Rates that are believed, frames a second."""


class InputWarning(UserWarning):
    """An input that can be used, though not all of it or not as it seems."""


@contextmanager
def open_video(path: Path | str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its stream of pictures.

    Raises:
        InputError: no such file, a folder, not a video, a picture, or sound only.
    """
    import av

    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file {path}. Expected the path of a video.")
    if not path.is_file():
        raise InputError(f"{path} is a folder or device. Expected the path of a video file; pictures must be joined into one first.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes). Expected a video file.")
    try:
        container = av.open(os.fspath(path.resolve()), metadata_errors="replace")  # titles are in any encoding
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: permission denied.") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a video that can be opened, or it is cut off before its index ({error.__class__.__name__}). "
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
        if streams[0].codec_context is None:
            raise InputError(f"{path} uses an unknown codec, or is damaged. Export it again as MP4 (H.264).")
        width, height = streams[0].codec_context.width, streams[0].codec_context.height
        if width * height > MAX_PIXELS:
            raise InputError(f"{path} has frames of {width} x {height} pixels. Reduce them to 8192 x 4320 or less.")
        streams[0].thread_type = "SLICE"  # frames in parallel are not called damaged the same in every reading
        yield container, streams[0]


@dataclass(frozen=True)
class FileMark:
    """By what it is seen that a file is another one than before."""

    bytes: int
    changed: int
    """Nanoseconds."""
    inode: int

    @staticmethod
    def of(path: Path | str) -> FileMark:
        """Of a file as it is now; of one that is not there, nothing."""
        try:
            seen = os.stat(path)
        except OSError:
            return FileMark(0, 0, 0)
        return FileMark(seen.st_size, seen.st_mtime_ns, seen.st_ino)


def refuse_changed(path: Path | str, before: FileMark) -> None:
    """Refuse a file that was written to while it was read.

    Raises:
        InputError: it is another one than before.
    """
    now = FileMark.of(path)
    if now == before:
        return
    what = f"grew from {before.bytes} to {now.bytes}" if now.bytes > before.bytes else f"shrank from {before.bytes} to {now.bytes}"
    happened = f"{what} bytes" if now.bytes != before.bytes else "was written anew"
    raise InputError(f"{path} {happened} while it was read. Wait until it is recorded or copied to its end, and start again.")


@dataclass
class Reading:
    """One pass over a stream's frames, and what was seen on the way."""

    container: InputContainer
    stream: VideoStream
    path: Path
    packets: int = 0
    """Pictures found in the file, shown or not."""
    hidden: int = 0
    """Of these, those that an edit list hides."""
    broken: int = 0
    """Of these, those that could not be decoded."""
    stop: str | None = None
    """Why the file could not be read to its end, in the system's words."""
    fields: bool = False
    """Whether pictures of two fields were brought together."""

    def frames(self) -> Iterator[VideoFrame]:
        """Every frame that is shown, in order, each of one moment; damaged ones are left out."""
        from av import FFmpegError

        weaver: _FieldWeaver | None = None
        for frame in self._decode():
            if weaver is None and frame.interlaced_frame:
                weaver, self.fields = _FieldWeaver(self.stream), True
            if weaver is None:
                yield frame
            else:
                yield from weaver.push(frame)
        if weaver is not None:
            try:
                yield from weaver.push(None)
            except FFmpegError:  # nothing was left to come
                return

    def _decode(self) -> Iterator[VideoFrame]:
        from av import FFmpegError

        begun = False
        decoder = self._alpha_decoder() or self.stream.codec_context
        for packet in self._packets():
            self.packets += packet.size > 0
            self.hidden += packet.is_discard
            try:
                frames = decoder.decode(packet if packet.size else None)
            except FFmpegError:
                self.broken += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.broken += begun  # what comes before the first whole frame was cut off with what it depends on
                    continue
                begun = True
                frame.time_base = frame.time_base or self.stream.time_base
                yield frame

    def _alpha_decoder(self) -> VideoCodecContext | None:
        """A decoder that reads the transparency of WebM, which the usual ones drop; None where there is none to read."""
        from av import VideoCodecContext, codecs_available

        name = {"vp9": "libvpx-vp9", "vp8": "libvpx"}.get(self.stream.codec_context.name)
        if name is None or self.stream.metadata.get("alpha_mode") != "1" or name not in codecs_available:
            return None
        decoder = VideoCodecContext.create(name, "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata = self.stream.codec_context.extradata
        return decoder

    def _packets(self) -> Iterator[Packet]:
        from av import FFmpegError

        try:
            yield from self.container.demux(self.stream)
        except FFmpegError as error:
            self.stop = str(error.strerror or error)

    def note_missing(self, shown: int) -> str | None:
        """What is to be said when the end was reached after `shown` frames, if frames are missing.

        Frames that an edit list hides are stored and not missing.
        """
        announced = self.stream.frames  # 0 where the file does not say
        index, name = self.stream.index_entries, self.container.format.name
        if name.startswith("mov"):
            announced = min(announced, len(index))
        elif name == "avi" and len(index) and index[-1].timestamp >= announced * (1 - MISSING_SHARE) - 1:
            announced = min(announced, len(index))  # AVI announces moments, at some of which there is no new picture
        announced -= self.hidden
        if shown < announced * (1 - MISSING_SHARE) - 1 and not self.fields:  # a field may count for a frame
            return f"{self.path} is damaged or cut off: {shown} of {announced} frames could be read, and only these are used."
        if self.stop is not None:
            return f"{self.path} breaks off after {shown} frames: {self.stop}."
        if self.broken:
            return f"{self.path} is damaged: {self.broken} of {self.packets} frames cannot be decoded; the others are used."
        return None


class _FieldWeaver:
    """Makes pictures of one moment of interlaced ones."""

    def __init__(self, stream: VideoStream) -> None:
        from av.filter import Graph

        self._graph = Graph()
        parts = [self._graph.add_buffer(template=stream), self._graph.add("bwdif", "mode=send_frame:deint=interlaced")]
        parts.append(self._graph.add("buffersink"))
        for before, after in pairwise(parts):
            before.link_to(after)
        self._graph.configure()

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Take a frame, None at the end; give those that are ready."""
        import av

        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull()  # type: ignore[misc]
            except (av.BlockingIOError, av.EOFError):
                return


@dataclass(frozen=True)
class Stamps:
    """What the stamps of a stream's first frames say."""

    rate: float
    """Frames in a second by the median step, 1/s."""
    count: int | None
    """Frames that are shown; None where there are more than were looked at."""
    trusted: bool
    """Whether frames have stamps of their own; else the rate is the one in the file's head."""


def read_stamps(path: Path | str) -> Stamps:
    """The rate by the stamps, without decoding."""
    with open_video(path) as (container, stream):
        times, more = _first_times(container.demux(stream))
        head = stream.average_rate or stream.guessed_rate
    step = np.diff(np.sort(times))
    if len(step) and len(times) and (step <= 0).mean() <= EQUAL_STAMPS:
        rate = 1 / float(np.median(step[step > 0]))
        known = float(head) if head else rate
        # Stamps are rounded, to milliseconds in some files; the head's rate is finer where the two agree.
        rate = known if abs(known - rate) < 0.02 * rate else rate
        if SLOWEST <= rate <= FASTEST:
            return Stamps(rate, None if more else len(times), True)
    rate = float(head or 25)
    return Stamps(rate if SLOWEST <= rate <= FASTEST else 25.0, None, len(times) == 1)


def _first_times(packets: Iterable[Packet]) -> tuple[np.ndarray, bool]:
    """Seconds of the first frames that are shown, in the order of the file, and whether there are more."""
    from av import FFmpegError

    times: list[float] = []
    try:
        for packet in packets:
            if packet.size and packet.pts is not None and packet.time_base and not packet.is_discard:
                if len(times) == STAMPS:
                    return np.array(times), True
                times.append(float(packet.pts * packet.time_base))
    except FFmpegError:  # where it breaks off is said when the frames are read
        return np.array(times), True
    return np.array(times), False


def orientation(frame: VideoFrame) -> np.ndarray:
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
