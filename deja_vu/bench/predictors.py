"""Predictors of test frames: avatars, and baselines that need no learning."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import cv2
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars import Avatar, GaussianAvatar
from deja_vu.avatars.gaussian.code_fit import CodeFitter
from deja_vu.avatars.gaussian.face_reader import codes_reader
from deja_vu.core.batch import Batch
from deja_vu.core.image import WHITE, over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import FrameSource
from deja_vu.motion.neutral import mean_pose

BASELINES = ("mean_image", "nearest_frame")
NEAREST_SIDE = 64
"""Side to which frames are reduced to find the nearest training frame by pixels."""


@dataclass(frozen=True)
class Predictor:
    """Something that predicts a held-out frame from its tracked parameters and camera."""

    name: str
    predict: Callable[[Batch], Float[Tensor, "H W 3"]]
    """A batch of one frame to its picture over white, in [0, 1]."""
    shows_person: bool = False
    """Whether neck and torso are in the picture; else the head alone."""
    on_neck: bool = False
    """Whether the head alone is scored, and stands on a neck of its own in the picture."""


def take_off_neck(image: Float[Tensor, "H W 3"], batch: Batch) -> Float[Tensor, "H W 3"]:
    """A picture over white in which a head ends above its neck where it ends in the film, and as softly.

    The film's head is taken out of the film by the same share of each pixel, so that what is compared is the head.

    Args:
        image: of a head that goes on in a neck.
        batch: the frame it is of.
    """
    below, head = batch.foreground[0] > batch.head[0], batch.head[0] / batch.foreground[0].clamp_min(1e-6)
    return torch.where(below, WHITE + (image - WHITE) * head, image)


def avatar_predictor(name: str, avatar: Avatar) -> Predictor:
    """Renders of an avatar with the tracked parameters, and what the avatar reads beyond them if it has learned to."""
    device, read = avatar.device, codes_reader(avatar)

    @torch.no_grad()
    def predict(batch: Batch) -> Tensor:
        out = avatar.render(read(batch).to(device), batch.camera.to(device), WHITE.to(device))
        return out.rgb[0].clamp(0, 1).cpu()

    return Predictor(name, predict, avatar.shows_person, avatar.shows_neck and not avatar.shows_person)


def fitted_predictor(name: str, avatar: GaussianAvatar) -> Predictor:
    """Renders with expression and joints fitted to the very frame's pixels through the avatar, pose and identity as tracked.

    It looks at the answer, as published systems do that are scored after such a fit (IMavatar, PointAvatar): what the avatar could show.
    """
    still = deepcopy(avatar).cpu()
    fitter = CodeFitter(still)

    @torch.no_grad()
    def predict(batch: Batch) -> Tensor:
        return still.render(fitter.fit(batch), batch.camera, WHITE).rgb[0].clamp(0, 1)

    return Predictor(name, predict, avatar.shows_person, avatar.shows_neck and not avatar.shows_person)


def still_torso_predictor(name: str, avatar: Avatar, train: TrackedSequence) -> Predictor:
    """Renders of an avatar whose torso stands where it was in the mean of the training frames: what following it is worth."""
    mean = mean_pose(train.params.world_from_torso)
    moving = avatar_predictor(name, avatar)

    def predict(batch: Batch) -> Tensor:
        torso = torch.linalg.inv(batch.params.world_from_head) @ mean
        return moving.predict(replace(batch, params=replace(batch.params, torso=torso)))

    return Predictor(name, predict, avatar.shows_person, avatar.shows_neck and not avatar.shows_person)


def baseline_predictors(train: TrackedSequence, *, person: bool = False) -> list[Predictor]:
    """The mean of all training heads over white, and the training head whose small picture is nearest to the frame's.

    The second looks at the frame that it is to predict, which an avatar never does: it says how much of the frame was seen before.

    Args:
        train: training frames, in the window that is scored.
        person: take whole persons instead of heads.
    """
    source = FrameSource(train, train.info.resolution, cache_bytes=0)
    side = train.info.resolution
    pictures, total = torch.empty(len(train), NEAREST_SIDE, NEAREST_SIDE, 3), torch.zeros(side, side, 3)
    for batch in source.stream(iter(torch.arange(len(train))[:, None])):
        picture = _over_white(batch, person)
        pictures[int(batch.positions[0])] = _reduce(picture)
        total += picture
    mean = total / len(train)

    def nearest(batch: Batch) -> Tensor:
        found = (pictures - _reduce(_over_white(batch, person))).square().flatten(1).sum(1).argmin()
        return _over_white(source.batch(found[None]), person)

    mean_image, nearest_frame = BASELINES
    return [Predictor(mean_image, lambda batch: mean, person), Predictor(nearest_frame, nearest, person)]


def _over_white(batch: Batch, person: bool) -> Float[Tensor, "H W 3"]:
    return over(batch.image, batch.foreground if person else batch.head, WHITE)[0]


def _reduce(picture: Float[Tensor, "H W 3"]) -> Float[Tensor, "h w 3"]:
    return torch.from_numpy(cv2.resize(picture.numpy(), (NEAREST_SIDE, NEAREST_SIDE), interpolation=cv2.INTER_AREA))
