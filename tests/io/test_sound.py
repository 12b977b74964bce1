"""The sound of a film stays with its pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deja_vu.io.sound import Sound
from deja_vu.io.video import VideoWriter
from tests.helpers.videos import heard

CLAP = 0.6
"""Moment at which the picture turns white and a click is heard, seconds."""


def write_clapper(path: Path, rate: int = 44_100, delay: float = 0.0, *, silent_until: float = 0.0) -> Path:
    """A film of 1.2 seconds with a clap; its sound starts `delay` late, as its stamps say."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for number in range(30):
            image = np.full((64, 64, 3), 255 if number / 25 >= CLAP else 0, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        time = np.arange(round(1.2 * rate)) / rate
        wave = np.where((time >= CLAP) & (time < CLAP + 0.05), np.sin(2 * np.pi * 1000 * time), 0).astype(np.float32)
        for begin in range(round(max(delay, silent_until) * rate), len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None, begin : begin + 1024]), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
@pytest.mark.parametrize("start", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_the_clap_is_heard_when_it_is_seen(tmp_path, suffix, start, delay):
    film = write_clapper(tmp_path / "film.mp4", delay=delay)
    with Sound(film, start) as sound, VideoWriter(tmp_path / f"out.{suffix}", 25, webm=suffix == "webm", sound=sound) as writer:
        for _ in range(24):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    when, length = heard(tmp_path / f"out.{suffix}")
    assert when == pytest.approx(CLAP - start, abs=0.012)  # half a block of the encoder, which spreads a click
    assert length == pytest.approx(24 / 25, abs=0.03)  # blocks of 21 ms


def test_a_silent_film_makes_a_silent_one(tmp_path):
    with VideoWriter(tmp_path / "film.mp4", 25) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    with Sound(tmp_path / "film.mp4") as sound, VideoWriter(tmp_path / "out.mp4", 25, sound=sound) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_a_film_without_sound_at_its_end_is_filled_with_silence(tmp_path):
    film = write_clapper(tmp_path / "film.mp4")
    with Sound(film, 1.0) as sound, VideoWriter(tmp_path / "out.mp4", 25, sound=sound) as writer:
        for _ in range(50):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert float(container.streams.audio[0].duration * container.streams.audio[0].time_base) == pytest.approx(2.0, abs=0.03)
