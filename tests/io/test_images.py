"""Photo files of every kind that users have, and those that are refused."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from deja_vu.core.errors import InputError, OutputError
from deja_vu.io.images import MAX_SIDE, read_picture, write_png
from tests.helpers.films import Color, encode_signal

RGB = (200, 120, 40)


def gradient(width=160, height=120):
    """A picture whose four corners differ."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 90)], -1).astype(np.uint8)


def test_a_plain_photo_arrives_as_it_is(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.rgb, gradient())
    assert picture.focal_ratio is None
    assert picture.notes == ()


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_turns_the_picture_upright(tmp_path, orientation, turn, suffix):
    """Once: TIFF is turned by Pillow itself."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / f"a.{suffix}", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / f"a.{suffix}").rgb, np.rot90(gradient(), turn))


def test_the_stated_focal_length_counts_for_uncropped_pictures_only(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    for name, size in {"whole.jpg": (400, 300), "square.jpg": (300, 300)}.items():
        Image.new("RGB", size).save(tmp_path / name, exif=exif)
    # A 4:3 picture with the diagonal of 36 x 24 mm is 34.6 mm wide.
    assert read_picture(tmp_path / "whole.jpg").focal_ratio == pytest.approx(26 / 34.61, rel=1e-3)
    assert read_picture(tmp_path / "square.jpg").focal_ratio is None


def test_ink_16_bits_and_transparency(tmp_path):
    Image.new("CMYK", (120, 120), (0, 255, 255, 0)).save(tmp_path / "ink.tif")
    np.testing.assert_allclose(read_picture(tmp_path / "ink.tif").rgb[60, 60], (255, 0, 0), atol=2)
    Image.fromarray(np.full((120, 120), 32896, np.uint16)).save(tmp_path / "deep.png")
    deep = read_picture(tmp_path / "deep.png")
    np.testing.assert_array_equal(deep.rgb[0, 0], (128, 128, 128))
    assert "16-bit" in deep.notes[0]
    Image.new("RGBA", (120, 120), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    clear = read_picture(tmp_path / "clear.png")
    np.testing.assert_array_equal(clear.rgb[0, 0], (255, 255, 255))
    assert "transparent" in clear.notes[0]
    Image.new("P", (120, 120)).save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png").rgb.shape == (120, 120, 3)


def test_a_profile_is_applied(tmp_path):
    gray = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (120, 120), RGB).save(tmp_path / "same.png", icc_profile=gray)
    np.testing.assert_allclose(read_picture(tmp_path / "same.png").rgb[0, 0], RGB, atol=1)
    Image.new("RGB", (120, 120), RGB).save(tmp_path / "bad.png", icc_profile=b"not a profile")
    bad = read_picture(tmp_path / "bad.png")
    np.testing.assert_array_equal(bad.rgb[0, 0], RGB)
    assert "profile cannot be used" in bad.notes[0]


def test_huge_pictures_are_reduced(tmp_path):
    Image.new("RGB", (MAX_SIDE + 1000, 700), RGB).save(tmp_path / "huge.jpg")
    huge = read_picture(tmp_path / "huge.jpg")
    assert huge.rgb.shape[1] == MAX_SIDE
    assert f"reduced to {MAX_SIDE}" in huge.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jpg", None, "There is no file"),
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"hello" * 100, "no picture that can be opened"),
        ("tiny.png", (40, 400), "40 x 400 pixels; at least 96"),
        ("bomb.png", (16000, 16000), "megapixels"),
    ],
)
def test_refusals(tmp_path, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content:
        Image.new("1", content).save(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_picture(tmp_path / name)


def test_a_broken_off_file_is_refused(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)).save(whole, "JPEG")
    (tmp_path / "half.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_picture(tmp_path / "half.jpg")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_a_written_png_is_what_another_reader_sees(shape, tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_png(tmp_path / "x.png", image)
    with Image.open(tmp_path / "x.png") as file:
        np.testing.assert_array_equal(np.asarray(file), image)


def test_a_picture_that_cannot_be_written_is_not_forgotten(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        write_png(tmp_path / "file" / "x.png", np.zeros((4, 4, 3), np.uint8))


def odd_exif(entries: list[tuple[int, int, int, bytes]], rest: bytes) -> bytes:
    """An EXIF block as bytes: tag, kind, count and value of each entry, and what these point to."""
    block = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0" + block + struct.pack("<I", 0) + rest


def with_exif(path, exif: bytes):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(gradient()))).save(file, "JPEG", quality=95)
    content = file.getvalue()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    return path


@pytest.mark.parametrize(
    "value",
    [struct.pack("<ii", -1, 0), struct.pack("<ii", 0, 0), struct.pack("<ii", -(2**31), -1), b""],
    ids=["-1/0", "0/0", "least", "cut"],
)
def test_odd_numbers_in_exif_do_not_keep_a_photo_from_being_read_upright(tmp_path, value):
    path = with_exif(tmp_path / "odd.jpg", odd_exif([(0x112, 3, 1, struct.pack("<I", 6)), (0x11A, 10, 1, struct.pack("<I", 38))], value))
    found = read_picture(path).rgb.astype(int)
    assert found.shape == gradient().shape
    assert np.abs(found - gradient()).mean() < 3  # JPEG


@pytest.mark.parametrize("focal", [1, 5, 60000])
def test_a_focal_length_that_no_lens_has_is_not_believed(tmp_path, focal):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = focal
    Image.new("RGB", (400, 300)).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").focal_ratio is None


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_heic_photos_are_read_upright(tmp_path, orientation, turn):
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = heif.from_pillow(Image.fromarray(gradient()))
    file.info["exif"] = exif.tobytes()  # becomes a turn of the container's own
    file.save(tmp_path / "a.heic", quality=95)
    found, expected = read_picture(tmp_path / "a.heic").rgb.astype(int), np.rot90(gradient(), turn)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 3  # the encoder


def test_avif_photos_are_read(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.avif", quality=95)
    assert np.abs(read_picture(tmp_path / "a.avif").rgb.astype(int) - gradient()).mean() < 3  # the encoder


def test_a_photo_in_wide_color_is_brought_to_srgb(tmp_path):
    """As phones store them, Display P3: by a profile in JPEG, by coded numbers in HEIC."""
    heif = pytest.importorskip("pillow_heif")
    color = Color("P3", gamut="P3")
    signal = np.rint(255 * encode_signal(gradient(), color)).clip(0, 255).astype(np.uint8)
    inside = (255 * encode_signal(gradient(), color) > 0).all(-1)
    file = heif.from_pillow(Image.fromarray(signal))
    coded = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6, "full_range_flag": 1}
    file.save(tmp_path / "a.heic", quality=100, chroma=444, **coded)
    picture = read_picture(tmp_path / "a.heic")
    assert picture.notes == ("It was filmed in Display P3 color; brought to sRGB, the range and colors of ordinary displays.",)
    assert np.abs(picture.rgb.astype(int) - gradient())[inside].mean() < 3  # the encoder


def test_sixteen_bits_a_color_are_reduced(tmp_path):
    deep = gradient().astype(np.uint16) * 257
    for name in ("a.tif", "a.png"):
        cv2.imwrite(str(tmp_path / name), deep[..., ::-1])
        np.testing.assert_array_equal(read_picture(tmp_path / name).rgb, gradient())


@pytest.mark.parametrize(("head", "kind"), [(b"%PDF-1.4", "a PDF"), (b"\0\0\0\x14ftypqt  ", "a video"), (b"8BPS", "Photoshop")])
def test_what_is_taken_for_a_photo_is_called_what_it_is(tmp_path, head, kind):
    (tmp_path / "a.jpg").write_bytes(head + bytes(200))
    with pytest.raises(InputError, match=f"{kind}.*Expected JPEG, PNG, WebP, TIFF, HEIC or AVIF"):
        read_picture(tmp_path / "a.jpg")


def test_a_photo_whose_path_is_not_utf8_is_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xfcr.png"))
    write_png(path, gradient())
    np.testing.assert_array_equal(read_picture(path).rgb, gradient())


def test_a_huge_transparent_picture_is_reduced_before_it_is_copied(tmp_path):
    """10,000 pixels squared stay below 1.2 GB so."""
    Image.new("RGBA", (2 * MAX_SIDE, 512), (200, 120, 40, 128)).save(tmp_path / "huge.png", compress_level=1)
    picture = read_picture(tmp_path / "huge.png")
    assert picture.rgb.shape == (256, MAX_SIDE, 3)
    np.testing.assert_allclose(picture.rgb[0, 0], (227, 187, 147), atol=1)


def test_ink_in_a_jpeg_without_adobes_mark_is_ink(tmp_path):
    """Adobe's programs store light in place of ink, and leave a mark; others store ink."""
    ink = 255 - np.dstack([gradient(), np.full((120, 160), 255, np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(255 - ink, "CMYK").save(buffer, "JPEG", quality=95)  # Pillow turns it over once more, and marks it
    data = buffer.getvalue()
    mark = data.find(b"\xff\xee")
    (tmp_path / "a.jpg").write_bytes(data[:mark] + data[mark + 2 + int.from_bytes(data[mark + 2 : mark + 4], "big") :])
    assert np.abs(read_picture(tmp_path / "a.jpg").rgb.astype(int) - gradient()).max() < 20


def test_a_png_says_in_what_curve_and_colors_it_is(tmp_path):
    light = np.rint(255 * (gradient() / 255.0) ** 2.2).astype(np.uint8)
    for name, data, stored, reached in (
        ("gAMA", struct.pack(">I", 100_000), light, gradient()),
        ("gAMA", struct.pack(">I", 45_455), gradient(), gradient()),
        ("cICP", bytes([1, 13, 0, 1]), gradient(), gradient()),
        ("cICP", bytes([1, 8, 0, 1]), light, gradient()),
    ):
        info = PngImagePlugin.PngInfo()
        info.add(name.encode(), data)
        Image.fromarray(stored).save(tmp_path / "a.png", pnginfo=info)
        picture = read_picture(tmp_path / "a.png")
        bright = reached > 60  # a byte of light is too coarse below
        assert np.abs(picture.rgb.astype(int) - reached)[bright].max() < 8, (name, data)
        assert bool(picture.notes) == (stored is light)


ADOBE_RGB = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
SRGB = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]])
"""To XYZ, as Adobe and IEC publish them."""


@pytest.mark.parametrize(
    ("space", "rule", "wide"),
    [(65535, "R03", True), (2, None, True), (65535, "R98", False), (65535, None, False), (1, "R03", False), (None, None, False)],
)
def test_a_camera_that_says_adobe_rgb_in_exif_alone_is_believed(tmp_path, space, rule, wide):
    """DCF 2.0: ColorSpace is none of EXIF's own, and the rule of interoperability is R03; no profile."""
    value = gradient() / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ (np.linalg.inv(ADOBE_RGB) @ SRGB).T
    exif = Image.Exif()
    block = exif.get_ifd(0x8769)
    if space is not None:
        block[0xA001] = space
    if rule is not None:
        block[0xA005] = {1: rule}
    stored = np.rint(255 * light.clip(0, 1) ** (256 / 563)).astype(np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif.tobytes())
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_allclose(picture.rgb.astype(int), gradient() if wide else stored, atol=16)  # dark bytes of another curve are coarse
    assert [("Adobe RGB" in note) for note in picture.notes] == [True] * wide


def gray_profile(gamma: float) -> bytes:
    """An ICC profile, version 2, of shades with a curve."""
    parts = {
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(256 * gamma), 0),
    }
    table, data = struct.pack(">I", len(parts)), b""
    for name, part in parts.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(parts) + len(data), len(part))
        data += part
    head = struct.pack(">IIIIII", 128 + len(table) + len(data), 0, 0x02100000, 0, 0, 0)
    head = head[:12] + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061) + bytes(48)
    return head + table + data


def test_a_profile_of_gray_is_applied(tmp_path):
    shade = np.tile(np.arange(96, 224, dtype=np.uint8), (96, 1))
    light = np.rint(255 * np.where(shade / 255 <= 0.04045, shade / 255 / 12.92, ((shade / 255 + 0.055) / 1.055) ** 2.4)).astype(np.uint8)
    Image.fromarray(light).save(tmp_path / "a.png", icc_profile=gray_profile(1.0))
    np.testing.assert_allclose(read_picture(tmp_path / "a.png").rgb[0, :, 1].astype(int), shade[0], atol=4)  # bytes of light are coarse


def test_raw_photos_are_refused_in_place_of_their_preview(tmp_path):
    for tag, value in ((254, 1), (0xC612, bytes([1, 4, 0, 0]))):
        entries = TiffImagePlugin.ImageFileDirectory_v2()
        entries[tag] = value
        Image.fromarray(gradient()).save(tmp_path / "a.dng", format="TIFF", tiffinfo=entries)
        with pytest.raises(InputError, match="is a raw photo"):
            read_picture(tmp_path / "a.dng")


def test_numbers_of_32_bits_are_not_taken_for_white(tmp_path):
    Image.fromarray(np.full((120, 120), 1 << 30, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="32 bits"):
        read_picture(tmp_path / "a.tif")


def test_alpha_that_hides_nothing_changes_nothing(tmp_path):
    Image.fromarray(np.dstack([gradient(), np.full((120, 160), 255, np.uint8)])).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.rgb, gradient())
    assert picture.notes == ()
