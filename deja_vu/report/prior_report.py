"""The report on a trained prior: a table of its scores, and pictures of heads."""

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
from deja_vu.losses.picture import psnr
from deja_vu.motion.appearance import FACES, SIDES, pose_subject
from deja_vu.report.markdown import markdown_table


def prior_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Scores as Markdown."""
    header = ["set", "view", "frames", "method", "PSNR", "SSIM", "ST-LPIPS"]
    names = ("set", "task", "frames", "method")
    figures = [[f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", f"{row['st_lpips']:.4f}"] for row in rows]
    return markdown_table(header, [[*(row[name] for name in names), *cells] for row, cells in zip(rows, figures, strict=True)])


@torch.no_grad()
def portrait_scores(prior: HeadPrior, shards: ShardSet, numbers: Sequence[int], side: int) -> list[float]:
    """PSNR in dB of some portraits' own views, each head made from its own photo.

    Args:
        prior: network.
        shards: prepared portraits.
        numbers: entries to look at.
        side: of the pictures, pixels.
    """
    photos = [stack_portraits([shards.read(number).resize(side)], number) for number in numbers]
    heads = [render_maps(prior, *prior.predict(photo), photo) for photo in photos]
    return [float(psnr(RenderOutput(head, photo.head), photo, WHITE)) for head, photo in zip(heads, photos, strict=True)]


@dataclass(frozen=True)
class PortraitRow:
    """What is shown of one portrait."""

    beside: Float[Tensor, "h W 3"]
    """Photo, corrected head and their absolute error (times four), side by side."""
    drawn: Float[Tensor, "h V 3"]
    """Photo, lifted head, corrected head, and that from the sides and with expressions."""


@torch.no_grad()
def portrait_rows(prior: HeadPrior, shards: ShardSet, numbers: Sequence[int], side: int) -> list[PortraitRow]:
    """Pictures of some portraits, each from its own photo.

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
        drawn = torch.cat([target, lifted, head, render_maps(prior, start, residual, turned)])
        error = (4 * (head - target).abs() * photo.loss_mask).clamp(0, 1)
        rows.append(PortraitRow(torch.cat([target[0], head[0], error[0]], dim=1), torch.cat(list(drawn), dim=1)))
    return rows
