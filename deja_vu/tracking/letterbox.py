"""Bars at the picture's border: letterboxes and painted-over strips, behind which a head may go on unseen."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

SAME = 24
"""Largest channel difference from the corner's color that still counts as the bar's own; codecs blur the edge."""
CUT_SHARE = 0.15
"""Share of the border line that must change at once where a bar ends."""
ABRUPT = 0.7
"""Least ratio of that change to the widest one of the next lines; a head before a plain wall begins narrow and widens."""
NEXT_LINES = 8
THINNEST = 2
"""Bars thinner than this are codec borders, pixels."""


class BarFinder:
    """Looks at frames and tells how far uniform bars reach in from each side."""

    def __init__(self) -> None:
        self.reach: list[int | None] = [None] * 4
        self.width = [0.0] * 4

    def add(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take one frame into account; a bar must be there in all of them."""
        for side in range(4):
            turned = np.rot90(image, side)
            different = (np.abs(turned.astype(np.int16) - turned[0, 0]) > SAME).any(-1)
            lines = different.sum(1)
            begin = int((lines > 0).argmax()) if lines.any() else len(lines)
            first, later = (int(part.max(initial=0)) for part in (lines[begin : begin + 2], lines[begin + 2 : begin + 2 + NEXT_LINES]))
            share = first / turned.shape[1] if first >= ABRUPT * later else 0.0
            best = self.reach[side]
            if best is None or begin < best:
                self.reach[side], self.width[side] = begin, share
            elif begin == best:
                self.width[side] = max(self.width[side], share)

    def valid(self, height: int, width: int) -> Bool[np.ndarray, "H W"]:
        """Pixels of the frame that show what was filmed."""
        mask = np.ones((height, width), bool)
        for side in range(4):
            reach = self.reach[side] or 0
            if reach >= THINNEST and self.width[side] >= CUT_SHARE and reach < np.rot90(mask, side).shape[0]:
                np.rot90(mask, side)[:reach] = False
        return mask
