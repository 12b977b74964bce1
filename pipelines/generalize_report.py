"""How good a network is on people it never saw, beside lifting alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from deja_vu.avatars.prior.network import HeadPrior
from deja_vu.bench.metrics import FrameMetrics, average
from deja_vu.core.batch import Batch
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE, over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.datasets.shards import ShardSet
from deja_vu.io.frames import FrameSource
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.pipelines.looks import SIDES, posed
from deja_vu.render.base import rasterize

Draw = Callable[[HeadParams], Gaussians]
"""A person's head in B poses."""
Maker = Callable[[Batch], Draw]
"""What turns N photos of a person into a head."""


def makers(priors: Mapping[str, HeadPrior]) -> dict[str, Maker]:
    """Ways to make a head: some networks by name, and lifting alone on the first one's texels."""
    first = next(iter(priors.values()))

    def lifted(photos: Batch) -> Draw:
        start = first.atlas.lift(photos)
        return lambda params: first.atlas.gaussians(start, None, params)

    def corrected(prior: HeadPrior, photos: Batch) -> Draw:
        start, correction = prior.predict(photos)
        return lambda params: prior.atlas.gaussians(start, correction, params)

    return {"lifted": lifted, **{name: partial(corrected, prior) for name, prior in priors.items()}}


class Scores:
    """Metrics of several ways to make a head, by set and task."""

    def __init__(self, ways: Mapping[str, Maker]) -> None:
        self.ways, self._scorer = ways, FrameMetrics(PerceptualDistance.load())
        self._rows: dict[tuple[str, str, str], list[dict[str, float]]] = {}

    @torch.no_grad()
    def add(self, photos: Batch, targets: Mapping[str, Batch], sets: Sequence[str]) -> None:
        """Make a head from photos in every way, and compare it with frames of the same person.

        Args:
            photos: N photos.
            targets: single frames by task, in which the person is drawn with the frame's own pose and expression.
            sets: names under which the scores are kept.
        """
        heads = {name: make(photos) for name, make in self.ways.items()}
        for task, target in targets.items():
            wanted = over(target.image, target.head, WHITE)[0]
            reference = self._scorer.reference(wanted, target.loss_mask[0], perceptual=True)
            for name, draw in heads.items():
                out = rasterize(draw(target.params), target.camera, WHITE[None])
                score = self._scorer.score(out.rgb[0].clamp(0, 1), reference)
                for group in sets:
                    self._rows.setdefault((group, task.partition(" ")[0], name), []).append(score)

    def rows(self) -> list[dict[str, Any]]:
        """Means, one entry for each set, task and way."""
        return [
            {"set": name, "task": task, "method": method, "frames": len(values), **average(values)}
            for (name, task, method), values in sorted(self._rows.items())
        ]


def score_photos(scores: Scores, shards: ShardSet, numbers: Sequence[int], side: int) -> None:
    """Held-out portraits: `input` is the photo itself, `other` another photo of the same person.

    Args:
        scores: to add to.
        shards: prepared portraits.
        numbers: entries to measure on.
        side: of the pictures, pixels.
    """
    chosen = set(numbers)
    for number in tqdm(numbers, desc="photos", unit="photo"):
        entry = shards.entries[number]
        photo = stack_portraits([shards.read(number).resized(side)], number)
        targets = {"input": photo}
        others = [other for other in shards.people[entry.identity] if other != number and other in chosen]
        if others:
            targets["other"] = stack_portraits([shards.read(others[0]).resized(side)], others[0])
        scores.add(photo, targets, (entry.set_name, "all"))


def score_clip(scores: Scores, name: str, sequence: TrackedSequence, side: int, frames: int) -> None:
    """A tracked video: `rest` are some of its frames, of a head made from the one that faces the camera most squarely.

    Args:
        scores: to add to.
        name: of the clip.
        sequence: its frames.
        side: of the pictures, pixels.
        frames: how many are measured, evenly spread.
    """
    source = FrameSource(sequence, side)
    shown = int((-sequence.params.world_from_head[:, 2, 2]).argmax())
    places = [place for place in torch.linspace(0, len(sequence) - 1, frames).round().long().unique().tolist() if place != shown]
    targets = {f"rest {place}": source.batch(torch.tensor([place])) for place in places}
    scores.add(source.batch(torch.tensor([shown])), targets, (name, "all clips"))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Scores as Markdown."""
    lines = ["| set | view | frames | method | PSNR | SSIM | ST-LPIPS |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        figures = f"{row['psnr']:.2f} | {row['ssim']:.4f} | {row['st_lpips']:.4f}"
        lines.append(f"| {row['set']} | {row['task']} | {row['frames']} | {row['method']} | {figures} |")
    return "\n".join(lines)


@torch.no_grad()
def grid(prior: HeadPrior, shards: ShardSet, numbers: Sequence[int], side: int) -> Float[Tensor, "H W 3"]:
    """A row for each portrait: photo, lifted, corrected, and the corrected head from the sides and with expressions."""
    rows = []
    for number in numbers:
        photo = stack_portraits([shards.read(number).resized(side)], number)
        start, correction = prior.predict(photo)
        front = _shown(prior, (prior.atlas.lift(photo), None), photo)
        turned = replace(photo, params=posed(prior.atlas.head, photo.params, SIDES))
        pictures = [over(photo.image, photo.head, WHITE), front, _shown(prior, (start, correction), photo)]
        pictures.append(_shown(prior, (start, correction), turned))
        rows.append(torch.cat(list(torch.cat(pictures)), dim=1))
    return torch.cat(rows)


def _shown(prior: HeadPrior, head: tuple[Any, Tensor | None], views: Batch) -> Float[Tensor, "B H W 3"]:
    camera, count = views.camera.view(0), len(views.params)
    return rasterize(prior.atlas.gaussians(*head, views.params), camera, WHITE.expand(count, 3)).rgb.clamp(0, 1)
