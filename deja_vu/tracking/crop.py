"""One square window about the head, the same in all frames of a video."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.tracking.detection_config import CropConfig
from deja_vu.tracking.letterbox import Filmed


@dataclass(frozen=True)
class Crop:
    """A square window of the picture, the same for all frames; it may reach beyond the border."""

    x0: int
    """Left edge, pixels of the picture."""
    y0: int
    """Top edge, pixels of the picture."""
    size: int
    """Side, pixels of the picture."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels of the picture."""
        return (self.x0, self.y0, self.x0 + self.size, self.y0 + self.size)

    def scale(self, factor: float) -> Crop:
        """The window about the same middle, `factor` times as large."""
        size = round(self.size * factor)
        shift = (self.size - size) // 2
        return Crop(self.x0 + shift, self.y0 + shift, size)

    def map_points(self, points: Float[np.ndarray, "*n 2"], side: int) -> Float[np.ndarray, "*n 2"]:
        """Pixels of the picture as pixels of the crop, resized to `side`."""
        return (points - np.array([self.x0, self.y0], np.float32)) * (side / self.size)

    def camera(self, focal_ratio: float, width: int, height: int, side: int) -> Camera:
        """The camera of the crop.

        Args:
            focal_ratio: focal length over the longer side of the picture.
            width: of the picture, pixels.
            height: of the picture, pixels.
            side: pixels a side of the resized crop.
        """
        whole = Camera.from_focal(focal_ratio * max(width, height), width, height)
        return whole.crop(self.x0, self.y0, self.size, self.size).resize(side, side)


def find_crop(landmarks: Float[np.ndarray, "n 478 3"], width: int, height: int, config: CropConfig = CropConfig()) -> Crop:
    """One square window that holds face, hair and chin in all frames.

    The skull with its hair is taken as a ball about a point above the ears, which turns with the face: it covers the
    back of the head in profile and the crown in a bow, where no landmark lies. Where the window fits into the picture
    it is moved inside.

    Args:
        landmarks: of the frames with a face, pixels.
        width: of the picture.
        height: of the picture.
        config: lengths.
    """
    hairline, chin = landmarks[:, 10], landmarks[:, 152]
    up = hairline - chin
    length = np.linalg.norm(up, axis=-1)
    ball = (landmarks[:, 234] + landmarks[:, 454]) / 2 + config.skull_up * up
    low = np.minimum(landmarks[..., :2].min(1) - config.margin * length[:, None], ball[:, :2] - config.skull_radius * length[:, None])
    high = np.maximum(landmarks[..., :2].max(1) + config.margin * length[:, None], ball[:, :2] + config.skull_radius * length[:, None])
    high[:, 1] = np.maximum(high[:, 1], (chin - config.below_chin * up)[:, 1])
    low, high = np.percentile(low, config.outliers, axis=0), np.percentile(high, 100 - config.outliers, axis=0)
    size = int(np.ceil((high - low).max()))
    corner = np.round((low + high - size) / 2).astype(int)
    room = np.array([width, height]) - size
    corner = np.where(room >= 0, np.clip(corner, 0, np.maximum(room, 0)), corner)
    return Crop(int(corner[0]), int(corner[1]), size)


def find_person_crop(head: Crop, filmed: Filmed, most: float) -> Crop:
    """A window about the head's that holds neck and torso, as far as they were filmed.

    It begins where the head's does and goes on downwards and to both sides; where the picture ends, it is moved inside.

    Args:
        head: window of the head.
        filmed: part of the picture that was.
        most: largest side, in sides of the head's window.
    """
    width, height = filmed.right - filmed.left, filmed.bottom - filmed.top
    size = max(head.size, min(round(most * head.size), max(width, height)))
    slack = size - head.size
    x0 = _move_inside(head.x0 - slack // 2, size, filmed.left, filmed.right)
    y0 = _move_inside(head.y0, size, filmed.top, filmed.bottom)
    return Crop(min(max(x0, head.x0 - slack), head.x0), min(max(y0, head.y0 - slack), head.y0), size)


def _move_inside(start: int, size: int, low: int, high: int) -> int:
    """Start of a window of some size within a range, or about its middle where it is wider than that."""
    return min(max(start, low), high - size) if size <= high - low else (low + high - size) // 2


def crop_frame(image: np.ndarray, crop: Crop, side: int, *, filmed: Filmed | None = None, border: int | None = None) -> np.ndarray:
    """The crop of a frame, resized to `side` pixels.

    What was not filmed repeats the nearest filmed pixel: a margin of one color would pass for a wall, and bleed into the edge.

    Args:
        image: frame, uint8 [H W] or [H W C].
        crop: window; must meet what was filmed.
        side: of the result, pixels.
        filmed: part of the frame that was; all of it by default.
        border: fill what was not filmed with this value instead.
    """
    filmed = filmed or Filmed(0, 0, image.shape[1], image.shape[0])
    x0, y0 = max(filmed.left, crop.x0), max(filmed.top, crop.y0)
    x1, y1 = min(filmed.right, crop.x0 + crop.size), min(filmed.bottom, crop.y0 + crop.size)
    padded = cv2.copyMakeBorder(
        image[y0:y1, x0:x1],
        top=y0 - crop.y0,
        bottom=crop.y0 + crop.size - y1,
        left=x0 - crop.x0,
        right=crop.x0 + crop.size - x1,
        borderType=cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT,
        value=(border or 0,) * 4,
    )
    method = cv2.INTER_AREA if crop.size > side else cv2.INTER_CUBIC
    return cv2.resize(padded, (side, side), interpolation=method)


def crop_valid(filmed: Filmed, crop: Crop, side: int) -> UInt8[np.ndarray, "side side"]:
    """255 where the crop of a frame shows what was filmed, 0 where `crop_frame` makes it up."""
    return crop_frame(np.full((filmed.bottom, filmed.right), 255, np.uint8), crop, side, filmed=filmed, border=0)


def shrink(image: UInt8[np.ndarray, "H W *c"], side: int) -> UInt8[Tensor, "side side *c"]:
    """A small copy, averaged over pixel areas."""
    return torch.from_numpy(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))
