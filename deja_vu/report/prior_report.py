"""What one is shown of a trained prior: a table of its scores, and pictures of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.prior.network import HeadPrior
from deja_vu.bench.prior_scores import render_maps
from deja_vu.core.image import WHITE, RenderOutput, over
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.datasets.shards import ShardSet
from deja_vu.losses.photometric import psnr
from deja_vu.motion.appearance import FACES, SIDES, pose_subject


def prior_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Scores as Markdown."""
    lines = ["| set | view | frames | method | PSNR | SSIM | ST-LPIPS |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        figures = f"{row['psnr']:.2f} | {row['ssim']:.4f} | {row['st_lpips']:.4f}"
        lines.append(f"| {row['set']} | {row['task']} | {row['frames']} | {row['method']} | {figures} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class PortraitRow:
    """What is shown of one portrait."""

    beside: Float[Tensor, "h W 3"]
    """Photo, corrected head and their absolute error (times four), side by side."""
    looks: Float[Tensor, "h W 3"]
    """Photo, lifted head, corrected head, and that from the sides and with expressions."""
    psnr: float
    """Of the corrected head, dB."""


@torch.no_grad()
def portrait_rows(prior: HeadPrior, shards: ShardSet, numbers: Sequence[int], side: int) -> list[PortraitRow]:
    """Pictures and scores of some portraits, each from its own photo.

    Args:
        prior: network.
        shards: prepared portraits.
        numbers: entries to look at.
        side: of the pictures, pixels.
    """
    rows = []
    for number in numbers:
        photo = stack_portraits([shards.read(number).resize(side)], number)
        start, residual = prior.predict(photo)
        turned = replace(photo, params=pose_subject(prior.atlas.head, photo.params, [*SIDES, *FACES]))
        target, head = over(photo.image, photo.head, WHITE), render_maps(prior, start, residual, photo)
        lifted = render_maps(prior, prior.atlas.lift(photo), None, photo)
        looks = torch.cat([target, lifted, head, render_maps(prior, start, residual, turned)])
        error = (4 * (head - target).abs() * photo.loss_mask).clamp(0, 1)
        score = float(psnr(RenderOutput(head, photo.head), photo, WHITE))
        rows.append(PortraitRow(torch.cat([target[0], head[0], error[0]], dim=1), torch.cat(list(looks), dim=1), score))
    return rows
