"""Frames of video to display sRGB, by the tags of their stream: matrix, range, transfer curve and primaries.

Numbers of tags are those of ITU-T H.273. Standard range is taken as it is meant for a display. HLG and PQ become what a display of 1000
nits shows, with diffuse white of 203 nits (ITU-R BT.2408) as the white of sRGB; brighter light is rolled off.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from deja_vu.core.errors import InputError
from deja_vu.native import Color, available, call

if TYPE_CHECKING:
    from av import VideoFrame

Transfer = Literal["standard", "gamma 2.2", "gamma 2.8", "linear", "cinema", "HLG", "PQ"]

UNTAGGED = 2
TRANSFERS: dict[int, Transfer] = {
    **dict.fromkeys((0, 1, UNTAGGED, 3, 6, 7, 11, 12, 13, 14, 15), "standard"),
    **{4: "gamma 2.2", 5: "gamma 2.8", 8: "linear", 16: "PQ", 17: "cinema", 18: "HLG"},
}
"""Curves of the video standards (BT.601, 709, 2020, 240M) and sRGB's are all for one display: taken as sRGB."""
LUMA: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""Shares of red and blue in the luma of each matrix."""
RGB_MATRIX = 0
ADOBE_RGB = 256
"""Stands for Adobe RGB among primaries: no number of H.273, which are bytes."""
PRIMARIES: dict[int, tuple[float, ...]] = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, 0.3127, 0.3290),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, 0.3127, 0.3290),
    ADOBE_RGB: (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290),
}
"""Chromaticities x, y of red, green, blue and white."""
GAMUT_NAMES = {1: "BT.709", 4: "NTSC", 5: "BT.601 (625 lines)", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3", 22: "EBU 3213"}
GAMUT_NAMES |= dict.fromkeys((6, 7), "BT.601 (525 lines)") | {ADOBE_RGB: "Adobe RGB"}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""XYZ to the cone responses by which whites are adapted."""

PEAK = 1000.0
"""Of the display that HDR is shown on before it is brought to sRGB, nits: BT.2100's reference, for which HLG's system gamma is 1.2."""
WHITE = 203.0
"""Diffuse white of HDR, nits (BT.2408)."""
SYSTEM_GAMMA = 1.2
KNEE = 0.95
"""sRGB value above which highlights are rolled off: from here up to white lies what HDR holds up to the peak."""
TABLE = 4096
"""Entries of the tables from signals to light and from light to sRGB, as the native code has them."""
HIGHEST_SIGNAL = 1.1
"""Limited range reaches 9 % above white."""


@dataclass(frozen=True)
class ColorTags:
    """What a stream says about the color of its frames, with what it leaves out filled in."""

    matrix: int
    full_range: bool
    transfer: Transfer
    primaries: int

    @property
    def plain(self) -> bool:
        """Whether undoing matrix and range gives sRGB already."""
        return self.transfer == "standard" and self.primaries == 1

    @property
    def note(self) -> str | None:
        """What a reader does to the colors, for the user; None where nothing."""
        if self.plain:
            return None
        gamut = "" if self.primaries == 1 else f"{GAMUT_NAMES[self.primaries]} color"
        curve = "" if self.transfer == "standard" else self.transfer
        kind = " with ".join(part for part in (f"HDR ({curve})" if curve in ("HLG", "PQ") else curve, gamut) if part)
        return f"filmed in {kind}; brought to sRGB, the range and colors of ordinary displays."


def read_tags(frame: VideoFrame, name: str) -> ColorTags:
    """The color of a decoded frame: its tags; where it has none, BT.709 for HD and BT.601's matrix for smaller pictures.

    Args:
        frame: decoded.
        name: of the file, for messages.

    Raises:
        InputError: a kind of color that cannot be brought to sRGB.
    """
    matrix, primaries, curve = (int(tag) for tag in (frame.colorspace, frame.color_primaries, frame.color_trc))
    rgb = frame.format.is_rgb
    if primaries in (0, UNTAGGED, 3):
        primaries = 9 if matrix in (9, 10) or (curve in (16, 18)) else 1
    if matrix in (UNTAGGED, 3) or (matrix == RGB_MATRIX and not rgb):
        hd = max(frame.width, frame.height) >= 1280 or min(frame.width, frame.height) > 576
        matrix = 9 if primaries == 9 else 1 if hd else 5
    if rgb:
        matrix = RGB_MATRIX
    has_dolby = any(frame.side_data.get(kind) is not None for kind in ("DOVI_METADATA", "DOVI_RPU_BUFFER"))
    if has_dolby and curve in (0, UNTAGGED):
        raise InputError(
            f"{name} is in Dolby Vision that only its own players show (profile 5). Film in HLG or standard range, or export it as SDR."
        )
    if matrix not in (*LUMA, RGB_MATRIX) or curve not in TRANSFERS or primaries not in PRIMARIES:
        raise InputError(
            f"{name} stores colors in a way that is not read (matrix {matrix}, transfer {curve}, primaries {primaries} of H.273). "
            "Export it as SDR in BT.709."
        )
    full = int(frame.color_range) == 2 or frame.format.name.startswith("yuvj") or rgb
    return ColorTags(matrix, full, TRANSFERS[curve], primaries)


def still_tags(primaries: int, transfer: int) -> ColorTags | None:
    """The color of a photo by the numbers of H.273, or `ADOBE_RGB`; None where it is sRGB, or not known."""
    primaries = 1 if primaries == UNTAGGED else primaries
    if transfer not in TRANSFERS or primaries not in PRIMARIES:
        return None
    tags = ColorTags(RGB_MATRIX, True, TRANSFERS[transfer], primaries)
    return None if tags.plain else tags


def rgb_to_srgb(rgb: UInt8[np.ndarray, "H W 3"], tags: ColorTags) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of red, green and blue signals as 8-bit display sRGB."""
    return _show(rgb.astype(np.float32) / 255, _tones(tags.transfer, tags.primaries))


def gamma_table(exponent: float) -> UInt8[np.ndarray, " 256"]:
    """8-bit sRGB of 8-bit signals that are light to the power of an exponent, as PNG states it."""
    return np.rint(255 * _encode_srgb(np.linspace(0, 1, 256) ** (1 / exponent))).astype(np.uint8)


def is_transparent(frame: VideoFrame) -> bool:
    """Whether a frame has alpha."""
    return any(component.is_alpha for component in frame.format.components)


def to_srgb(frame: VideoFrame, tags: ColorTags) -> UInt8[np.ndarray, "H W 3"]:
    """A frame as 8-bit display sRGB, in its stored size; what is transparent is over white."""
    if is_transparent(frame):
        rgba = _reformat(frame, "rgba", tags).to_ndarray().astype(np.uint16)
        rgb = rgba[..., :3] if tags.plain else _convert(*_as_planar(frame, tags))
        return ((rgb * rgba[..., 3:] + 255 * (255 - rgba[..., 3:]) + 127) // 255).astype(np.uint8)
    if tags.plain:
        return _reformat(frame, "rgb24", tags).to_ndarray()
    return _convert(*_as_planar(frame, tags))


def _reformat(frame: VideoFrame, form: str, tags: ColorTags) -> VideoFrame:
    """A frame in another format of pixels, without a change of primaries or transfer."""
    if tags.matrix == RGB_MATRIX:
        return frame.reformat(format=form)
    frame.colorspace = 5 if tags.matrix == 6 else tags.matrix
    frame.color_range = 2 if tags.full_range else 1
    return frame.reformat(format=form)


def _as_planar(frame: VideoFrame, tags: ColorTags) -> tuple[VideoFrame, ColorTags]:
    """The frame as planes of luma and chroma that `_convert` reads."""
    from dataclasses import replace

    parts = frame.format.components
    name = frame.format.name
    known = len(parts) == 3 and name.startswith(("yuv4", "yuvj4")) and not name.endswith("be") and not name.startswith(("yuv411", "yuv410"))
    if known and "440" not in name and max(part.bits for part in parts) <= 16:
        return frame, tags
    if tags.matrix == RGB_MATRIX:
        wide = frame.reformat(format="yuv444p16le", dst_colorspace="ITU709", dst_color_range="JPEG")
        return wide, replace(tags, matrix=1, full_range=True)
    return _reformat(frame, "yuv444p16le", tags), tags


@dataclass(frozen=True)
class _Tones:
    """What light becomes of signals of one kind, and what of this light is shown."""

    linear: Float[np.ndarray, " 4096"]
    """Light of a signal, relative to white; entries stand for signals from 0 to `HIGHEST_SIGNAL`."""
    gain: float
    """Of the display, times a power of the scene's luminance; 0 where signals are the display's own."""
    weights: Float[np.ndarray, " 3"]
    """Of the luminance."""
    matrix: Float[np.ndarray, "3 3"]
    """To linear sRGB."""
    display: UInt8[np.ndarray, " 4099"]
    """sRGB by the root of the light, from 0 to that of `brightest`; the last entry once more for each byte that wide reads reach beyond."""
    brightest: float
    """Light from which all is alike."""


@functools.lru_cache(maxsize=16)
def _tones(transfer: Transfer, primaries: int) -> _Tones:
    hdr = transfer in ("HLG", "PQ")
    brightest = PEAK / WHITE if hdr else 1.0
    shown = _encode_srgb(brightest * np.linspace(0, 1, TABLE) ** 2)
    if hdr:
        shown = _roll_off(shown)
    return _Tones(
        linear=_to_light(transfer, np.linspace(0, HIGHEST_SIGNAL, TABLE)).astype(np.float32),
        gain=brightest if transfer == "HLG" else 0.0,
        weights=_xyz_from(primaries)[1].astype(np.float32),
        matrix=np.linalg.solve(_xyz_from(1), _adapt_white(primaries)).astype(np.float32),
        display=np.pad(np.rint(255 * shown).astype(np.uint8), (0, 3), mode="edge"),
        brightest=brightest,
    )


def _to_light(transfer: Transfer, signal: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Light of a signal: of the display relative to white; HLG's is the scene's, relative to the peak (BT.2100)."""
    if transfer == "HLG":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    if transfer == "PQ":
        root = np.minimum(signal, 1.0) ** (4096 / (2523 * 128))
        light = (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
        return 10000 / WHITE * light
    if transfer == "linear":
        return signal
    if transfer == "cinema":
        return 52.37 / 48 * signal**2.6
    if transfer in ("gamma 2.2", "gamma 2.8"):
        return signal ** float(transfer.split()[1])
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _encode_srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _roll_off(value: np.ndarray) -> np.ndarray:
    """SRGB values, of which the last is the highest, brought below 1: unchanged up to the knee, which they leave with slope 1."""
    past = np.maximum(value - KNEE, 0)
    steepness = past[-1] / (1 - KNEE)
    return np.minimum(value, KNEE) + past / (1 + past * (steepness - 1) / (steepness * (1 - KNEE)))


def _xyz_from(primaries: int) -> Float[np.ndarray, "3 3"]:
    """Matrix from linear RGB of some primaries to XYZ."""
    x, y = np.array(PRIMARIES[primaries]).reshape(4, 2).T
    columns = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


def _adapt_white(primaries: int) -> Float[np.ndarray, "3 3"]:
    """Matrix from linear RGB to XYZ under sRGB's white (Bradford)."""
    own, white = (BRADFORD @ _xyz_from(kind).sum(1) for kind in (primaries, 1))
    return np.linalg.inv(BRADFORD) @ np.diag(white / own) @ BRADFORD @ _xyz_from(primaries)


@dataclass(frozen=True)
class _Signal:
    """How stored samples become luma and chroma, and these red, green and blue."""

    luma: tuple[float, float]
    """Scale and offset."""
    chroma: tuple[float, float]
    red_v: float
    green_u: float
    green_v: float
    blue_u: float

    @staticmethod
    def of(tags: ColorTags, bits: int) -> _Signal:
        step = 2.0 ** (bits - 8)
        top = 2.0**bits - 1
        luma = (1 / top, 0.0) if tags.full_range else (1 / (219 * step), -16 / 219)
        chroma = (1 / top, -128 * step / top) if tags.full_range else (1 / (224 * step), -128 / 224)
        red, blue = LUMA[tags.matrix]
        green = 1 - red - blue
        return _Signal(luma, chroma, 2 - 2 * red, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green, 2 - 2 * blue)


def _convert(frame: VideoFrame, tags: ColorTags) -> UInt8[np.ndarray, "H W 3"]:
    """A frame of planes to sRGB by tables."""
    bits = frame.format.components[0].bits
    signal, tones = _Signal.of(tags, bits), _tones(tags.transfer, tags.primaries)
    if not available("Video with other colors than an ordinary display's is converted about 20 times slower"):
        return _convert_slowly(frame, signal, tones)
    rgb = np.empty((frame.height, frame.width, 3), np.uint8)
    luma, blue, red = frame.planes[:3]
    arguments = Color(
        luma=luma.buffer_ptr,
        blue=blue.buffer_ptr,
        red=red.buffer_ptr,
        linear=tones.linear.ctypes.data,
        matrix=tones.matrix.ctypes.data,
        weights=tones.weights.ctypes.data,
        display=tones.display.ctypes.data,
        rgb=rgb.ctypes.data,
        luma_step=luma.line_size,
        chroma_step=blue.line_size,
        luma_scale=signal.luma[0],
        luma_offset=signal.luma[1],
        chroma_scale=signal.chroma[0],
        chroma_offset=signal.chroma[1],
        red_v=signal.red_v,
        green_u=signal.green_u,
        green_v=signal.green_v,
        blue_u=signal.blue_u,
        signal_scale=(TABLE - 1) / HIGHEST_SIGNAL,
        gain=tones.gain,
        gain_power=SYSTEM_GAMMA - 1,
        display_scale=(TABLE - 1) / tones.brightest**0.5,
        width=frame.width,
        height=frame.height,
        half_columns=blue.width != luma.width,
        half_rows=blue.height != luma.height,
        wide=bits > 8,
        threads=1,
    )
    call("color", arguments, "convert the colors of a frame")
    return rgb


def _convert_slowly(frame: VideoFrame, signal: _Signal, tones: _Tones) -> UInt8[np.ndarray, "H W 3"]:
    """What `_convert` does natively; it defines the result."""
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    stored = [np.frombuffer(memoryview(p), kind).reshape(p.height, -1)[:, : p.width].astype(np.float32) for p in frame.planes[:3]]
    luma = stored[0] * signal.luma[0] + signal.luma[1]
    u, v = (_raise(plane, frame.height, frame.width) * signal.chroma[0] + signal.chroma[1] for plane in stored[1:])
    return _show(np.stack([luma + signal.red_v * v, luma + signal.green_u * u + signal.green_v * v, luma + signal.blue_u * u], -1), tones)


def _show(signals: Float[np.ndarray, "H W 3"], tones: _Tones) -> UInt8[np.ndarray, "H W 3"]:
    """Signals of red, green and blue as sRGB."""
    light = tones.linear[_place(signals, (TABLE - 1) / HIGHEST_SIGNAL)]
    if tones.gain:
        light = light * tones.gain * np.maximum(light @ tones.weights, 1e-7)[..., None] ** (SYSTEM_GAMMA - 1)
    roots = np.sqrt(np.maximum(light @ tones.matrix.T, 0))
    return tones.display[_place(roots, (TABLE - 1) / tones.brightest**0.5)]


def _place(value: np.ndarray, scale: float) -> Int[np.ndarray, "..."]:
    """Entry of a table."""
    return (value * scale + 0.5).clip(0, TABLE - 1).astype(np.int32)


def _raise(plane: Float[np.ndarray, "h w"], height: int, width: int) -> Float[np.ndarray, "H W"]:
    """A chroma plane on the picture's grid: its samples lie on every second column, and midway between two rows."""
    if plane.shape[0] != height:
        padded = np.pad(plane, ((1, 1), (0, 0)), mode="edge")
        rows = np.stack([0.75 * plane + 0.25 * padded[:-2], 0.75 * plane + 0.25 * padded[2:]], 1)
        plane = rows.reshape(-1, plane.shape[1])[:height]
    if plane.shape[1] != width:
        after = np.pad(plane, ((0, 0), (0, 1)), mode="edge")[:, 1:]
        plane = np.stack([plane, 0.5 * (plane + after)], 2).reshape(height, -1)[:, :width]
    return plane
