"""Sheets of labeled pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.bench.evaluate import held_out
from deja_vu.bench.predictors import avatar_predictor
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE, over, tile_images, to_uint8
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import FrameSource

GAIN = 4
"""By which errors are brightened."""
INK = (60, 66, 74)
"""Color of labels."""


def label_height(width: int) -> int:
    """Rows that a label takes above a picture of some width, pixels."""
    return max(14, round(0.08 * width))


def draw_label(text: str, width: int) -> UInt8[np.ndarray, "h W 3"]:
    """A strip with a text in its middle, as small as it must be to fit.

    Args:
        text: one line.
        width: of the strip, pixels.
    """
    height = label_height(width)
    strip = Pillow.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(strip)
    size = 0.72 * height
    wide = draw.textlength(text, font=ImageFont.load_default(size))
    font = ImageFont.load_default(size * min(1.0, 0.96 * width / max(wide, 1.0)))
    draw.text((width / 2, height / 2), text, fill=INK, font=font, anchor="mm")
    return np.asarray(strip)


def label_sheet(images: Float[Tensor, "n h w 3"], labels: Sequence[str], columns: int) -> UInt8[np.ndarray, "H W 3"]:
    """Pictures in rows, each under its own label.

    Args:
        images: in [0, 1].
        labels: one for each.
        columns: pictures in a row.
    """
    width = images.shape[2]
    strips = torch.stack([torch.from_numpy(draw_label(label, width).copy()) for label in labels]).float() / 255
    return to_uint8(tile_images(torch.cat([strips, images], dim=1), columns))


def comparison_sheet(sequence: TrackedSequence, avatar: Avatar, count: int = 6) -> UInt8[np.ndarray, "H W 3"]:
    """Frames that training never saw: target, render and absolute error, a row each under the headings."""
    part = held_out(sequence)
    source = FrameSource(part, sequence.info.resolution, cache_bytes=0)
    render = avatar_predictor("render", avatar).predict
    rows = []
    for place in evenly_spaced(count, len(part)):
        batch = source.batch(place[None])
        target, image = over(batch.image, avatar.subject(batch).head, WHITE)[0], render(batch)
        error = ((image - target).abs() * batch.loss_mask[0] * GAIN).clamp(0, 1)
        rows.append(to_uint8(torch.cat([target, image, error], dim=1)))
    headings = [draw_label(text, sequence.info.resolution) for text in ("target", "render", f"error x {GAIN}")]
    return np.concatenate([np.concatenate(headings, axis=1), *rows])


@torch.no_grad()
def render_poses(avatar: Avatar, sequence: TrackedSequence, params: HeadParams, side: int) -> Float[Tensor, "n h w 3"]:
    """Renders over white by the tracked video's camera, one for each pose.

    Args:
        avatar: to be shown.
        sequence: video it was learned from.
        params: poses and expressions.
        side: of the pictures, pixels.
    """
    device = avatar.device
    camera = sequence.camera.resize(side, side).to(device)
    pictures = [avatar.render(params[place : place + 1].to(device), camera, WHITE.to(device)).rgb[0] for place in range(len(params))]
    return torch.stack(pictures).clamp(0, 1).cpu()
