"""The faces of a frame with their numbers, as `--face` takes them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from deja_vu.core.errors import InputError
from deja_vu.io.images import write_png
from deja_vu.tracking.landmarks import Crowd, read_turned

FOLLOWED, OTHER = (90, 220, 110), (255, 190, 60)
"""Colors of the followed face's box and of the others'."""


def write_faces(video: Path, crowd: Crowd, turn: int, path: Path) -> None:
    """Store a video's frame at its own size, with a box and a number on every face; the followed one's is green.

    Args:
        video: file.
        crowd: frame and faces.
        turn: quarter turns to the left that bring the file's pictures upright.
        path: PNG to write.

    Raises:
        InputError: the video cannot be read any more.
        OutputError: the picture cannot be written.
    """
    shown = next((rgb for index, _, rgb in read_turned(video, turn, None, warn=False) if index == crowd.index), None)
    if shown is None:
        raise InputError(f"{video} ends before frame {crowd.index}, where faces were seen. Leave the file alone while it is read.")
    picture = np.ascontiguousarray(shown)
    for number, box in enumerate(crowd.boxes):
        color, (x0, y0, x1, y1) = FOLLOWED if number == crowd.followed else OTHER, np.rint(box).astype(int).tolist()
        scale = max(0.5, (x1 - x0) / 120)
        thick = max(2, round(2 * scale))
        cv2.rectangle(picture, (x0, y0), (x1, y1), color, thick)
        place = (x0 + 2 * thick, y0 + thick + round(24 * scale))
        for shade, width in (((0, 0, 0), 3 * thick), (color, thick)):  # a dark rim, for light faces
            cv2.putText(picture, str(number + 1), place, cv2.FONT_HERSHEY_SIMPLEX, scale, shade, width, cv2.LINE_AA)
    write_png(path, picture)
