"""Where faces are in a picture, roughly: BlazeFace (Bazarevsky et al., 2019), as MediaPipe runs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from deja_vu.io.video import Image
from deja_vu.tracking.lite_model import LiteModel, warp_to_square

SIDE = 128
"""Of the picture that the network sees, pixels."""
GRIDS = ((16, 2), (8, 6))
"""Cells a side of its two grids, and answers in each cell."""
MIN_SCORE = 0.5
"""Least score of an answer, in [0, 1], unless another is asked for."""
SAME_BOX = 0.5
"""Overlap (intersection over union) above which two answers are of one face, whose mean counts."""
FACE_OVER_BOX = 1.5
"""Side of the square that holds the whole face, in sides of its box."""


@dataclass(frozen=True)
class FaceSquare:
    """A square about a face, turned with it."""

    center: Float[np.ndarray, "2"]
    """Pixels of the picture."""
    side: float
    """Pixels."""
    angle: float
    """Turn of the face to the right, radians in [-pi, pi)."""

    @property
    def axes(self) -> Float[np.ndarray, "2 2"]:
        """Rows: directions of the square's rows and columns in the picture."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    @property
    def corners(self) -> Float[np.ndarray, "3 2"]:
        """Upper left, upper right, lower left; pixels of the picture."""
        return self.center + self.side / 2 * np.array([[-1, -1], [1, -1], [-1, 1]]) @ self.axes


class FaceBoxes:
    """The detector."""

    def __init__(self, content: bytes, most: int, min_score: float = MIN_SCORE) -> None:
        """Load it.

        Args:
            content: of face_detector.tflite.
            most: faces looked for in each picture.
            min_score: least score of an answer, in [0, 1].

        Raises:
            MissingAssetError: LiteRT does not load.
        """
        self._model, self._anchors, self._most, self._min_score = LiteModel(content), _anchors(), most, min_score

    def __call__(self, rgb: Image) -> list[FaceSquare]:
        """Faces, the surest first."""
        height, width = rgb.shape[:2]
        side = max(width, height)
        low = np.array([width - side, height - side]) / 2
        corners = low + side * np.array([[0, 0], [1, 0], [0, 1]])
        seen = warp_to_square(rgb, corners, SIDE, repeat_border=False)
        answers = self._model(seen * np.float32(2 / 255) - 1)
        logits = answers["classificators"][0, :, 0].astype(np.float64)
        scores = 1 / (1 + np.exp(-logits.clip(-100, 100)))
        sure = scores >= self._min_score
        boxes, points = _decode(answers["regressors"][0, sure].astype(np.float64), self._anchors[sure])
        kept = _merge(boxes, points, scores[sure])[: self._most]
        return [_square(low + side * box, low + side * marks) for box, marks in kept]


def _anchors() -> Float[np.ndarray, "896 2"]:
    """Middle of each answer's cell, in sides of the picture."""
    places = []
    for cells, answers in GRIDS:
        middle = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
        places.append(grid.repeat(answers, axis=0))
    return np.concatenate(places)


def _decode(
    raw: Float[np.ndarray, "n 16"], anchors: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "n 2 2"], Float[np.ndarray, "n 6 2"]]:
    """Boxes (low and high corner) and key points in sides of the picture; the key points begin with the right and the left eye."""
    middle, size, points = anchors + raw[:, :2] / SIDE, raw[:, 2:4] / SIDE, raw[:, 4:].reshape(-1, 6, 2) / SIDE
    return np.stack([middle - size / 2, middle + size / 2], 1), anchors[:, None] + points


def _merge(
    boxes: Float[np.ndarray, "n 2 2"], points: Float[np.ndarray, "n 6 2"], scores: Float[np.ndarray, " n"]
) -> list[tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, "6 2"]]]:
    """One face for all answers that overlap, weighted by their scores, the surest first."""
    merged, left = [], np.argsort(-scores, kind="stable")
    while len(left):
        first = left[0]
        alike = _overlaps(boxes[first], boxes[left]) > SAME_BOX
        alike[0] = True
        weight = scores[left[alike]] / scores[left[alike]].sum()
        merged.append((np.tensordot(weight, boxes[left[alike]], 1), np.tensordot(weight, points[left[alike]], 1)))
        left = left[~alike]
    return merged


def _overlaps(box: Float[np.ndarray, "2 2"], others: Float[np.ndarray, "n 2 2"]) -> Float[np.ndarray, " n"]:
    """Intersection over union."""
    inner = np.clip(np.minimum(box[1], others[:, 1]) - np.maximum(box[0], others[:, 0]), 0, None).prod(-1)
    union = (box[1] - box[0]).prod() + (others[:, 1] - others[:, 0]).prod(-1) - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def _square(box: Float[np.ndarray, "2 2"], points: Float[np.ndarray, "6 2"]) -> FaceSquare:
    across = points[1] - points[0]
    return FaceSquare(box.mean(0), float(FACE_OVER_BOX * (box[1] - box[0]).max()), float(np.arctan2(across[1], across[0])))
