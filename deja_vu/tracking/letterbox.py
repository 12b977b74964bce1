"""Bars at the picture's border: letterboxes and painted-over strips, behind which a head may go on unseen."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

SAME = 24
"""Largest channel difference from the corner's color that still counts as the bar's own; codecs blur the edge."""
CUT_SHARE = 0.15
"""Share of the border line that must change at once where a bar ends."""
ABRUPT = 0.7
"""Least ratio of that change to the widest one of the next lines; a head before a plain wall begins narrow and widens."""
NEXT_LINES = 8
THINNEST = 2
"""Bars thinner than this are codec borders, pixels."""
SOFT = 2
"""Pixels behind a bar's end that scaling and codecs mix with it."""


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

    def __init__(self) -> None:
        self.reach: list[int | None] = [None] * 4
        self.width = [0.0] * 4

    def add(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take one frame into account; a bar must be there in all of them."""
        for side in range(4):
            corner = np.rot90(image, side)[0, 0].astype(int)
            alike = cv2.inRange(image, np.maximum(corner - SAME, 0), np.minimum(corner + SAME, 255))
            turned = np.rot90(alike == 0, side)
            lines = np.count_nonzero(turned, axis=1)
            begin = int((lines > 0).argmax()) if lines.any() else len(lines)
            first, later = (int(part.max(initial=0)) for part in (lines[begin : begin + 2], lines[begin + 2 : begin + 2 + NEXT_LINES]))
            share = first / turned.shape[1] if first >= ABRUPT * later else 0.0
            best = self.reach[side]
            if best is None or begin < best:
                self.reach[side], self.width[side] = begin, share
            elif begin == best:
                self.width[side] = max(self.width[side], share)

    def find_filmed(self, height: int, width: int) -> Filmed:
        """What the bars leave of the picture."""
        bars = [0] * 4
        for side in range(4):
            reach = self.reach[side] or 0
            if reach >= THINNEST and self.width[side] >= CUT_SHARE and reach + SOFT < (height, width)[side % 2]:
                bars[side] = reach + SOFT
        top, right, bottom, left = bars
        return Filmed(left, top, width - right, height - bottom)
