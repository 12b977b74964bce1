"""Copying of the sound of one video into another, in sync."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from deja_vu.io.decode import InputWarning

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import InputContainer, OutputContainer

RATE = 48_000
"""Samples a second; both encoders take it."""
DRIFT = 0.04
"""Seconds by which a film's sound may be off its stamps before silence is put in, or a part left out."""
BIT_RATE = 160_000


class Sound:
    """A film's sound from some moment on; used in a `with` block, by one writer."""

    def __init__(self, film: Path, start: float = 0.0) -> None:
        """Nothing is opened yet.

        Args:
            film: video file.
            start: moment that the first written frame shows, seconds since the film's start.
        """
        self.film, self.start = film, start
        self._open = ExitStack()
        self._blocks: Iterator[Float32[np.ndarray, "2 n"]] = iter(())
        self._held = np.zeros((2, 0), np.float32)
        self._written = 0
        self._stream: AudioStream | None = None

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._open.close()

    def begin(self, container: OutputContainer, codec: str) -> None:
        """Add a track of sound to a file that is being written, if the film has one.

        Args:
            container: the file.
            codec: of the track, aac or libopus.
        """
        import av
        from av import AudioStream

        source = self._open.enter_context(av.open(os.fspath(self.film), metadata_errors="replace"))
        if source.streams.audio:
            self._blocks = self._read(source)
            stream = container.add_stream(codec, rate=RATE, layout="stereo")
            assert isinstance(stream, AudioStream)
            stream.bit_rate, self._stream = BIT_RATE, stream

    def write(self, container: OutputContainer, until: float, *, end: bool = False) -> None:
        """Write what sounds up to a moment, seconds since the first frame; at the end all of it, silence where the film has no more."""
        import av

        if self._stream is None:
            return
        wanted = round(until * RATE)
        size = self._stream.codec_context.frame_size or 1024
        while self._written < wanted and (end or wanted - self._written >= size):
            count = min(size, wanted - self._written)
            while self._held.shape[1] < count and (block := next(self._blocks, None)) is not None:
                self._held = np.concatenate([self._held, block], axis=1)
            taken, self._held = self._held[:, :count], self._held[:, count:]
            taken = np.pad(taken, ((0, 0), (0, count - taken.shape[1])))
            packed = self._stream.codec_context.format.name == "flt"
            samples = np.ascontiguousarray(taken.T).reshape(1, -1) if packed else np.ascontiguousarray(taken)
            frame = av.AudioFrame.from_ndarray(samples, format="flt" if packed else "fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._written, Fraction(1, RATE)
            container.mux(self._stream.encode(frame))
            self._written += count
        if end:
            container.mux(self._stream.encode(None))

    def _read(self, source: InputContainer) -> Iterator[Float32[np.ndarray, "2 n"]]:
        """Samples from `start` on, without gaps."""
        import av

        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
        origin = (source.start_time or 0) / 1_000_000 + self.start
        place: int | None = None  # of the next sample, counted from the start
        try:
            for frame in source.decode(source.streams.audio[0]):
                stamp = None if frame.time is None else round((frame.time - origin) * RATE)
                for part in resampler.resample(frame):
                    samples = part.to_ndarray()
                    if place is None:
                        place = min(0, stamp or 0)
                    ahead, stamp = (0 if stamp is None else stamp - place), None
                    if ahead > (DRIFT * RATE if place > 0 else 0):
                        yield from _silence(ahead)
                        place += ahead
                    elif ahead < -DRIFT * RATE:
                        samples = samples[:, -ahead:]
                    heard = samples[:, max(0, -place) :]
                    place += samples.shape[1]
                    if heard.shape[1]:
                        yield heard
        except av.FFmpegError as error:
            warnings.warn(f"The sound of {self.film.name} breaks off: {error.strerror or error}.", InputWarning, stacklevel=2)


def _silence(count: int) -> Iterator[Float32[np.ndarray, "2 n"]]:
    """Silent samples, a second at a time."""
    for begin in range(0, count, RATE):
        yield np.zeros((2, min(RATE, count - begin)), np.float32)
