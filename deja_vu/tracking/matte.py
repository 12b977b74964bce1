"""Person matting at video rate: a coarse segmentation, refined at the edge by the local colors on both sides.

The segmenter (MediaPipe selfie segmentation, 256x256) says roughly where the person is. Between what is surely person and surely
background, alpha follows from the compositing equation I = a F + (1 - a) B with F and B taken from the sure pixels
nearby; where the two colors are too alike for that, a color guided filter (He et al., ECCV 2010) carries the segmenter's edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from deja_vu.io.video import Image
from deja_vu.tracking.alpha import (
    Color,
    Plane,
    closed_form_alpha,
    distance_to,
    guided_filter,
    load_pymatting,
    make_trimap,
    project_alpha,
    spread_color,
    take_pixels,
)
from deja_vu.tracking.config import MatteConfig
from deja_vu.tracking.runtimes import open_segmenter


@dataclass(frozen=True)
class Matte:
    """Coverage of the person and the person's own color."""

    alpha: UInt8[np.ndarray, "H W"]
    """0 background to 255 person."""
    foreground: UInt8[np.ndarray, "H W 3"]
    """Color without the background that shines through at edges; the picture's own where alpha is 255 or 0."""


class Matting:
    """Mattes of the frames of one video, in order; use it in a `with` block."""

    def __init__(self, config: MatteConfig = MatteConfig(), *, closed_form: bool = False) -> None:
        """Load the segmenter.

        Args:
            config: recipe.
            closed_form: solve the matting Laplacian in the uncertain band instead (seconds a frame, needs pymatting).

        Raises:
            MissingAssetError: the segmenter, its runtime or pymatting is absent.
        """
        if closed_form:
            load_pymatting()
        self.config, self.closed_form = config, closed_form
        self._previous: tuple[Plane, Color] | None = None
        self._segmenter = open_segmenter(config.runtime)

    def __enter__(self) -> Matting:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._segmenter.close()

    def __call__(
        self,
        rgb: Image,
        landmarks: Float[np.ndarray, "n 2"] | None = None,
        sure_foreground: Bool[np.ndarray, "H W"] | None = None,
        valid: UInt8[np.ndarray, "H W"] | None = None,
    ) -> Matte:
        """Matte of the next frame.

        Args:
            rgb: square head crop, its border repeated where nothing was filmed: a margin of one color would pass for a wall.
            landmarks: of the face, pixels of the crop; their hull is person, and only what hangs together with it is kept.
            sure_foreground: further pixels that are person.
            valid: 0 in a margin that was not filmed: nothing there speaks of person or background, and its alpha is 0.
        """
        return self.refine(rgb, self.coarse(rgb), landmarks, sure_foreground, valid)

    def coarse(self, rgb: Image) -> Plane:
        """Steadied segmentation of the next frame; frames must come in order."""
        return self._steady(self._segmenter(rgb), rgb.astype(np.float32) / 255)

    def refine(
        self,
        rgb: Image,
        coarse: Plane,
        landmarks: Float[np.ndarray, "n 2"] | None = None,
        sure_foreground: Bool[np.ndarray, "H W"] | None = None,
        valid: UInt8[np.ndarray, "H W"] | None = None,
    ) -> Matte:
        """Matte of a frame from its segmentation; keeps no state, so that frames can be refined side by side.

        Args:
            rgb: as in `__call__`.
            coarse: what `coarse` gave for it.
            landmarks: as in `__call__`.
            sure_foreground: as in `__call__`.
            valid: as in `__call__`.
        """
        config, image = self.config, rgb.astype(np.float32) / 255
        filmed = np.ones(rgb.shape[:2], dtype=bool) if valid is None else valid > 0
        coarse = _repeat_border(coarse, filmed)
        sure = np.zeros(rgb.shape[:2], dtype=bool) if sure_foreground is None else sure_foreground.copy()
        if landmarks is not None:
            sure |= face_hull(landmarks, rgb.shape[:2], config.core)
        plain = plain_background(image, filmed, config)
        if plain is not None:
            coarse = _against_plain(image, plain, sure, coarse, config)
        if landmarks is not None:
            sure |= face_hull(landmarks, rgb.shape[:2], config.face) & (coarse > 0.5)
        trimap = make_trimap(coarse, sure, config)
        front = spread_color(image, trimap.person & filmed)
        back = spread_color(image, trimap.empty & filmed)
        if self.closed_form:
            alpha = closed_form_alpha(image, trimap)
        else:
            spread = config.color_spread if plain is None else config.plain_color_spread
            alpha = project_alpha(image, trimap, front, back, guided_filter(image, trimap), spread, config.noise)
        alpha = np.where(filmed, _keep_connected(np.where(filmed, alpha, 0), sure), 0)
        return Matte(np.rint(alpha * 255).astype(np.uint8), _unmix(rgb, image, alpha, front.mean, back.mean))

    def reset(self) -> None:
        """Take the next frame for the first of another video."""
        self._previous = None

    def _steady(self, coarse: Plane, image: Color) -> Plane:
        """Average with the previous frame where the picture stands still, against flicker; moving edges are not smeared."""
        if self._previous is not None and self._previous[0].shape == coarse.shape:
            before, image_before = self._previous
            change = cv2.blur(_largest(cv2.absdiff(image, image_before)), (5, 5))
            kept = self.config.keep * np.exp(-((change / self.config.still) ** 2))
            coarse = coarse + kept * (before - coarse)
        self._previous = (coarse, image)
        return coarse


def _largest(color: Color) -> Plane:
    """Largest channel."""
    first, second, third = cv2.split(color)
    return np.maximum(np.maximum(first, second), third)


def face_hull(landmarks: Float[np.ndarray, "n 2"], shape: tuple[int, ...], scale: float) -> Bool[np.ndarray, "H W"]:
    """Pixels within the convex hull of the landmarks, scaled about their mean."""
    center = landmarks.mean(0)
    hull = cv2.convexHull((center + scale * (landmarks - center)).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape[:2], np.uint8), hull, 1).astype(bool)


def _filmed_part(filmed: Bool[np.ndarray, "H W"]) -> tuple[slice, slice]:
    """Rows and columns of the filmed rectangle."""
    rows, columns = np.flatnonzero(filmed.any(1)), np.flatnonzero(filmed.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _repeat_border(plane: Plane, filmed: Bool[np.ndarray, "H W"]) -> Plane:
    """The plane with what it says of the filmed rectangle's border carried on into the margin."""
    (height, width), (rows, columns) = plane.shape, _filmed_part(filmed)
    return np.pad(plane[rows, columns], ((rows.start, height - rows.stop), (columns.start, width - columns.stop)), mode="edge")


def plain_background(image: Color, filmed: Bool[np.ndarray, "H W"], config: MatteConfig) -> Float[np.ndarray, "3"] | None:
    """The color of the filmed rectangle's border where it has only one in the upper half, as in a studio, and enough of it is there."""
    side = len(image)
    edge = max(2, side // 64)
    rows, columns = _filmed_part(filmed)
    shown = image[rows, columns]
    flanks = shown[: max(0, side // 2 - rows.start)]
    ring = np.concatenate([part.reshape(-1, 3) for part in (shown[:edge], flanks[:, :edge], flanks[:, -edge:])])
    if len(ring) < config.plain_border * 2 * side * edge:
        return None
    color = np.median(ring, axis=0)
    alike = np.abs(ring - color).max(-1) < config.plain_tolerance
    return color if alike.mean() > config.plain_share else None


def _against_plain(
    image: Color, background: Float[np.ndarray, "3"], sure: Bool[np.ndarray, "H W"], coarse: Plane, config: MatteConfig
) -> Plane:
    """Coverage 0 where the background's color reaches in from the border, else 1: exact where hair ends, blind to holes.

    What the segmenter sees nothing of, far around, stays out: a stain on the wall is not a person.
    """
    alike = (cv2.GaussianBlur(_largest(np.abs(image - background)), (0, 0), 1.0) < 2 * config.plain_tolerance) & ~sure
    framed = np.pad(alike, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(framed, connectivity=4)
    differs = labels[1:-1, 1:-1] != labels[0, 0]
    reach = distance_to(coarse > 0.1) < 0.08 * len(image)
    return (differs & reach).astype(np.float32)


def _keep_connected(alpha: Plane, sure: Bool[np.ndarray, "H W"]) -> Plane:
    """Keep what hangs together with the sure pixels (else the largest part), and close small holes in it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.3).astype(np.uint8))
    if count <= 1:
        return alpha
    inside = np.bincount(labels[sure], minlength=count)[1:]
    main = 1 + int(np.argmax(inside if inside.any() else stats[1:, cv2.CC_STAT_AREA]))
    near = cv2.dilate((labels == main).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    alpha = np.where(near, alpha, 0)
    _, holes, areas, _ = cv2.connectedComponentsWithStats((alpha < 0.95).astype(np.uint8), connectivity=4)
    small = areas[:, cv2.CC_STAT_AREA] < 0.001 * alpha.size
    small[0] = False
    return np.where(small[holes], 1, alpha).astype(np.float32)


def _unmix(rgb: Image, image: Color, alpha: Plane, front: Color, back: Color) -> Image:
    """The person's color at the edge: the picture less the background's share, and the local color where little is left."""
    edge = np.flatnonzero((alpha > 0.004) & (alpha < 0.996))
    a = alpha.ravel()[edge][:, None]
    own = np.clip((take_pixels(image, edge) - (1 - a) * take_pixels(back, edge)) / np.maximum(a, 0.1), 0, 1)
    trust = np.clip((a - 0.1) / 0.4, 0, 1)
    color = trust * own + (1 - trust) * take_pixels(front, edge)
    result = np.array(rgb, order="C")
    result.reshape(-1, 3)[edge] = np.rint(np.clip(color, 0, 1) * 255).astype(np.uint8)
    return result
