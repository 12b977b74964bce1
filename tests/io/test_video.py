from __future__ import annotations

import shutil
import warnings
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from deja_vu.core.errors import InputError, OutputError
from deja_vu.io.video import InputWarning, VideoWriter, probe, read_frames, write_video
from tests.helpers.videos import write_sound

RED, GREEN, BLUE, GRAY = (200, 30, 30), (30, 180, 30), (30, 30, 200), (128, 128, 128)


def corners(height=48, width=64, shade=0):
    """Red top left, green bottom left, blue top right."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[: height // 3, : width // 3] = RED
    image[-height // 3 :, : width // 3] = GREEN
    image[: height // 3, -width // 3 :] = BLUE
    image[height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] = shade
    return image


def seen_corners(image):
    """Colors at top left, top right, bottom left, bottom right."""
    return [tuple(int(c) for c in image[y, x]) for y, x in ((6, 6), (6, -6), (-6, 6), (-6, -6))]


def close(colors, expected):
    # 4:2:0 chroma and crf 16 move flat areas by a few levels.
    return np.abs(np.array(colors) - np.array(expected)).max() <= 6


def remux(source: Path, target: Path, *, rotation: int | None = None, flip: bool = False) -> Path:
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=flip)
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return target


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, [corners(shade=20 * i) for i in range(10)], fps=25)
    return path


def test_round_trip_keeps_count_order_times_and_colors(clip):
    frames = list(read_frames(clip))
    assert [index for index, _, _ in frames] == list(range(10))
    np.testing.assert_allclose([time for _, time, _ in frames], np.arange(10) / 25, atol=1e-6)
    for i, (_, _, image) in enumerate(frames):
        assert image.shape == (48, 64, 3)
        assert image.dtype == np.uint8
        assert close(seen_corners(image), [RED, BLUE, GREEN, GRAY])
        assert abs(int(image[24, 32, 0]) - 20 * i) < 12


def test_probe(clip):
    info = probe(clip)
    assert (info.width, info.height, info.fps, info.frames, info.rotation, info.pixel_aspect) == (64, 48, 25.0, 10, 0, 1.0)


def test_odd_sizes_are_padded_by_their_edge(tmp_path):
    write_video(tmp_path / "odd.mp4", [corners(47, 63)] * 2, fps=30)
    _, _, image = next(read_frames(tmp_path / "odd.mp4"))
    assert image.shape == (48, 64, 3)
    assert close(image[-1, 30], GRAY)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_flags_are_applied(clip, tmp_path, rotation, turns):
    # FFmpeg gives the angle counter-clockwise, as np.rot90 counts.
    turned = remux(clip, tmp_path / "turned.mp4", rotation=rotation)
    _, _, image = next(read_frames(turned))
    expected = np.rot90(corners(), turns)
    assert image.shape == expected.shape
    assert close(seen_corners(image), seen_corners(expected))
    info = probe(turned)
    assert (info.height, info.width) == expected.shape[:2]
    assert info.rotation == -rotation % 360


def write_anamorphic(path: Path, aspect: Fraction, frames: int = 2) -> Path:
    """A film of a white disc that is round when its pixels are shown as wide as the file says: 80 pixels across."""
    rows, columns = np.mgrid[0:96, 0:128] + 0.5
    wide, high = float(max(aspect, 1)), float(max(1 / aspect, 1))
    inside = np.hypot((columns - 64) * wide, (rows - 48) * high) < 40
    image = np.repeat(np.where(inside, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def disc_size(image: np.ndarray) -> tuple[float, float]:
    """Width and height of the white disc, from its middle row and column."""
    height, width = image.shape[:2]
    return float((image[height // 2, :, 0] / 255).sum()), float((image[:, width // 2, 0] / 255).sum())


@pytest.mark.parametrize("aspect", [Fraction(3, 2), Fraction(2, 3), Fraction(1)])
@pytest.mark.parametrize("rotation", [None, 90])
def test_anamorphic_film_is_shown_with_square_pixels(tmp_path, aspect, rotation):
    path = write_anamorphic(tmp_path / "anamorphic.mp4", aspect)
    if rotation is not None:
        path = remux(path, tmp_path / "turned.mp4", rotation=rotation)
    info = probe(path)
    _, _, image = next(read_frames(path))
    assert image.shape == (info.height, info.width, 3)
    stored = (round(96 * max(1, 1 / aspect)), round(128 * max(1, aspect)))
    assert image.shape[:2] == (stored if rotation is None else stored[::-1])
    width, height = disc_size(image)
    # Whole stored pixels, of which one is 1.5 shown ones: 54 of them are 81; and what the encoder adds.
    assert width == pytest.approx(80, abs=1.1)
    assert height == pytest.approx(80, abs=1.1)
    assert info.pixel_aspect == pytest.approx(float(aspect))


def test_an_absurd_pixel_shape_is_ignored_and_said(tmp_path):
    path = write_anamorphic(tmp_path / "absurd.mp4", Fraction(9, 1))
    with pytest.warns(InputWarning, match="9 times as wide as high"):
        assert (probe(path).width, probe(path).height) == (128, 96)


def test_mirrored_flag_is_applied(clip, tmp_path):
    _, _, image = next(read_frames(remux(clip, tmp_path / "mirror.mp4", rotation=0, flip=True)))
    assert close(seen_corners(image), seen_corners(corners()[:, ::-1]))


def test_variable_rate_keeps_its_time_stamps(tmp_path):
    path, stamps = tmp_path / "vfr.mkv", [0, 40, 80, 200, 230, 700]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = [(index, time) for index, time, _ in read_frames(path)]
    assert [index for index, _ in frames] == list(range(6))
    np.testing.assert_allclose([time for _, time in frames], np.array(stamps) / 1000, atol=1e-3)
    assert all(a[1] < b[1] for a, b in pairwise(frames))


@pytest.mark.parametrize(("fps", "kept"), [(60, [0, 2, 4, 6, 8]), (120, [0, 4, 8]), (29.97, list(range(10)))])
def test_fast_videos_are_thinned_evenly(tmp_path, fps, kept):
    write_video(tmp_path / "fast.mp4", [corners()] * 10, fps=fps)
    assert [index for index, _, _ in read_frames(tmp_path / "fast.mp4")] == kept
    assert len(list(read_frames(tmp_path / "fast.mp4", max_fps=None))) == 10


def test_max_frames(clip):
    assert len(list(read_frames(clip, max_frames=3))) == 3
    assert list(read_frames(clip, max_frames=0)) == []


def test_refusals_say_what_is_wrong(tmp_path, clip):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "text.txt").write_text("not a video\n" * 100)
    write_sound(tmp_path / "sound.m4a")
    with av.open(str(tmp_path / "picture.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(), format="rgb24")))
    expected = {
        "absent.mp4": "There is no file",
        ".": "folder",
        "empty.mp4": "empty",
        "text.mp4": "not a video",
        "text.txt": "not a video",
        "sound.m4a": "only sound",
        "picture.png": "picture",
    }
    for name, text in expected.items():
        with pytest.raises(InputError, match=text):
            probe(tmp_path / name)
        with pytest.raises(InputError, match=text):
            next(read_frames(tmp_path / name))


def test_a_title_in_another_encoding_does_not_matter(clip, tmp_path):
    """Old phones write latin-1 into what should be UTF-8."""
    path = tmp_path / "titled.mp4"
    with av.open(str(clip)) as read, av.open(str(path), "w") as written:
        written.metadata["title"] = "ABCDEFGH"
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"f\xfcr \xe9\xff\xfe"))
    assert len(list(read_frames(path))) == 10


def test_frames_that_no_camera_takes_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "huge.y4m"
    path.write_bytes(b"YUV4MPEG2 W12000 H12000 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(1000))
    with pytest.raises(InputError, match=r"frames of 12000 x 12000 pixels\. Reduce"):
        probe(path)


def test_zero_frames(tmp_path):
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match=r"without a single readable frame|not a video"):
        probe(path)


def test_cut_before_the_index_is_refused(clip, tmp_path):
    # Without the `moov` box at the front, half a file has no index.
    plain = tmp_path / "plain.mp4"
    remux(clip, plain)
    data = plain.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut off before its index"):
        probe(tmp_path / "half.mp4")


def test_cut_after_the_index_yields_what_is_there_and_warns(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(40)]
    write_video(tmp_path / "whole.mp4", frames, fps=25)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * 0.6)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = list(read_frames(tmp_path / "cut.mp4"))
    assert 5 < len(read) < 40
    assert any(issubclass(w.category, InputWarning) and "of 40 frames" in str(w.message) for w in caught)


def test_a_damaged_film_is_read_the_same_every_time_and_that_is_said(tmp_path):
    """The tracker reads a film twice, and pairs what it found by the frames' numbers."""
    rng = np.random.default_rng(0)
    write_video(tmp_path / "film.mp4", [rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(40)], fps=25)
    data = bytearray((tmp_path / "film.mp4").read_bytes())
    for place in rng.integers(len(data) // 3, len(data), 60):
        data[place] ^= 85
    (tmp_path / "damaged.mp4").write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        readings = [[(index, time) for index, time, _ in read_frames(tmp_path / "damaged.mp4")] for _ in range(3)]
    assert 5 < len(readings[0]) < 40
    assert readings[1:] == readings[:1] * 2
    assert f"damaged or cut off: {len(readings[0])} of 40 frames" in str(caught[0].message)


def test_a_whole_video_does_not_warn(clip):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(read_frames(clip))


def test_frames_that_change_size_are_refused(tmp_path):
    # Two raw H.264 streams in a row are a legal stream that changes its size.
    for name, size in (("a", (48, 64)), ("b", (64, 96))):
        with av.open(str(tmp_path / f"{name}.h264"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(*size), format="rgb24")))
            container.mux(stream.encode(None))
    with open(tmp_path / "both.h264", "wb") as target:
        for name in "ab":
            with open(tmp_path / f"{name}.h264", "rb") as source:
                shutil.copyfileobj(source, target)
    with pytest.raises(InputError, match="at frame 4: from 64x48 to 96x64"):
        list(read_frames(tmp_path / "both.h264"))


def test_a_failed_writer_leaves_nothing(tmp_path):
    def broken():
        yield corners()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_video(tmp_path / "x.mp4", broken(), 25)
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_writer(clip):
    before = clip.read_bytes()
    with pytest.raises(OutputError, match="follows frames of 64x48"):
        write_video(clip, [corners(), corners(64, 64)], fps=25)
    assert clip.read_bytes() == before
    assert len(list(clip.parent.iterdir())) == 1


def test_writer_refusals(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        VideoWriter(tmp_path / "absent" / "x.mp4", 25)
    with pytest.raises(OutputError, match="single frame"):
        write_video(tmp_path / "x.mp4", [], fps=25)
    with pytest.raises(OutputError, match="frames a second"):
        VideoWriter(tmp_path / "x.mp4", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_transparent_webm_keeps_color_and_alpha(tmp_path) -> None:
    frames = [np.zeros((64, 64, 4), np.uint8) for _ in range(5)]
    for place, frame in enumerate(frames):
        frame[...] = (200, 60, 30, 0)
        frame[16:48, 8 + 4 * place : 40 + 4 * place, 3] = 255
    with VideoWriter(tmp_path / "a.webm", 25, 10, webm=True) as writer:
        for frame in frames:
            writer.write(frame)
    with av.open(str(tmp_path / "a.webm")) as container:
        decoder = av.CodecContext.create("libvpx-vp9", "r")  # the default decoder drops alpha
        packets = container.demux(container.streams.video[0])
        read = [frame.to_ndarray(format="rgba") for packet in packets for frame in decoder.decode(packet)]
    assert len(read) == 5
    for found, frame in zip(read, frames, strict=True):
        assert np.abs(found[..., 3].astype(int) - frame[..., 3]).mean() < 4  # lossy at the square's border
        assert np.abs(found[24:40, 28:36, :3].astype(int) - frame[24:40, 28:36, :3]).max() < 8
    with VideoWriter(tmp_path / "b.webm", 25, webm=True) as writer:
        writer.write(frames[0][..., :3])
    assert probe(tmp_path / "b.webm").frames == 1
