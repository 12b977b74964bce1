"""Scores of networks on people that they never saw, compared with lifting alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.nerf import NerfAvatar
from deja_vu.avatars.nerf.prior import make_person
from deja_vu.avatars.prior.atlas import Lifted, load_atlas
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
MAP_SIZE = 256
"""Texels a side on which heads are lifted where no network says how many."""
ShowHead: TypeAlias = Callable[[Batch], Float[Tensor, "1 H W 3"]]
"""A person's head in the pose, and by the camera, of one frame, over white."""
HeadMaker: TypeAlias = Callable[[Batch], ShowHead]
"""Turns N photos of a person into a head."""


def head_makers(priors: Mapping[str, HeadPrior | NerfAvatar], device: torch.device = CPU) -> dict[str, HeadMaker]:
    """Ways to make a head: some networks by name, and lifting alone on the first one's texels.

    Args:
        priors: corrections of lifted Gaussians, and radiance fields for many people.
        device: where heads are drawn.
    """
    first = next(iter(priors.values()))
    atlas = first.atlas if isinstance(first, HeadPrior) else load_atlas(first.head.spec.name, MAP_SIZE)

    def lift(photos: Batch) -> ShowHead:
        start = atlas.lift(photos)
        return gaussian_head(lambda params: atlas.gaussians(start, None, params), device)

    return {LIFTED: lift, **{name: partial(make_head, prior, device) for name, prior in priors.items()}}


def make_head(prior: HeadPrior | NerfAvatar, device: torch.device, photos: Batch) -> ShowHead:
    """What a network of either kind makes of a person's photos."""
    if isinstance(prior, HeadPrior):
        start, residual = prior.predict(photos)
        return gaussian_head(lambda params: prior.atlas.gaussians(start, residual, params), device)
    person = make_person(prior, photos.params.shape.mean(0), prior.read_photos(photos)).to(device)

    def show(target: Batch) -> Tensor:
        person.shape = target.params.shape[0].to(device)  # photos are fitted one by one, and Gaussians follow the target's fit too
        return person.render(target.params.to(device), target.camera.to(device), WHITE[None].to(device)).rgb

    return show


def gaussian_head(pose: Callable[[HeadParams], Gaussians], device: torch.device) -> ShowHead:
    """A head of Gaussians, posed on the host and drawn on a device."""

    def show(target: Batch) -> Tensor:
        gaussians, camera = pose(target.params).to(device), target.camera.to(device)
        return rasterize(gaussians, camera, WHITE[None].to(device), depth=False).rgb

    return show


class PriorScores:
    """Metrics of several ways to make a head, by set and task."""

    def __init__(self, makers: Mapping[str, HeadMaker], device: torch.device = CPU) -> None:
        """Begin without scores.

        Args:
            makers: ways to make a head, from photos on the host.
            device: where pictures are compared.
        """
        self._makers, self._metrics, self._device = makers, FrameMetrics(PerceptualDistance.load().to(device)), device
        self._rows: dict[tuple[str, str, str], list[dict[str, float]]] = {}

    @torch.no_grad()
    def add(
        self,
        photos: Batch,
        targets: Mapping[str, Batch],
        sets: Sequence[str],
        *,
        label: str = "",
        others: Mapping[str, ShowHead] | None = None,
    ) -> None:
        """Make a head from photos in every way, and compare it with frames of the same person.

        Args:
            photos: N photos.
            targets: single frames by task, in which the person is drawn with the frame's own pose and expression.
            sets: names under which the scores are kept.
            label: put behind the names of the ways.
            others: what else is compared, by name.
        """
        heads = {f"{name}{label}": make(photos) for name, make in self._makers.items()} | dict(others or {})
        for task, target in targets.items():
            wanted = over(target.image, target.head, WHITE)[0]
            reference = self._metrics.reference(wanted.to(self._device), target.loss_mask[0].to(self._device), perceptual=True)
            for name, show in heads.items():
                score = self._metrics.score(show(target)[0].clamp(0, 1), reference)
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
