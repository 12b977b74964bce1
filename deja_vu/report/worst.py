"""Where an avatar matches its person worst: windows of held-out frames next to the renders."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.bench.evaluate import SAMPLE, held_out
from deja_vu.bench.predictors import avatar_predictor
from deja_vu.core.batch import Batch
from deja_vu.core.image import WHITE, over, to_uint8
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.regions import PixelBox, followed_parts, points_box
from deja_vu.io.frames import FrameSource
from deja_vu.losses.picture import to_decibels

REGIONS = ("lips", "eyes", "brows")
WORST = 2
"""Windows that are shown of each region."""
MARGIN = 0.5
"""Share of a region's size that is shown around it."""
HEIGHT = 160
"""Of the pictures, pixels."""


@dataclass(frozen=True)
class WorstWindow:
    """A region in a frame."""

    region: str
    frame: int
    """Number in the film."""
    psnr: float
    """Of the window, dB."""
    picture: UInt8[np.ndarray, "h w 3"]
    """What was filmed, and what the avatar shows to its right."""


@torch.no_grad()
def find_worst(avatar: Avatar, sequence: TrackedSequence, frames: int = SAMPLE) -> list[WorstWindow]:
    """The windows of lips, eyes and brows with the least PSNR, the worst first, region by region; none of a head without such parts.

    Args:
        avatar: in evaluation mode; it reads the frames if it has learned to.
        sequence: video it was learned from.
        frames: held-out frames that are looked at, evenly spread.
    """
    part, predict = held_out(sequence), avatar_predictor("render", avatar).predict
    source, parts = FrameSource(part, sequence.info.resolution, cache_bytes=0), followed_parts(avatar.host_head.topology)
    found: dict[str, list[WorstWindow]] = {region: [] for region in REGIONS if region in parts}
    for place in evenly_spaced(frames, len(part)):
        batch = avatar.subject(source.batch(place[None]))
        shown, vertices = predict(batch), avatar.host_head(batch.params)[0]
        for region, windows in found.items():
            boxes = [points_box(vertices[ids], batch.camera, MARGIN) for ids in parts[region]]
            windows += [_cut_window(region, int(part.index[place]), batch, shown, box) for box in boxes if batch.loss_mask[0][box].any()]
    return [window for windows in found.values() for window in sorted(windows, key=lambda window: window.psnr)[:WORST]]


def _cut_window(region: str, frame: int, batch: Batch, shown: Float[Tensor, "H W 3"], box: PixelBox) -> WorstWindow:
    """One window of a frame in which something counts, and of its render."""
    target, mask = over(batch.image[0][box], batch.head[0][box], WHITE), batch.loss_mask[0][box]
    error = ((shown[box] - target).square() * mask).sum() / (3 * mask.sum())
    both = to_uint8(torch.cat([target, shown[box]], dim=1))
    size = (max(1, round(HEIGHT * both.shape[1] / both.shape[0])), HEIGHT)
    return WorstWindow(region, frame, float(to_decibels(error)), cv2.resize(both, size, interpolation=cv2.INTER_CUBIC))
