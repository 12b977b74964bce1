"""Photo files in: whatever a phone, a camera or a program writes, as upright 8-bit sRGB. PNG files out."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from deja_vu.core.errors import InputError
from deja_vu.io.arrays import write_picture
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
        path: JPEG, PNG, WebP, TIFF or whatever else Pillow reads.

    Raises:
        InputError: no such file, no picture, damaged, or too small or large.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}. Expected the path of a photo.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes). Expected a photo.")
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # the limit here is our own
            with Pillow.open(path) as file:
                _refuse_size(path, file)
                if getattr(file, "n_frames", 1) > 1:
                    notes.append(f"{path.name} holds {getattr(file, 'n_frames', 1)} pictures; the first is used.")
                if file.format == "JPEG":
                    file.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))  # decodes at half, a quarter ... of the size, in that share of the time
                size, focal = file.size, _focal_ratio(file)
                upright = ImageOps.exif_transpose(file)
                rgb = _to_srgb(upright, notes)
    except Pillow.DecompressionBombError as error:
        raise InputError(f"{path} is larger than {MAX_PIXELS // 10**6} megapixels. Reduce it first.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no picture that can be opened. Expected JPEG, PNG, WebP or TIFF.") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's readers raise these on files that break off or are malformed
        raise InputError(f"{path} is damaged or of a kind that cannot be read ({error}). Export it again as JPEG or PNG.") from error
    if max(rgb.size) > MAX_SIDE:
        rgb.thumbnail((MAX_SIDE, MAX_SIDE), Pillow.Resampling.LANCZOS, reducing_gap=3.0)
    if max(size) > max(rgb.size):
        notes.append(f"{path.name} was reduced to {rgb.size[0]} x {rgb.size[1]} pixels.")
    return Picture(np.array(rgb), focal, tuple(notes))


def _refuse_size(path: Path, file: Pillow.Image) -> None:
    width, height = file.size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path} has {width} x {height} pixels; at least {MIN_SIDE} a side are needed, 500 or more are good.")
    if width * height > MAX_PIXELS:
        raise InputError(f"{path} has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} megapixels. Reduce it first.")


def _focal_ratio(file: Pillow.Image) -> float | None:
    """Focal length over the longer side from its 35 mm equivalent, which compares diagonals."""
    stated = file.getexif().get_ifd(EXIF_BLOCK).get(FOCAL_TAG)
    width, height = file.size
    shape = max(width, height) / min(width, height)
    if not isinstance(stated, int | float) or stated <= 0 or not 1.25 < shape < 1.8:
        return None  # a shape that no sensor has was cropped
    return float(stated) / FULL_FRAME_DIAGONAL * float(np.hypot(1, 1 / shape))


def _to_srgb(picture: Pillow.Image, notes: list[str]) -> Pillow.Image:
    """Three channels of 8 bits, colors converted by the embedded profile where there is one, over white."""
    profile = picture.info.get("icc_profile")
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        notes.append("16-bit grey was reduced to 8 bits.")
        return Pillow.fromarray((values.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Pillow.new("RGBA", rgba.size, "white")
        notes.append("What was transparent is white now.")
        picture = Pillow.alpha_composite(white, rgba).convert("RGB")
    if picture.mode not in ("RGB", "CMYK", "LAB"):
        return picture.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert converted is not None
            return converted
        except (ImageCms.PyCMSError, OSError) as error:
            notes.append(f"Its color profile cannot be used ({error}); colors may be off.")
    return picture.convert("RGB")


def write_png(path: Path, image: UInt8[np.ndarray, "H W *C"]) -> None:
    """Write a picture in one step: grey [H W], RGB [H W 3] or RGBA [H W 4].

    Raises:
        OutputError: it cannot be written; a former file is kept.
    """
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[-1])]]  # OpenCV's order of channels
    write_picture(path, image)
