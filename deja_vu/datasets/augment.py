"""Augmentation of portraits: light and color, blur, noise, compression, cut borders, occluders in front of the face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float

from deja_vu.core.sequence import Frame
from deja_vu.datasets.config import AugmentConfig


@dataclass(frozen=True)
class LightChange:
    """A change of light and color that photo and target share, for an avatar shows the light of its photo."""

    gain: Float[np.ndarray, "3"]
    gamma: float

    @staticmethod
    def draw(config: AugmentConfig, rng: np.random.Generator) -> LightChange:
        """A random one."""
        gain = np.exp(rng.normal(0, config.exposure) + rng.normal(0, config.balance, 3))
        return LightChange(gain, float(np.exp(rng.normal(0, config.gamma))))

    def apply(self, frame: Frame) -> Frame:
        """The frame in this light."""
        levels = np.arange(256) / 255
        table = np.clip(255 * self.gain[:, None] * levels ** np.float64(self.gamma) + 0.5, 0, 255).astype(np.uint8)
        channels = [cv2.LUT(np.ascontiguousarray(frame.image[..., k].numpy()), table[k]) for k in range(3)]
        return replace(frame, image=torch.from_numpy(np.stack(channels, -1)))


def degrade(frame: Frame, eyes: Float[np.ndarray, "2 2"] | None, config: AugmentConfig, rng: np.random.Generator) -> Frame:
    """Degrade a photo of a head.

    Args:
        frame: photo.
        eyes: pixels of the pupils, before which glasses are drawn; None where they are not seen.
        config: how often and how much.
        rng: source of the draws.
    """
    image = frame.image.numpy().copy()
    side = len(image)
    if eyes is not None and rng.random() < config.glasses:
        _draw_glasses(image, eyes, rng)
    if rng.random() < config.strands:
        _draw_strands(image, rng)
    if rng.random() < config.blur:
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5) * side / 256)
        else:
            small = round(side * rng.uniform(0.34, 0.8))
            image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < config.noise:
        noisy = image + rng.uniform(1, 6) * rng.standard_normal(image.shape, np.float32)
        image = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < config.compress:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 91))])[1]
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    degraded = replace(frame, image=torch.from_numpy(image))
    return _cut_border(degraded, rng) if rng.random() < config.cut else degraded


def _draw_glasses(image: np.ndarray, eyes: np.ndarray, rng: np.random.Generator) -> None:
    apart = float(np.linalg.norm(eyes[1] - eyes[0]))
    if apart < 8:
        return
    color = tuple(int(value) for value in rng.integers(0, 90, 3))
    thickness = max(1, round(apart * rng.uniform(0.03, 0.1)))
    radii = (round(apart * rng.uniform(0.34, 0.42)), round(apart * rng.uniform(0.24, 0.38)))
    along = (eyes[1] - eyes[0]) / apart
    tilt = float(np.degrees(np.arctan2(along[1], along[0])))
    for eye in eyes:
        cv2.ellipse(image, (round(eye[0]), round(eye[1])), radii, tilt, 0, 360, color, thickness, cv2.LINE_AA)
    first, second = (np.rint(point).astype(int).tolist() for point in (eyes[0] + radii[0] * along, eyes[1] - radii[0] * along))
    cv2.line(image, first, second, color, thickness, cv2.LINE_AA)


def _draw_strands(image: np.ndarray, rng: np.random.Generator) -> None:
    side = len(image)
    color = rng.integers(0, 140, 3)
    for _ in range(int(rng.integers(2, 8))):
        start, end = rng.uniform(0.25, 0.75, 2) * side, rng.uniform(0.15, 0.85, 2) * side
        bend = (start + end) / 2 + rng.normal(0, 0.08 * side, 2)
        t = np.linspace(0, 1, 16)[:, None]
        curve = ((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end).round().astype(np.int32)
        shade = tuple(int(value) for value in np.clip(color + rng.normal(0, 12, 3), 0, 255))
        cv2.polylines(image, [curve], False, shade, max(1, round(side * rng.uniform(0.003, 0.01))), cv2.LINE_AA)


def _cut_border(frame: Frame, rng: np.random.Generator) -> Frame:
    """The same frame, cut by the picture's border: unknown beyond it, the border repeated, as in a crop that reaches out of its photo."""
    side = frame.valid.shape[-1]
    width, edge = int(rng.uniform(0.02, 0.17) * side), int(rng.integers(3))
    place = torch.arange(side)
    rows = place.clamp_min(width) if edge == 0 else place
    columns = place.clamp_min(width) if edge == 1 else place.clamp_max(side - width - 1) if edge == 2 else place
    lost = (rows != place)[:, None] | (columns != place)
    planes = {name: getattr(frame, name).masked_fill(lost, 0) for name in ("foreground", "head", "eyes_mouth", "valid")}
    return Frame(image=frame.image[rows][:, columns], **planes)
