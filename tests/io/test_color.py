"""Whatever way a film stores its colors, it is read as the same picture, or refused with the reason."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import av
import numpy as np
import pytest

from deja_vu import native
from deja_vu.core.errors import InputError
from deja_vu.io import color as io_color
from deja_vu.io.color import read_tags, to_srgb
from deja_vu.io.video import InputWarning, VideoWriter, probe, read_frames
from tests.helpers.films import Color, as_frame, encode_signal, picture, psnr, write_film

SDR = Color("ordinary")
SD = Color("BT.601 matrix", matrix="BT.601")
FULL = Color("full range", full=True)
P3 = Color("Display P3", gamut="P3")
WIDE = Color("BT.2020", gamut="BT.2020", matrix="BT.2020")
HLG = Color("HLG", "HLG", "BT.2020", "BT.2020")
PQ = Color("PQ", "PQ", "BT.2020", "BT.2020")
COLORS = (SDR, SD, FULL, P3, WIDE, HLG, PQ)
CODECS = {
    "H.264 in MP4": ("mp4", "libx264", "yuv420p", {"crf": "4", "preset": "ultrafast"}),
    "H.264 in AVI": ("avi", "libx264", "yuv420p", {"crf": "4", "preset": "ultrafast", "bf": "0"}),
    "HEVC 10 bit in MOV": ("mov", "libx265", "yuv420p10le", {"x265-params": "log-level=none:crf=6", "preset": "ultrafast"}),
    "VP9 in WebM": ("webm", "libvpx-vp9", "yuv420p", {"crf": "4", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
    "ProRes in MOV": ("mov", "prores_ks", "yuv422p10le", {}),
    "FFV1 in MKV": ("mkv", "ffv1", "yuv444p12le", {}),
}
ROTATIONS, RATES = (0, 90, 180, 270), (24, 30, 60)
LEAST_DB = 38.0
"""Of a film against its picture: codecs keep an 8-bit picture at 40 to 50 dB, and HDR's eight bits in SDR's range cost 3."""


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


CELLS = [(codec, color, place) for codec in CODECS for place, color in enumerate(COLORS) if (codec, color) != ("ProRes in MOV", FULL)]
"""ProRes has limited range alone."""


@pytest.mark.parametrize(("codec", "color", "place"), CELLS, ids=[f"{codec}, {color.name}" for codec, color, _ in CELLS])
def test_every_way_to_store_a_film_shows_the_same_picture(tmp_path, codec, color, place):
    """Forty-one cells, over which rotations and rates go round."""
    suffix, encoder, form, options = CODECS[codec]
    rotation = ROTATIONS[place % 4] if suffix in ("mp4", "mov") else 0
    rate = RATES[place % 3]
    path = write_film(tmp_path / f"film.{suffix}", [picture()] * 5, color, encoder, form, options=options, rate=rate, rotation=rotation)
    frames = list(read_frames(path))
    expected = np.rot90(picture(), rotation // 90)
    assert len(frames) == (3 if rate == 60 else 5)
    assert min(psnr(image, expected) for _, _, image in frames) > LEAST_DB
    np.testing.assert_allclose(np.diff([time for _, time, _ in frames]), (2 if rate == 60 else 1) / rate, atol=1.1e-3)
    assert probe(path).fps == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("color", [SDR, HLG], ids=lambda color: color.name)
def test_rotation_goes_with_every_color(tmp_path, rotation, color):
    path = write_film(tmp_path / "film.mp4", [picture()], color, form="yuv420p10le", options={"crf": "4"}, rotation=rotation)
    _, _, image = next(read_frames(path))
    assert psnr(image, np.rot90(picture(), rotation // 90)) > LEAST_DB


@pytest.mark.parametrize(
    ("size", "matrix"), [((720, 1280), "BT.709"), ((1280, 720), "BT.709"), ((96, 128), "BT.601"), ((480, 640), "BT.601")]
)
def test_untagged_film_is_709_where_it_is_hd(tmp_path, size, matrix):
    image = picture(*size)
    color = Color("untagged", matrix=matrix, tagged=False)
    path = write_film(tmp_path / "film.mp4", [image], color, options={"crf": "10", "preset": "ultrafast"})
    _, _, found = next(read_frames(path))
    assert psnr(found, image) > LEAST_DB


def test_motion_jpeg_is_full_range_by_its_kind(tmp_path):
    color = Color("photos", matrix="BT.601", full=True, tagged=False)
    path = write_film(tmp_path / "film.avi", [picture()] * 2, color, "mjpeg", "yuvj420p", options={"qmin": "1", "qmax": "2"})
    _, _, found = next(read_frames(path))
    assert psnr(found, picture()) > LEAST_DB


def test_red_green_and_blue_are_read_as_they_are(tmp_path):
    """Lossless H.264 of screen recorders."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0"})
        stream.width = stream.height = 96
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")))
        container.mux(stream.encode(None))
    _, _, found = next(read_frames(path))
    assert psnr(found, picture()) > 50


@pytest.mark.parametrize(("tags", "reason"), [((9, 16, 14, 1), "matrix 14"), ((1, 9, 1, 1), "transfer 9"), ((10, 1, 1, 1), "primaries 10")])
def test_colors_that_nobody_converts_are_refused_with_their_numbers(tags, reason):
    frame = av.VideoFrame(96, 96, "yuv420p")
    frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = tags
    with pytest.raises(InputError, match=f"film.*{reason}.*Export it as SDR"):
        read_tags(frame, "film.mp4")


def test_what_is_done_to_hdr_is_said_once(tmp_path):
    path = write_film(tmp_path / "film.mp4", [picture()] * 3, HLG, form="yuv420p10le")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe(path)
        list(read_frames(path))
    assert [str(warning.message) for warning in caught] == [
        "film.mp4 was filmed in HDR (HLG) with BT.2020 color; brought to sRGB, the range and colors of ordinary displays."
    ]


def test_light_above_white_rolls_off_in_order():
    """A ramp up to 1000 nits: unchanged to the knee, then growing, and white at the end."""
    for color in (HLG, PQ):
        light = np.linspace(0, 1000 / 203, 256)
        srgb = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        image = np.repeat(np.tile(srgb, (16, 1))[..., None], 3, axis=2)
        frame = as_frame(image, color, "yuv444p12le")
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = color.tags
        shown = to_srgb(frame, read_tags(frame, ""))[8, :, 1].astype(int)
        below = srgb < 255 * io_color.KNEE
        assert np.abs(shown[below] - srgb[below]).max() <= 1  # rounding
        assert (np.diff(shown) >= 0).all()
        assert 243 < shown[np.flatnonzero(~below)[0]] < 255 == shown[-1]


@pytest.mark.parametrize("form", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p", "yuv444p16le"])
@pytest.mark.parametrize("color", [HLG, PQ, P3], ids=lambda color: color.name)
def test_native_code_does_what_numpy_does(form, color):
    """Odd widths too; the instruction sets' rough roots move values near the middle of two by one."""
    frame = as_frame(picture(61, 83), color, form)
    frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = color.tags
    tags = read_tags(frame, "")
    expected = io_color._convert_slowly(
        frame, io_color._Signal.of(tags, frame.format.components[0].bits), io_color._tones(tags.transfer, tags.primaries)
    )
    chosen = native.variant()
    try:
        for name in ("base", "avx2", "avx512"):
            try:
                native.select_variant(name)
            except native.NativeError:
                continue
            difference = np.abs(to_srgb(frame, tags).astype(int) - expected)
            assert difference.max() <= 1
            assert difference.mean() < 0.03
    finally:
        native.select_variant(chosen)


def test_transparent_film_is_shown_over_white_and_that_is_said(tmp_path):
    path = tmp_path / "film.mov"
    rgba = np.dstack([picture(), np.full((96, 96), 255, np.uint8)])
    rgba[48:, :, 3] = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("prores_ks", rate=25, options={"profile": "4444"})
        stream.width = stream.height = 96
        stream.pix_fmt = "yuva444p10le"
        frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva444p10le", dst_colorspace="ITU601")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.warns(InputWarning, match="transparent in part; it is shown over white"):
        probe(path)
    _, _, found = next(read_frames(path))
    assert psnr(found[:44], picture()[:44]) > LEAST_DB
    assert found[52:].min() > 250


@pytest.mark.parametrize("color", [P3, HLG, PQ], ids=lambda color: color.name)
def test_transparent_film_in_other_colors_is_brought_to_srgb_too(tmp_path, color):
    path = write_film(tmp_path / "film.mov", [picture()], color, "prores_ks", "yuva444p10le", options={"profile": "4444"})
    _, _, found = next(read_frames(path))
    assert psnr(found, picture()) > LEAST_DB


def test_a_transparent_webm_of_ours_is_shown_over_white(tmp_path):
    """Its transparency is a second picture in the file, which FFmpeg's own decoder leaves out."""
    rgba = np.dstack([picture(), np.full((96, 96), 255, np.uint8)])
    rgba[48:, :, 3] = 0
    with VideoWriter(tmp_path / "film.webm", 25, 8, webm=True) as writer:
        for _ in range(3):
            writer.write(rgba)
    with pytest.warns(InputWarning, match="transparent in part"):
        probe(tmp_path / "film.webm")
    frames = list(read_frames(tmp_path / "film.webm"))
    np.testing.assert_allclose([time for _, time, _ in frames], np.arange(3) / 25, atol=1e-3)
    assert psnr(frames[1][2][:44], picture()[:44]) > 36  # VP9's fastest settings
    assert frames[1][2][52:].min() > 245


def test_interlaced_film_is_brought_to_one_moment_and_that_is_said(tmp_path):
    """A bar that moves between the two fields of a frame: without its comb."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "interlaced=1:tff=1", "crf": "4"})
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        for number in range(6):
            image = np.full((96, 96, 3), 60, np.uint8)
            image[0::2, 8 * number : 8 * number + 30] = 200
            image[1::2, 8 * number + 4 : 8 * number + 34] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.warns(InputWarning, match="is interlaced"):
        probe(path)
    frames = list(read_frames(path))
    np.testing.assert_allclose([time for _, time, _ in frames], np.arange(6) / 25, atol=1e-6)
    for _, _, image in frames[1:-1]:
        comb = np.abs(image[1:-1].astype(int) - (image[:-2].astype(int) + image[2:]) / 2)[:, :, 1]
        assert (comb > 30).mean() < 0.01  # 4 of 96 columns on both sides of the bar before


def test_our_own_films_come_back_in_their_colors(tmp_path):
    """Gray, skin and saturated colors in flat patches, through the file and back: what is left is the encoder's loss."""
    patches = np.array(
        [*([200, 30, 30], [30, 180, 30], [30, 30, 200], [128, 128, 128]), *([224, 172, 140], [90, 56, 40], [255, 255, 255], [0, 0, 0])]
    )
    image = np.repeat(np.repeat(patches.reshape(2, 4, 3), 32, 0), 32, 1).astype(np.uint8)
    with VideoWriter(tmp_path / "film.mp4", 25) as writer:
        for _ in range(3):
            writer.write(image)
    with av.open(str(tmp_path / "film.mp4")) as container:
        frame = next(container.decode(video=0))
        tags = [int(tag) for tag in (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)]
    assert tags == [1, 1, 1, 1]
    _, _, found = next(read_frames(tmp_path / "film.mp4"))
    middle = found.reshape(2, 32, 4, 32, 3)[:, 12:20, :, 12:20].mean((1, 3)).reshape(8, 3)
    assert np.abs(middle - patches).max() <= 3  # 8 bits of chroma, twice rounded


def test_signals_of_known_light():
    """BT.2408: diffuse white, 203 nits, is 75 % of HLG and 58 % of PQ."""
    white = np.full((1, 1, 3), 255)
    assert encode_signal(white, HLG)[0, 0, 0] == pytest.approx(0.75, abs=0.001)
    assert encode_signal(white, PQ)[0, 0, 0] == pytest.approx(0.58, abs=0.001)


@pytest.mark.skipif("DEJA_VU_CLIPS" not in os.environ, reason="needs filmed clips: DEJA_VU_CLIPS=folder with grimaces.mp4 and hdr/")
@pytest.mark.parametrize("kind", ["hlg", "pq"])
def test_hdr_twins_of_a_filmed_clip(kind):
    """The head in HDR against the same in SDR, and the time of a 1080p frame on one core."""
    clips = Path(os.environ["DEJA_VU_CLIPS"])
    plain = [image for _, _, image in read_frames(clips / "grimaces.mp4", 90)][::30]
    twin = [image for _, _, image in read_frames(clips / "hdr" / f"grimaces_{kind}.mp4")][::30]
    head = slice(64, 448), slice(96, 416)
    assert np.mean([psnr(found[head], wanted[head]) for found, wanted in zip(twin, plain, strict=True)]) > LEAST_DB
    with av.open(str(clips / "hdr" / f"grimaces_{kind}.mp4")) as container:
        frame = next(container.decode(video=0)).reformat(width=1920, height=1080)
    seconds = []
    for _ in range(20):
        began = time.process_time()
        to_srgb(frame, read_tags(frame, ""))
        seconds.append(time.process_time() - began)
    print(f"{kind}: {1000 * min(seconds):.1f} ms")
    assert min(seconds) < 0.012  # 5 to 8 ms where a core is not shared
