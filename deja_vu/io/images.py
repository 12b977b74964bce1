"""Reading of photo files, from phones, cameras and programs, as upright 8-bit sRGB; writing of PNG files."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow
from PIL import ImageChops, ImageCms, TiffImagePlugin, UnidentifiedImageError

from deja_vu.core.errors import InputError
from deja_vu.core.image import decode_picture
from deja_vu.io.arrays import write_picture
from deja_vu.io.color import ADOBE_RGB, gamma_table, rgb_to_srgb, still_tags
from deja_vu.io.video import Image

MIN_SIDE = 96
"""Shortest side in which a face can show eyes and lips, pixels."""
MAX_SIDE = 4096
"""Longer pictures are reduced to this side: a head needs no more."""
MAX_PIXELS = 178_000_000
"""Largest picture that is opened, about the limit that Pillow sets itself; a decoded one takes three bytes a pixel."""
FULL_FRAME_DIAGONAL = 43.27
"""Of the 36 x 24 mm frame by which EXIF states focal lengths, millimeters."""
FOCAL_TAG = 0xA405
"""EXIF's FocalLengthIn35mmFilm."""
EXIF_BLOCK = 0x8769
"""The block that holds it."""
SHORTEST_FOCAL, LONGEST_FOCAL = 8, 800
"""Of lenses with which faces are taken, millimeters by EXIF's measure; what lies beyond is not believed."""
COLOR_SPACE_TAG = 0xA001
"""EXIF's ColorSpace: 1 is sRGB, 65535 none of EXIF's own; some cameras write 2 for Adobe RGB."""
INTEROP_BLOCK = 0xA005
"""The block within that one whose first entry says by which rule a camera wrote the file; R03 is the one for Adobe RGB (DCF 2.0)."""
GAMMA_22 = 4
"""H.273's number of the curve of Adobe RGB."""
PREVIEW_TAG = 0x00FE
"""TIFF's NewSubfileType; 1 is a picture of less resolution than another in the file."""
DNG_TAG = 0xC612
"""DNGVersion, which raw photos alone have."""
ORIENTATION_TAG = 0x0112
TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
"""What EXIF's orientations are undone by."""
DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, RuntimeError, AttributeError)
"""What Pillow and the libraries below it raise on files that break off or are malformed."""
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
KNOWN_KINDS = {b"%PDF": "a PDF", b"8BPS": "a Photoshop file", b"ftypqt": "a video", b"ftyp": "a video or a picture of a rare kind"}
"""First bytes of files that are taken for photos."""
CODED_COLOR_WITHIN = 65536
"""Bytes in which a HEIC, AVIF or PNG file describes its picture."""
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
USUAL_GAMMA = (0.43, 0.48)
"""Exponents from light to signal that PNG states for ordinary displays; sRGB's is 0.455."""
POSSIBLE_GAMMA = (0.1, 2.0)
"""Exponents that are believed; light itself has 1."""


@dataclass(frozen=True)
class Picture:
    """A photo, decoded."""

    rgb: Image
    """Upright, sRGB, over white where the file is transparent."""
    focal_ratio: float | None
    """Focal length over the longer side as the camera states it; None where it does not, or the picture was surely cropped."""
    notes: tuple[str, ...]
    """Changes made on reading, for the user."""


def read_picture(path: Path) -> Picture:
    """Read a photo: turned as EXIF says, its colors brought to sRGB, 16 bits to 8, ink to light, huge ones reduced.

    Args:
        path: JPEG, PNG, WebP, TIFF, HEIC, AVIF or whatever else Pillow reads.

    Raises:
        InputError: no such file, no picture, damaged, or too small or large.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}. Expected the path of a photo.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes). Expected a photo.")
    notes: list[str] = []
    _open_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of metadata; the limit of size here is our own
            with Pillow.open(path) as file:
                _refuse_size(path, file)
                _refuse_raw(path, file)
                if getattr(file, "n_frames", 1) > 1:
                    notes.append(f"{path.name} holds {getattr(file, 'n_frames', 1)} pictures; the first is used.")
                if file.format == "JPEG":
                    file.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))  # decodes at half, a quarter ... of the size, in that share of the time
                size, (focal, turn) = file.size, _read_exif(path, file, notes)
                turn = None if isinstance(file, TiffImagePlugin.TiffImageFile) else turn  # Pillow turns TIFF itself
                rgb = _to_srgb(file, coded_color(path) or _exif_color(file), notes)
    except Pillow.DecompressionBombError as error:
        raise InputError(f"{path} is larger than {MAX_PIXELS // 10**6} megapixels. Reduce it first.") from error
    except UnidentifiedImageError as error:
        rgb, size, focal, turn = *_read_deep(path, notes, error), None, None
    except DAMAGED as error:
        why = _first_line(error)
        raise InputError(f"{path} is damaged or of a kind that cannot be read ({why}). Export it again as JPEG or PNG.") from error
    rgb = rgb if turn is None else rgb.transpose(turn)
    if max(rgb.size) > MAX_SIDE:
        rgb.thumbnail((MAX_SIDE, MAX_SIDE), Pillow.Resampling.LANCZOS, reducing_gap=3.0)
    if max(size) > max(rgb.size):
        notes.append(f"{path.name} was reduced to {rgb.size[0]} x {rgb.size[1]} pixels.")
    return Picture(np.array(rgb), focal, tuple(notes))


@functools.cache
def _open_heif() -> None:
    """Let Pillow open HEIC, which iPhones write."""
    with contextlib.suppress(ImportError):  # its files are then refused by name
        import pillow_heif

        pillow_heif.register_heif_opener()


def _first_line(error: Exception) -> str:
    """What an error says, in short."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def _read_deep(path: Path, notes: list[str], error: Exception) -> tuple[Pillow.Image, tuple[int, int]]:
    """A picture that Pillow does not know but OpenCV may: TIFF with 16 bits a color.

    Raises:
        InputError: the kind of file is named, with the way out.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head[:4] in (b"II*\0", b"MM\0*"):
        picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
        if picture is not None and picture.dtype == np.uint16 and picture.ndim == 3 and min(picture.shape[:2]) >= MIN_SIDE:
            notes.append(f"{path.name}: 16 bits were reduced to 8; a color profile, if it has one, is not applied.")
            rgb = Pillow.fromarray(np.ascontiguousarray((picture[..., 2::-1] // 257).astype(np.uint8)))
            return rgb, rgb.size
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        raise InputError(f"{path} is an HEIC photo that cannot be opened here. Install pillow-heif, or export it as JPEG.") from error
    kind = next((name for start, name in KNOWN_KINDS.items() if head.startswith(start) or head[4:].startswith(start)), None)
    what = f"is {kind}, not a photo" if kind else "is no picture that can be opened"
    raise InputError(f"{path} {what}. Expected JPEG, PNG, WebP, TIFF, HEIC or AVIF.") from error


def _refuse_size(path: Path, file: Pillow.Image) -> None:
    width, height = file.size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path} has {width} x {height} pixels; at least {MIN_SIDE} a side are needed, 500 or more are good.")
    if width * height > MAX_PIXELS:
        raise InputError(f"{path} has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} megapixels. Reduce it first.")


def _refuse_raw(path: Path, file: Pillow.Image) -> None:
    """Refuse a raw photo, whose first picture is a small preview or no picture yet."""
    if isinstance(file, TiffImagePlugin.TiffImageFile) and (file.tag_v2.get(PREVIEW_TAG) == 1 or DNG_TAG in file.tag_v2):
        raise InputError(f"{path} is a raw photo, which has to be developed first. Export it as JPEG, TIFF or HEIC.")


def _read_exif(path: Path, file: Pillow.Image, notes: list[str]) -> tuple[float | None, Pillow.Transpose | None]:
    """Focal length over the longer side, and the turn that makes a picture upright; None where EXIF does not say so credibly."""
    try:
        exif = file.getexif()
        turn, stated = TURNS.get(exif.get(ORIENTATION_TAG, 1)), exif.get_ifd(EXIF_BLOCK).get(FOCAL_TAG)
    except DAMAGED as error:
        notes.append(f"{path.name}: its EXIF block cannot be read ({_first_line(error)}); the picture is taken as it lies.")
        return None, None
    width, height = file.size
    shape = max(width, height) / min(width, height)
    if not isinstance(stated, int | float) or not SHORTEST_FOCAL <= stated <= LONGEST_FOCAL or not 1.25 < shape < 1.8:
        return None, turn  # a shape that no sensor has was cropped
    return float(stated) / FULL_FRAME_DIAGONAL * float(np.hypot(1, 1 / shape)), turn


def _exif_color(file: Pillow.Image) -> tuple[int, int] | None:
    """The same as of `coded_color` where EXIF says that a camera wrote Adobe RGB; what cannot be read says nothing."""
    try:
        exif = file.getexif()
        space = exif.get_ifd(EXIF_BLOCK).get(COLOR_SPACE_TAG)
        rule = exif.get_ifd(INTEROP_BLOCK).get(1) if space == 65535 else None
    except DAMAGED:
        return None
    rule = rule.decode("latin-1") if isinstance(rule, bytes) else rule
    return (ADOBE_RGB, GAMMA_22) if space == 2 or (isinstance(rule, str) and rule.startswith("R03")) else None


def coded_color(path: Path) -> tuple[int, int] | None:
    """Primaries and transfer curve, by the numbers of H.273, that a HEIC, AVIF or PNG file states in place of a profile."""
    with path.open("rb") as file:
        head = file.read(CODED_COLOR_WITHIN)
    if head.startswith(PNG_HEAD):
        place = head.find(b"cICP", 0, head.find(b"IDAT"))
        return (head[place + 4], head[place + 5]) if place > 0 else None
    if head[4:8] != b"ftyp":
        return None
    place = head.find(b"colrnclx")
    if place < 0 or len(head) < place + 14:
        return None
    primaries, transfer = struct.unpack(">HH", head[place + 8 : place + 12])
    return primaries, transfer


def _to_srgb(picture: Pillow.Image, coded: tuple[int, int] | None, notes: list[str]) -> Pillow.Image:
    """Three channels of 8 bits, colors converted by the embedded profile or the coded color where there is one, over white."""
    info = picture.info
    profile = info.get("icc_profile")
    if picture.mode == "CMYK" and picture.format == "JPEG" and "adobe" not in info:
        picture = ImageChops.invert(picture)  # Pillow takes all for Adobe's, which count light in place of ink
    if picture.mode in ("RGB", "RGBA", "CMYK", "L", "LA", "LAB") and max(picture.size) >= 2 * MAX_SIDE:
        picture = picture.reduce(max(picture.size) // MAX_SIDE)  # before copies of all of it are made
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if picture.mode.startswith("I"):
        deep = np.asarray(picture)
        if deep.max() > 65535:
            raise ValueError("its pixels are numbers of 32 bits")
        notes.append("16-bit gray was reduced to 8 bits.")
        return Pillow.fromarray((deep.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in info:
        rgba = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            notes.append("What was transparent is white now.")
            rgba = Pillow.alpha_composite(Pillow.new("RGBA", rgba.size, "white"), rgba)
        picture = rgba.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else None
        if picture.mode not in ("RGB", "CMYK", "LAB") and not (picture.mode == "L" and _is_gray(source)):
            source = source if picture.mode == "P" else None  # of its colors; of gray, colors say nothing
            picture = picture.convert("RGB")
        if source:
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert converted is not None
            return converted
    except (ImageCms.PyCMSError, OSError) as error:
        notes.append(f"Its color profile cannot be used ({_first_line(error)}); colors may be off.")
    rgb = picture.convert("RGB")
    if not profile and coded is not None and (tags := still_tags(*coded)) is not None:
        notes.append(f"It was {tags.note}")
        return Pillow.fromarray(rgb_to_srgb(np.asarray(rgb), tags))
    gamma = 0.0 if profile or "srgb" in info else float(info.get("gamma", 0))
    if POSSIBLE_GAMMA[0] <= gamma <= POSSIBLE_GAMMA[1] and not USUAL_GAMMA[0] <= gamma <= USUAL_GAMMA[1]:
        notes.append(f"It states a gamma of {gamma:.3g}; brought to sRGB.")
        rgb = rgb.point(3 * gamma_table(gamma).tolist())
    return rgb


def _is_gray(profile: ImageCms.ImageCmsProfile | None) -> bool:
    """Whether a color profile is one of shades alone."""
    return profile is not None and profile.profile.xcolor_space.strip() == "GRAY"


def write_png(path: Path, image: UInt8[np.ndarray, "H W *C"]) -> None:
    """Write a picture in one step: gray [H W], RGB [H W 3] or RGBA [H W 4].

    Raises:
        OutputError: it cannot be written; a former file is kept.
    """
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[-1])]]  # OpenCV's order of channels
    write_picture(path, image)
