"""How good networks are on people they never saw, beside lifting alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.prior.atlas import Lifted
from deja_vu.avatars.prior.network import HeadPrior
from deja_vu.bench.metrics import FrameMetrics, average
from deja_vu.core.batch import Batch
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE, over
from deja_vu.io.frames import CPU
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.render.base import rasterize

LIFTED = "lifted"
"""Name of lifting alone."""
PosedHead: TypeAlias = Callable[[HeadParams], Gaussians]
"""A person's head in B poses."""
HeadMaker: TypeAlias = Callable[[Batch], PosedHead]
"""Turns N photos of a person into a head."""


def head_makers(priors: Mapping[str, HeadPrior]) -> dict[str, HeadMaker]:
    """Ways to make a head: some networks by name, and lifting alone on the first one's texels."""
    first = next(iter(priors.values()))

    def lift(photos: Batch) -> PosedHead:
        start = first.atlas.lift(photos)
        return lambda params: first.atlas.gaussians(start, None, params)

    def correct(prior: HeadPrior, photos: Batch) -> PosedHead:
        start, residual = prior.predict(photos)
        return lambda params: prior.atlas.gaussians(start, residual, params)

    return {LIFTED: lift, **{name: partial(correct, prior) for name, prior in priors.items()}}


class PriorScores:
    """Metrics of several ways to make a head, by set and task."""

    def __init__(self, makers: Mapping[str, HeadMaker], device: torch.device = CPU) -> None:
        """Begin without scores.

        Args:
            makers: ways to make a head, on the host.
            device: where heads are drawn and compared.
        """
        self._makers, self._metrics, self._device = makers, FrameMetrics(PerceptualDistance.load().to(device)), device
        self._rows: dict[tuple[str, str, str], list[dict[str, float]]] = {}

    @torch.no_grad()
    def add(self, photos: Batch, targets: Mapping[str, Batch], sets: Sequence[str]) -> None:
        """Make a head from photos in every way, and compare it with frames of the same person.

        Args:
            photos: N photos.
            targets: single frames by task, in which the person is drawn with the frame's own pose and expression.
            sets: names under which the scores are kept.
        """
        heads = {name: make(photos) for name, make in self._makers.items()}
        for task, target in targets.items():
            wanted = over(target.image, target.head, WHITE)[0]
            reference = self._metrics.reference(wanted.to(self._device), target.loss_mask[0].to(self._device), perceptual=True)
            for name, head in heads.items():
                gaussians = head(target.params).to(self._device)
                out = rasterize(gaussians, target.camera.to(self._device), WHITE[None].to(self._device), depth=False)
                score = self._metrics.score(out.rgb[0].clamp(0, 1), reference)
                for group in sets:
                    self._rows.setdefault((group, task.partition(" ")[0], name), []).append(score)

    def rows(self) -> list[dict[str, Any]]:
        """Means, one entry for each set, task and way."""
        return [
            {"set": name, "task": task, "method": method, "frames": len(values), **average(values)}
            for (name, task, method), values in sorted(self._rows.items())
        ]


@torch.no_grad()
def render_maps(prior: HeadPrior, start: Lifted, residual: Float[Tensor, "M 13"] | None, views: Batch) -> Float[Tensor, "B H W 3"]:
    """A lifted head, corrected or not, in the poses of some views and by the first one's camera."""
    gaussians = prior.atlas.gaussians(start, residual, views.params)
    return rasterize(gaussians, views.camera.view(0), WHITE.expand(len(views.params), 3)).rgb.clamp(0, 1)
