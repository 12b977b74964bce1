"""Films with sound, and files that look like videos and are none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_sound(path: Path) -> None:
    """A quarter of a second of silence without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def add_click(film: Path, target: Path, moment: float, seconds: float) -> Path:
    """The same film with sound: silence, and a click of 50 ms at a moment."""
    rate = 44_100
    time = np.arange(round(seconds * rate)) / rate
    wave = np.where((time >= moment) & (time < moment + 0.05), np.sin(2 * np.pi * 1000 * time), 0).astype(np.float32)
    with av.open(str(film)) as source, av.open(str(target), "w") as container:
        video = container.add_stream_from_template(source.streams.video[0])
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        for begin in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None, begin : begin + 1024]), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return target


def heard(path: Path) -> tuple[float, float]:
    """When a click is heard, and how long the sound lasts, seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        channels = len(frames[0].layout.channels)
        samples = [(frame.time, frame.sample_rate, frame.to_ndarray().reshape(channels, -1, order="F")) for frame in frames]
    begin = next(time + int((np.abs(wave[0]) > 0.2).argmax()) / rate for time, rate, wave in samples if np.abs(wave[0]).max() > 0.2)
    last, rate, wave = samples[-1]
    return begin, last + wave.shape[1] / rate
