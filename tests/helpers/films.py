"""Tiny films as phones, cameras and programs store them. Their color is written by the standards' formulas, not by the code under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TO_709 = {
    "BT.709": np.eye(3),
    # BT.2087: linear BT.709 to linear BT.2020; SMPTE EG 432-1 and RP 177 for the others.
    "BT.2020": np.array([[0.6274040, 0.3292820, 0.0433136], [0.0690970, 0.9195400, 0.0113612], [0.0163916, 0.0880132, 0.8955950]]),
    "P3": np.array([[0.8224622, 0.1775380, 0.0], [0.0331942, 0.9668058, 0.0], [0.0170826, 0.0723974, 0.9105199]]),
}
LUMA = {"BT.709": (0.2126, 0.0722), "BT.601": (0.299, 0.114), "BT.2020": (0.2627, 0.0593)}
MATRIX_TAG = {"BT.709": 1, "BT.601": 6, "BT.2020": 9}


@dataclass(frozen=True)
class Color:
    """How a film says what its numbers mean, and how they are made."""

    name: str
    transfer: str = "SDR"
    gamut: str = "BT.709"
    matrix: str = "BT.709"
    full: bool = False
    tagged: bool = True

    @property
    def tags(self) -> tuple[int, int, int, int]:
        """Primaries, transfer, matrix and range by H.273."""
        if not self.tagged:
            return 2, 2, 2, 1
        primaries = {"BT.709": 1, "BT.2020": 9, "P3": 12}[self.gamut]
        return primaries, {"SDR": 1, "HLG": 18, "PQ": 16}[self.transfer], MATRIX_TAG[self.matrix], 2 if self.full else 1


def picture(height: int = 96, width: int = 96) -> np.ndarray:
    """Smooth colors of skin, cloth and sky, within every gamut: uint8 sRGB, with a mark that tells up from down and left from right."""
    y, x = np.mgrid[0:height, 0:width] / (width - 1)
    image = np.stack([0.85 - 0.3 * y, 0.35 + 0.4 * x * (1 - y / 2), 0.3 + 0.45 * y], -1)
    image[: height // 3, : width // 4] = image[: height // 3, : width // 4] * 0.5 + 0.1
    return np.rint(255 * image).astype(np.uint8)


def encode_signal(image: np.ndarray, color: Color) -> np.ndarray:
    """The nonlinear signal of an sRGB picture, [H W 3] from 0 to 1: diffuse white of HDR is 203 of 1000 nits (BT.2408, BT.2100)."""
    x = image / 255.0
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) @ TO_709[color.gamut].T
    if color.transfer == "SDR":
        return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    if color.transfer == "PQ":
        power = np.maximum(linear * 203 / 10000, 0) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    shown = np.maximum(linear * 0.203, 1e-9)
    luminance = (shown @ [0.2627, 0.6780, 0.0593])[..., None]
    scene = shown * luminance ** (1 / 1.2 - 1)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)


def as_frame(image: np.ndarray, color: Color, form: str) -> av.VideoFrame:
    """The picture in a format of pixels, tagged."""
    red, blue = LUMA[color.matrix]
    signal = encode_signal(image, color)
    y = signal @ [red, 1 - red - blue, blue]
    u, v = (signal[..., 2] - y) / (2 - 2 * blue), (signal[..., 0] - y) / (2 - 2 * red)
    top = 65535
    limited = [256 * (16 + 219 * y), 256 * (128 + 224 * u), 256 * (128 + 224 * v)]
    planes = [top * y, top * u + 32768, top * v + 32768] if color.full else limited
    stored = np.clip(np.rint(planes), 0, top).astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(np.moveaxis(stored, 0, -1).copy(), format="yuv444p16le")
    # One matrix and range on both sides: only the number of bits and chroma samples changes.
    frame.colorspace, frame.color_range = 1, 2 if color.full else 1
    return frame.reformat(format=form, interpolation="AREA")


def write_film(
    path: Path,
    images: Sequence[np.ndarray],
    color: Color,
    codec: str = "libx264",
    form: str = "yuv420p",
    *,
    options: dict[str, str] | None = None,
    rate: int = 25,
    times: Sequence[float] | None = None,
    rotation: int = 0,
) -> Path:
    """A film of pictures. `times`: of each frame, seconds, in place of the rate; rotation: degrees counter-clockwise, as FFmpeg counts."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        height, width = images[0].shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, form
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = color.tags
        base = Fraction(1, 1000) if times is not None else Fraction(1, rate)
        stream.time_base = context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        for number, image in enumerate(images):
            frame = as_frame(image, color, form)
            frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = color.tags
            frame.pts, frame.time_base = number if times is None else round(1000 * times[number]), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Between 8-bit pictures, dB."""
    error = ((found.astype(float) - wanted) ** 2).mean()
    return float(-10 * np.log10(max(error, 1e-9) / 255**2))
