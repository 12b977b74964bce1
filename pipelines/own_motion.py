"""A video of the avatar's own person as its motion, with expressions taken from the pixels through the avatar."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from tqdm import tqdm

from deja_vu.avatars import Avatar, GaussianAvatar
from deja_vu.avatars.gaussian.code_fit import CodeFitter, can_fit_codes
from deja_vu.avatars.gaussian.face_reader import codes_reader
from deja_vu.core.errors import ConfigError
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.subject import Subject
from deja_vu.heads import load_head
from deja_vu.io.frames import FrameSource
from deja_vu.motion.neutral import estimate_neutral
from deja_vu.motion.tracked import TrackedMotion


def refuse_unfit(avatar: Avatar, way: Literal["read", "fit"]) -> None:
    """Refuse what an avatar cannot do with frames of its person.

    Raises:
        ConfigError: it has no reader, or nothing can be fitted through it.
    """
    if way == "fit" and not (isinstance(avatar, GaussianAvatar) and can_fit_codes(avatar)):
        raise ConfigError("--fit is for avatars of Gaussians in tangent axes, on a head with lips and eyes. Leave it out for this avatar.")
    if way == "read" and not (isinstance(avatar, GaussianAvatar) and avatar.reader is not None):
        raise ConfigError("--read is for avatars that have learned to read, which this one has not. Personalize again, or use --fit.")


@torch.no_grad()
def own_motion(sequence: TrackedSequence, avatar: Avatar, subject: Subject, way: Literal["read", "fit"]) -> TrackedMotion:
    """The person's own motion: expression and joints as the avatar reads them from every frame, or as they are fitted through it.

    They are the avatar's own then, so the neutral face beside them is the avatar's too; where the head is stays relative to this film.

    Args:
        sequence: tracked film of the person.
        avatar: theirs.
        subject: whose it is.
        way: read or fit.

    Raises:
        ConfigError: the avatar cannot do so.
    """
    refuse_unfit(avatar, way)
    work = codes_reader(avatar)
    if way == "fit":
        work = CodeFitter(on_host(avatar)).fit
    source = FrameSource(sequence, sequence.info.resolution, cache_bytes=0)
    stream = tqdm(source.stream(iter(torch.arange(len(sequence))[:, None])), way, total=len(sequence), unit="frame")
    found = HeadParams.cat([work(batch) for batch in stream])
    usual = estimate_neutral(sequence.params, load_head(sequence.info.head_name))
    return TrackedMotion(replace(sequence, params=found), neutral=own_neutral(subject, usual))


def on_host(avatar: Avatar) -> GaussianAvatar:
    """An avatar that `refuse_unfit` lets pass, on the CPU."""
    still = avatar if avatar.device.type == "cpu" else deepcopy(avatar).cpu()
    assert isinstance(still, GaussianAvatar)
    return still


def own_neutral(subject: Subject, usual: HeadParams) -> HeadParams:
    """The neutral face of the avatar's own person in another film: the avatar's, where the head usually is there.

    Args:
        subject: whose avatar it is.
        usual: neutral face as it was tracked in that film.
    """
    return replace(subject.neutral, world_from_head=usual.world_from_head, torso=usual.torso)
