"""What one is shown of a trained prior: a table of its scores, and a grid of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.prior.network import HeadPrior
from deja_vu.bench.prior_scores import render_maps
from deja_vu.core.image import WHITE, over
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.datasets.shards import ShardSet
from deja_vu.motion.appearance import FACES, SIDES, pose_subject


def prior_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Scores as Markdown."""
    lines = ["| set | view | frames | method | PSNR | SSIM | ST-LPIPS |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        figures = f"{row['psnr']:.2f} | {row['ssim']:.4f} | {row['st_lpips']:.4f}"
        lines.append(f"| {row['set']} | {row['task']} | {row['frames']} | {row['method']} | {figures} |")
    return "\n".join(lines)


@torch.no_grad()
def portrait_grid(prior: HeadPrior, shards: ShardSet, numbers: Sequence[int], side: int) -> Float[Tensor, "H W 3"]:
    """A row for each portrait: photo, lifted, corrected, and the corrected head from the sides and with expressions."""
    rows = []
    for number in numbers:
        photo = stack_portraits([shards.read(number).resized(side)], number)
        start, residual = prior.predict(photo)
        turned = replace(photo, params=pose_subject(prior.atlas.head, photo.params, [*SIDES, *FACES]))
        pictures = [over(photo.image, photo.head, WHITE), render_maps(prior, prior.atlas.lift(photo), None, photo)]
        pictures += [render_maps(prior, start, residual, photo), render_maps(prior, start, residual, turned)]
        rows.append(torch.cat(list(torch.cat(pictures)), dim=1))
    return torch.cat(rows)
