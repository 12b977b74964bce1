"""Bars at the picture's border: letterboxes and painted-over strips, behind which a head may continue unseen."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from deja_vu.tracking.detection_config import LetterboxConfig


@dataclass(frozen=True)
class Filmed:
    """The rectangle of a picture that shows what was filmed: all but the bars at its border. Pixels."""

    left: int
    top: int
    right: int
    """First column behind it."""
    bottom: int
    """First row below it."""


class LetterboxFinder:
    """Looks at frames and tells how far uniform bars reach in from each side."""

    def __init__(self, config: LetterboxConfig = LetterboxConfig()) -> None:
        self.config = config
        self.reach: list[int | None] = [None] * 4
        self.width = [0.0] * 4

    def add(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take one frame into account; a bar must be there in all of them."""
        config = self.config
        for side in range(4):
            corner = np.rot90(image, side)[0, 0].astype(int)
            alike = cv2.inRange(image, np.maximum(corner - config.tolerance, 0), np.minimum(corner + config.tolerance, 255))
            turned = np.rot90(alike == 0, side)
            lines = np.count_nonzero(turned, axis=1)
            begin = int((lines > 0).argmax()) if lines.any() else len(lines)
            first, later = (
                int(part.max(initial=0)) for part in (lines[begin : begin + 2], lines[begin + 2 : begin + 2 + config.next_lines])
            )
            share = first / turned.shape[1] if first >= config.abruptness * later else 0.0
            best = self.reach[side]
            if best is None or begin < best:
                self.reach[side], self.width[side] = begin, share
            elif begin == best:
                self.width[side] = max(self.width[side], share)

    def find_filmed(self, height: int, width: int) -> Filmed:
        """What the bars leave of the picture."""
        config, bars = self.config, [0] * 4
        for side in range(4):
            reach = self.reach[side] or 0
            if reach >= config.min_width and self.width[side] >= config.min_cut and reach + config.soft_width < (height, width)[side % 2]:
                bars[side] = reach + config.soft_width
        top, right, bottom, left = bars
        return Filmed(left, top, width - right, height - bottom)
