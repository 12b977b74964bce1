"""The turntable: a head turning from side to side while it goes through some expressions."""

from __future__ import annotations

import math

import torch

from deja_vu.core.head import HeadParams
from deja_vu.motion.actor import PRESETS, Actor, Angles

EXPRESSIONS = (PRESETS["a"] | {"jawOpen": 0.8}, PRESETS["smile"], PRESETS["blink"], PRESETS["u"], PRESETS["surprise"])
"""Expressions that the turntable passes through, as ARKit weights."""


def act_turntable(actor: Actor, frames: int, degrees: float = 30.0) -> HeadParams:
    """Act one full turn to both sides, which ends where it began.

    Args:
        actor: who turns.
        frames: length.
        degrees: largest yaw.
    """
    phase = torch.linspace(0, 2 * math.pi, frames + 1)[:-1]
    yaw = torch.sin(phase) * math.radians(degrees)
    pitch = -torch.sin(2 * phase) * math.radians(degrees / 5)
    angles = Angles.zeros(frames)
    angles.head.copy_(torch.stack([yaw, pitch, torch.zeros_like(yaw)], -1))
    slot = torch.linspace(0, len(EXPRESSIONS), frames + 1)[:-1]
    weights = torch.zeros(frames, actor.head.spec.num_expression)
    for number, shown in enumerate(EXPRESSIONS):
        weights += torch.sin((slot - number).clamp(0, 1) * math.pi)[:, None] * actor.weights(shown)
    return actor.act(weights, angles)
