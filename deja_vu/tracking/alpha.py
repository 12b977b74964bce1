"""Alpha between sure person and sure background: by both sides' local colors, a guided filter, or the matting Laplacian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from deja_vu.core.errors import MissingAssetError
from deja_vu.tracking.config import MatteConfig

Plane = Float[np.ndarray, "H W"]
Color = Float[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Trimap:
    """What is surely person, surely background, and how the coarse coverage runs between."""

    person: Bool[np.ndarray, "H W"]
    empty: Bool[np.ndarray, "H W"]
    unknown: Bool[np.ndarray, "H W"]
    coarse: Plane
    """The segmenter's coverage, 1 and 0 at the sure pixels."""
    taper: Plane
    """1 at the segmenter's edge, falling to 0 at the outer end of the band."""


def distance_to(mask: Bool[np.ndarray, "H W"]) -> Plane:
    """Distance of each pixel to the nearest one of the mask, pixels."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)


def make_trimap(coarse: Plane, sure: Bool[np.ndarray, "H W"], config: MatteConfig) -> Trimap:
    """Divide a picture by the segmenter's coverage.

    Args:
        coarse: coverage in [0, 1].
        sure: pixels that are person whatever the segmenter says.
        config: widths of the uncertain band on either side of the segmenter's edge.
    """
    side = len(coarse)
    outside = distance_to(coarse > 0.1)
    person = (distance_to(coarse < 0.9) > max(2.0, config.inner_band * side)) | sure
    empty = (outside > max(2.0, config.outer_band * side)) & ~sure
    taper = np.clip(2 - outside / (0.5 * config.outer_band * side), 0, 1)
    filled = np.where(person, 1, np.where(empty, 0, coarse)).astype(np.float32)
    return Trimap(person, empty, ~(person | empty), filled, taper)


@dataclass(frozen=True)
class LocalColor:
    """Mean color of the known pixels around each pixel, and how much they differ."""

    mean: Color
    variance: Plane
    """Summed over the channels."""


def spread_color(image: Color, known: Bool[np.ndarray, "H W"]) -> LocalColor:
    """Mean color and its variance of the known pixels around each pixel.

    Means over growing neighborhoods (at a quarter of the size), up to the whole picture; the nearest one that holds enough known
    pixels counts. Where none is known, a pixel's own color stands for them, and differs without bound.
    """
    if not known.any():
        return LocalColor(image, np.full(known.shape, np.inf, np.float32))
    height, width = known.shape
    quarter = (max(1, width // 4), max(1, height // 4))
    weight = cv2.resize(known.astype(np.float32), quarter, interpolation=cv2.INTER_AREA)
    color = cv2.resize(cv2.copyTo(image, known.astype(np.uint8)), quarter, interpolation=cv2.INTER_AREA)
    square = sum_channels(color * color) / np.maximum(weight, 1e-6)
    stack = np.dstack([color, square, weight])
    total = np.broadcast_to(stack.mean((0, 1)), stack.shape)
    for radius in (32, 8, 3):
        window = (2 * max(1, round(radius * width / 512)) + 1,) * 2
        level = cv2.blur(cv2.blur(stack, window), window)
        # A wide mean counts as a hundredth of a pixel: it decides only where the near one holds next to nothing.
        total = level + total * (0.01 / np.maximum(total[..., 4:], 1e-6))
    total /= np.maximum(total[..., 4:], 1e-6)
    variance = np.maximum(total[..., 3] - sum_channels(total[..., :3] ** 2), 0)
    return LocalColor(cv2.resize(total[..., :3], (width, height)), cv2.resize(variance, (width, height)))


def project_alpha(image: Color, trimap: Trimap, front: LocalColor, back: LocalColor, fallback: Plane, spread: float, noise: float) -> Plane:
    """Alpha along the line from the background's to the person's color, trusted as far as the two stand apart."""
    at = np.flatnonzero(trimap.unknown)
    behind = take_pixels(back.mean, at)
    axis = take_pixels(front.mean, at) - behind
    length = np.einsum("nc,nc->n", axis, axis)
    along = np.einsum("nc,nc->n", take_pixels(image, at) - behind, axis) / np.maximum(length, 1e-6)
    trust = length / (length + spread * (front.variance.ravel()[at] + back.variance.ravel()[at]) + 12 * noise)
    # The ends are pulled in by a twentieth, so that noise about either color leaves no veil.
    mixed = trust * np.clip((along - 0.05) / 0.9, 0, 1) + (1 - trust) * fallback.ravel()[at]
    alpha = trimap.coarse.copy()
    alpha.ravel()[at] = np.clip(mixed, 0, 1) * trimap.taper.ravel()[at]
    return alpha


def take_pixels(image: Color, at: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Some pixels by flat index; a boolean mask over rows and columns takes several times as long."""
    return image.reshape(-1, 3).take(at, axis=0)


def sum_channels(color: Color) -> Plane:
    """Sum over the channels; NumPy's own takes ten times longer on a last axis of three."""
    return cv2.transform(color, np.ones((1, 3), np.float32))


def guided_filter(image: Color, trimap: Trimap) -> Plane:
    """Coarse coverage made to follow the picture's edges: a local linear function of color, fitted at half size."""
    height, width = trimap.coarse.shape
    half = (max(1, width // 2), max(1, height // 2))
    guide = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    target = cv2.resize(trimap.coarse, half, interpolation=cv2.INTER_AREA)
    window = (2 * max(1, width // 100) + 1,) * 2
    r, g, b = cv2.split(guide)
    moments = cv2.blur(cv2.merge([r * r, r * g, r * b, g * g, g * b, b * b]), window)
    mean, mean_target = cv2.blur(guide, window), cv2.blur(target, window)
    joint = cv2.blur(guide * target[..., None], window) - mean * mean_target[..., None]
    slope = _solve_symmetric(_covariance(moments, mean), joint)
    offset = mean_target - sum_channels(slope * mean)
    slope, offset = cv2.blur(slope, window), cv2.blur(offset, window)
    return np.clip(sum_channels(cv2.resize(slope, (width, height)) * image) + cv2.resize(offset, (width, height)), 0, 1)


def _covariance(moments: Float[np.ndarray, "H W 6"], mean: Color) -> list[Plane]:
    """Entries xx, xy, xz, yy, yz, zz of each window's color covariance, with the filter's regularization on the diagonal."""
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    return [moments[..., k] - mean[..., i] * mean[..., j] + (i == j) * 1e-4 for k, (i, j) in enumerate(pairs)]


def _solve_symmetric(matrix: list[Plane], right: Color) -> Color:
    """Solve symmetric 3x3 systems by cofactors, much faster than LAPACK on small ones."""
    xx, xy, xz, yy, yz, zz = matrix
    c00, c01, c02 = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    c11, c12, c22 = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    scale = 1 / (xx * c00 + xy * c01 + xz * c02)
    x, y, z = cv2.split(right)
    return cv2.merge([(c00 * x + c01 * y + c02 * z) * scale, (c01 * x + c11 * y + c12 * z) * scale, (c02 * x + c12 * y + c22 * z) * scale])


def load_pymatting() -> Callable[[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]], Float[np.ndarray, "H W"]]:
    """Closed-form matting of picture and trimap.

    Raises:
        MissingAssetError: the package is not installed.
    """
    try:
        from pymatting import estimate_alpha_cf
    except ImportError as error:
        raise MissingAssetError("Closed-form matting needs the package pymatting: pip install '.[matting]' in the source folder") from error
    return estimate_alpha_cf


def closed_form_alpha(image: Color, trimap: Trimap) -> Plane:
    """Alpha of the uncertain band by the matting Laplacian (Levin, Lischinski and Weiss, CVPR 2006); seconds a frame.

    Raises:
        MissingAssetError: pymatting is not installed.
    """
    known = np.where(trimap.unknown, 0.5, trimap.coarse).astype(np.float64)
    return load_pymatting()(image.astype(np.float64), known).astype(np.float32)
