"""A head in the poses and expressions by which one judges it at a glance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.motion.actor import PRESETS, Actor, Angles
from deja_vu.motion.neutral import estimate_neutral, face_camera
from deja_vu.motion.retarget import Retargeter

SIDES: dict[str, tuple[str, float]] = {
    "left 45": ("neutral", 45.0),
    "right 45": ("neutral", -45.0),
    "back": ("neutral", 180.0),
    "open": ("a", 0.0),
    "smile": ("smile", 0.0),
    "blink": ("blink", 0.0),
}
"""Looks by name: expression and yaw in degrees."""
EXPRESSIONS: dict[str, tuple[str, float]] = {
    name: (name, 0.0) for name in ("neutral", "smile", "a", "i", "o", "u", "blink", "surprise", "frown")
} | {"smile left": ("smile", 35.0), "a right": ("a", -35.0), "back": ("neutral", 180.0)}
"""What an expression sheet shows."""


def posed(head: HeadModel, subject: HeadParams, looks: dict[str, tuple[str, float]]) -> HeadParams:
    """A person in several looks, facing the camera but for the look's own turn.

    Args:
        head: of the person.
        subject: T fitted frames, from which identity, rest and place are taken.
        looks: expression (of `deja_vu.motion.actor.PRESETS`, the open mouth wider) and yaw in degrees.
    """
    actor = Actor(head)
    wide = PRESETS | {"a": PRESETS["a"] | {"jawOpen": 0.8}}
    weights = torch.cat([actor.weights(wide[expression]) for expression, _ in looks.values()])
    angles = Angles.zeros(len(looks))
    angles.head[:, 0] = torch.tensor([math.radians(yaw) for _, yaw in looks.values()])
    return Retargeter(head, actor.neutral, face_camera(estimate_neutral(subject, head)))(actor.act(weights, angles))


def tiled(pictures: Tensor, columns: int) -> Tensor:
    """Pictures [n h w 3] side by side in rows, white where the last row ends early."""
    missing = -len(pictures) % columns
    full = torch.cat([pictures, torch.ones(missing, *pictures.shape[1:])])
    rows = full.unflatten(0, (-1, columns))
    return rows.transpose(1, 2).flatten(2, 3).flatten(0, 1)
