"""Poses and expressions in which a head can be judged at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.motion.actor import PRESETS, Actor, Angles
from deja_vu.motion.neutral import estimate_neutral, face_camera
from deja_vu.motion.retarget import Retargeter


@dataclass(frozen=True)
class Appearance:
    """How a head is to be shown."""

    label: str
    expression: str = "neutral"
    """Of `deja_vu.motion.actor.PRESETS`."""
    yaw: float = 0.0
    """Turn to the person's own left, degrees."""
    pitch: float = 0.0
    """Look up, degrees."""


SIDES = (Appearance("left 45°", yaw=45.0), Appearance("right 45°", yaw=-45.0), Appearance("back", yaw=180.0))
"""From around."""
FACES = (Appearance("open", "a"), Appearance("smile", "smile"), Appearance("blink", "blink"))
"""A few expressions."""
EXPRESSIONS = (
    *(Appearance(name, name) for name in ("neutral", "smile", "a", "i", "o", "u", "blink", "surprise", "frown")),
    Appearance("smile, left 35°", "smile", yaw=35.0),
    Appearance("a, right 35°", "a", yaw=-35.0),
    Appearance("back", yaw=180.0),
)
"""What an expression sheet shows."""


def pose_subject(head: HeadModel, subject: HeadParams, appearances: Sequence[Appearance]) -> HeadParams:
    """A person in several appearances, one frame each, facing the camera but for the appearance's own turn.

    Args:
        head: of the person.
        subject: T fitted frames, from which identity, neutral face and place are taken.
        appearances: to be shown; the open mouth of `a` is wider than when it is said.
    """
    actor = Actor(head)
    presets = PRESETS | {"a": PRESETS["a"] | {"jawOpen": 0.8}}
    weights = torch.cat([actor.weights(presets[appearance.expression]) for appearance in appearances])
    angles = Angles.zeros(len(appearances))
    angles.head[:, :2] = torch.tensor([[appearance.yaw, appearance.pitch] for appearance in appearances]).deg2rad()
    return Retargeter(head, actor.neutral, face_camera(estimate_neutral(subject, head)))(actor.act(weights, angles))
