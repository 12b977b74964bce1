"""A renderer's output, and compositing over a background."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

MAX_SIDE = 16_384
"""Of a picture file that is decoded, pixels."""
WHITE = torch.ones(3)
"""Background of pictures that are compared or shown."""
Lines: TypeAlias = slice | Int[Tensor, " n"]
"""Neighboring rows, or columns, of a picture: a slice; or their indices, on the device where they were drawn, which nobody waits for."""


@dataclass(frozen=True)
class RenderOutput:
    """Pictures of an avatar, over the background they were rendered with."""

    rgb: Float[Tensor, "*b H W 3"]
    """Color over the background, sRGB in [0, 1]."""
    alpha: Float[Tensor, "*b H W 1"]
    """Coverage in [0, 1]."""
    depth: Float[Tensor, "*b H W 1"] | None = None
    """Expected depth in meters where alpha > 0, else 0; None where the representation has none."""


def decode_picture(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """A picture file in OpenCV's order of channels; None where there is none that can be read.

    OpenCV's own reader dies of paths that are not UTF-8, and decodes whatever size a file says it has.
    """
    try:
        if not path.is_file():  # devices never end
            return None
        with Image.open(path) as file:
            if max(file.size) > MAX_SIDE:
                return None
        return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flags)
    except (OSError, SyntaxError, ValueError, cv2.error, Image.DecompressionBombError):
        return None


def over(rgb: Float[Tensor, "*b H W 3"], alpha: Float[Tensor, "*b H W 1"], background: float | Tensor) -> Float[Tensor, "*b H W 3"]:
    """Composite straight-alpha color over a background color in [0, 1]."""
    return rgb * alpha + background * (1 - alpha)


def cut_window(pictures: Float[Tensor, "B H W C"], rows: Lines, columns: Lines) -> Float[Tensor, "B h w C"]:
    """A window of some pictures."""
    if isinstance(rows, slice):
        return pictures[:, rows, columns]
    assert isinstance(columns, Tensor), columns
    return pictures.index_select(1, rows).index_select(2, columns)


def to_uint8(image: Float[Tensor, "*b H W C"]) -> UInt8[np.ndarray, "*b H W C"]:
    """8-bit pictures of values in [0, 1]; what lies outside is clamped."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def tile_images(images: Float[Tensor, "N h w 3"], columns: int) -> Float[Tensor, "H W 3"]:
    """Pictures side by side in rows, white where the last row ends early."""
    missing = -len(images) % columns
    full = torch.cat([images, torch.ones(missing, *images.shape[1:])])
    rows = full.unflatten(0, (-1, columns))
    return rows.transpose(1, 2).flatten(2, 3).flatten(0, 1)
