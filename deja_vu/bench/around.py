"""Compare an avatar from all sides with a ground truth that is known from all sides: that of a synthetic person.

A camera goes round the head from where a frame was filmed. Truth and avatar do not stand in one world: a video leaves size and distance
open, and a tracker errs. So each has its own camera, the truth's that which filmed, the avatar's that which was tracked. Both begin with
the filmed view, and turn by the same angle about points that they see in one pixel, and that face and distance say are one point of the
head. Pixels count where the truth shows head or nothing at all; neck and shirt are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deja_vu.avatars import Avatar, GaussianAvatar
from deja_vu.bench.metrics import FrameMetrics, average
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import rgb_to_sh
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE
from deja_vu.core.orbit import orbit
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.regions import MOUTH_REGIONS, region_faces
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.render.base import rasterize

YAWS = (0, 30, -30, 60, -60, 90, -90, 180)
"""Degrees by which the camera goes round the head; positive shows more of the person's left."""
SOLID = 0.98
"""Alpha under which a pixel inside the head counts as a hole."""
SHOWN = 0.05
"""Share of the mouth's inside in a pixel from which on it is seen there."""


@dataclass(frozen=True)
class TrueView:
    """What one camera sees of the person, at its own size."""

    image: Float[Tensor, "H W 3"]
    """Person over white, in [0, 1]."""
    scored: Bool[Tensor, "H W"]
    """Pixels of head and background; not those of neck, shirt, and what borders on them."""
    inside: Bool[Tensor, "H W"]
    """Pixels of the head that lie well inside its outline."""
    mouth: Bool[Tensor, "H W"]
    """Pixels that show the mouth's inside, or border on such."""


@runtime_checkable
class TruePerson(Protocol):
    """A person of whom every view is known."""

    def camera(self) -> Camera:
        """The one that filmed; the whole picture."""

    def face(self, index: int) -> Float[Tensor, "n 3"]:
        """World positions of points of the face in a frame of the video, in the order of `AroundBench.face`."""

    def view(self, index: int, camera: Camera) -> TrueView:
        """What a camera sees in a frame of the video."""


@dataclass(frozen=True)
class AroundView:
    """One view of the avatar beside the truth."""

    yaw: int
    """Degrees, see `YAWS`."""
    image: Float[Tensor, "H W 3"]
    truth: TrueView
    scores: dict[str, float]
    """Metrics; `holes` and `mouth`, the shares of the head's inner pixels that are translucent and that show the mouth's inside."""


@dataclass(frozen=True)
class Similarity:
    """Brings a point p to scale * rotation @ p + shift."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    shift: Float[Tensor, "3"]
    """Meters."""


class AroundBench:
    """Renders an avatar from all sides in some frames of its video."""

    def __init__(self, avatar: Avatar, sequence: TrackedSequence, person: TruePerson) -> None:
        """Prepare the comparison.

        Args:
            avatar: in evaluation mode, on the CPU.
            sequence: the video it was learned from.
            person: the truth about whom that video shows.
        """
        self.avatar, self.sequence, self.person = avatar, sequence, person
        topology = avatar.head.topology
        self.face: Tensor = topology.faces[topology.regions["face"]].unique()
        self._metrics = FrameMetrics(PerceptualDistance.load())

    @torch.no_grad()
    def views(self, positions: Sequence[int], yaws: Sequence[int] = YAWS) -> Iterator[AroundView]:
        """Every view of some frames, one after the other.

        Args:
            positions: of the frames in the tracked video.
            yaws: degrees.
        """
        x0, y0, x1, _ = self.sequence.info.crop
        ours, side = self.sequence.camera, self.sequence.info.resolution
        theirs = self.person.camera().crop(x0, y0, x1 - x0, x1 - x0).resize(side, side)
        for position in positions:
            params, index = self.sequence.params[position : position + 1], int(self.sequence.index[position])
            middle = self._middle(params)
            partner = same_pixel(middle, ours, theirs, fit_similarity(self.avatar.head(params)[0, self.face], self.person.face(index)))
            for yaw in yaws:
                truth = self.person.view(index, orbit(theirs, partner, math.radians(yaw)))
                yield self._compare(params, yaw, orbit(ours, middle, math.radians(yaw)), truth)

    def _middle(self, params: HeadParams) -> Float[Tensor, "3"]:
        """Middle of the tracked head: the camera goes round it."""
        vertices = self.avatar.head(params)[0]
        skin = vertices[self.avatar.head.topology.faces[self.avatar.head.topology.regions["skin"]].unique()]
        return (skin.amin(0) + skin.amax(0)) / 2

    def _compare(self, params: HeadParams, yaw: int, camera: Camera, truth: TrueView) -> AroundView:
        out = self.avatar.render(params, camera, WHITE)
        image = out.rgb[0].clamp(0, 1)
        reference = self._metrics.reference(truth.image, truth.scored[..., None].float(), perceptual=True)
        count = truth.inside.sum().clamp_min(1)
        scores = self._metrics.score(image, reference) | {"holes": float((truth.inside & (out.alpha[0, ..., 0] < SOLID)).sum() / count)}
        if isinstance(self.avatar, GaussianAvatar):
            seen = mouth_share(self.avatar, params, camera) > SHOWN
            scores["mouth"] = float((truth.inside & ~truth.mouth & seen).sum() / count)
        return AroundView(yaw, image, truth, scores)


def mouth_share(avatar: GaussianAvatar, params: HeadParams, camera: Camera) -> Float[Tensor, "H W"]:
    """How much of each pixel the Gaussians of the mouth's inside make up.

    Args:
        avatar: to be seen.
        params: one frame.
        camera: one view.
    """
    gaussians = avatar.gaussians(params)
    inner = torch.zeros(avatar.num_gaussians)
    inner[: len(avatar.layout)] = region_faces(avatar.head.topology, MOUTH_REGIONS)[avatar.layout.faces].float()
    marked = rgb_to_sh(inner[:, None].expand(-1, 3))[:, None].expand_as(gaussians.sh).contiguous()
    return rasterize(replace(gaussians, sh=marked), camera, torch.zeros(3), backend=avatar.config.backend).rgb[0, ..., 0]


def same_pixel(point: Float[Tensor, "3"], ours: Camera, theirs: Camera, move: Similarity) -> Float[Tensor, "3"]:
    """The point that a second camera sees in the pixel where the first sees a point, at the depth to which a similarity brings that.

    Args:
        point: in the first camera's world.
        ours: the first camera.
        theirs: the second, at its world's origin.
        move: from the first world to the second.
    """
    pixel, _ = ours.project(point[None])
    depth = float((move.scale * move.rotation @ point + move.shift)[2])
    ray = torch.linalg.inv(theirs.intrinsics) @ torch.cat([pixel[0], torch.ones(1)])
    return depth * ray


def fit_similarity(a: Float[Tensor, "n 3"], b: Float[Tensor, "n 3"]) -> Similarity:
    """What brings points a onto points b with the least squared distance (Umeyama, PAMI 1991).

    Args:
        a: points.
        b: their partners.
    """
    mean_a, mean_b = a.double().mean(0), b.double().mean(0)
    from_a, from_b = a.double() - mean_a, b.double() - mean_b
    u, spread, vt = torch.linalg.svd(from_b.T @ from_a)
    sign = torch.ones(3, dtype=torch.double)
    sign[2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u @ torch.diag(sign) @ vt
    scale = float((spread * sign).sum() / from_a.square().sum())
    return Similarity(scale, rotation.float(), (mean_b - scale * rotation @ mean_a).float())


def summarize_views(views: Sequence[AroundView]) -> dict[str, dict[str, float]]:
    """Means by the size of the yaw in degrees, left and right together: the metrics, and the shares of holes and of mouth."""
    rows: dict[str, dict[str, float]] = {}
    for size in sorted({abs(view.yaw) for view in views}):
        scores = [view.scores for view in views if abs(view.yaw) == size]
        shares = {name: round(float(np.mean([one[name] for one in scores])), 5) for name in ("holes", "mouth") if name in scores[0]}
        rows[str(size)] = average(scores) | shares
    return rows
