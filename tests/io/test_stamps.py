"""Every container gives its frames at their times, and stamps that cannot be are not believed."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deja_vu.io.video import InputWarning, probe, read_frames
from tests.io.test_video import corners

CONTAINERS = {
    "h264": ("h264", "libx264", "yuv420p", {}),
    "ts": ("mpegts", "libx264", "yuv420p", {}),
    "m2ts": ("mpegts", "mpeg2video", "yuv420p", {}),
    "flv": ("flv", "libx264", "yuv420p", {}),
    "3gp": ("3gp", "libx264", "yuv420p", {}),
    "y4m": ("yuv4mpegpipe", "rawvideo", "yuv420p", {}),
    "mjpeg": ("mjpeg", "mjpeg", "yuvj420p", {}),
    "gif": ("gif", "gif", "rgb8", {}),
    "mp4": ("mp4", "libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
}
"""Muxer, codec, format of pixels and options; the MP4 is one in fragments, as recorders write that must not lose what they have."""


@pytest.mark.parametrize("start", [0, 50_000], ids=["from zero", "from 14 hours"])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_gives_its_frames_at_their_times(tmp_path, suffix, start):
    muxer, codec, form, options = CONTAINERS[suffix]
    path = tmp_path / f"film.{suffix}"
    with av.open(str(path), "w", format=muxer, options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(corners(shade=20 * number), format="rgb24").reformat(format=form)
            frame.pts, frame.time_base = 25 * start + number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no time stamps", category=InputWarning)  # a bare stream has none
        times = [time for _, time, _ in read_frames(path)]
    assert len(times) == 8
    np.testing.assert_allclose(np.diff(times), 0.04, atol=2e-3)
    assert times[0] == pytest.approx(0, abs=0.05)  # seconds since the file's start
    assert probe(path).fps == pytest.approx(25)


def write_stamped(path: Path, stamps: list[int], rate: int = 25) -> Path:
    """A film whose frames are at some milliseconds, as its container says."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24").reformat(format="yuv444p")
            frame.pts, frame.time_base = number, Fraction(1, 1000)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = stamp
                container.mux(packet)
    return path


def test_an_avi_in_which_moments_have_no_picture_is_whole_and_one_without_its_end_is_not(tmp_path):
    """AVI announces moments; a screen recorder leaves out those at which nothing changed."""
    path = tmp_path / "film.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in [*range(10), *range(200, 210)]:
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        times = [time for _, time, _ in read_frames(path)]
    np.testing.assert_allclose(times, [*np.arange(10) / 30, *np.arange(200, 210) / 30], atol=2e-3)
    (tmp_path / "cut.avi").write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.warns(InputWarning, match="damaged or cut off"):
        list(read_frames(tmp_path / "cut.avi"))


def test_stamps_that_are_all_alike_are_not_believed_and_that_is_said(tmp_path):
    path = write_stamped(tmp_path / "film.mkv", [0] * 6)
    with pytest.warns(InputWarning, match=r"no time stamps that can be used: its frames are taken to be 0.04 s apart"):
        times = [time for _, time, _ in read_frames(path)]
    np.testing.assert_allclose(times, np.arange(6) / 25)


def test_a_frame_that_repeats_a_moment_is_left_out(tmp_path):
    stamps = [40 * number for number in range(20)]
    path = write_stamped(tmp_path / "film.mkv", sorted([*stamps, 200]))
    times = [time for _, time, _ in read_frames(path)]
    np.testing.assert_allclose(times, np.array(stamps) / 1000, atol=1e-6)


@pytest.mark.parametrize(("fps", "kept"), [(60, 30), (120, 30), (240, 30), (50, 25)])
def test_fast_films_are_thinned_by_time_where_their_rate_varies(tmp_path, fps, kept):
    """Jitter of a third of a frame: no frame is taken twice as late as another."""
    generator = np.random.default_rng(0)
    stamps = np.round(1000 * (np.arange(fps) + generator.uniform(-0.3, 0.3, fps) * (np.arange(fps) > 0)) / fps).astype(int)
    path = write_stamped(tmp_path / "film.mkv", [int(stamp) for stamp in np.maximum.accumulate(stamps)], fps)
    times = np.array([time for _, time, _ in read_frames(path)])
    assert len(times) == pytest.approx(kept, abs=2)
    assert np.diff(times).max() < 2 / kept
