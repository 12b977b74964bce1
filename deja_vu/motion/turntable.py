"""The turntable: a camera goes once round a person, who makes faces while in front of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.motion.actor import PRESETS, Actor, Angles

EXPRESSIONS = (PRESETS["a"] | {"jawOpen": 0.8}, PRESETS["smile"], PRESETS["blink"], PRESETS["u"], PRESETS["surprise"])
"""Faces that are made, as ARKit weights."""
FIRST = 3
"""How many of them are made as the camera leaves the front; the others as it comes back."""
FRONT = 0.29
"""Share of the time in which the camera leaves the front, and in which it comes back: up to 71 degrees to the side."""
LINGER = 0.6
"""How much slower than on the average the camera goes before the face, and how much faster behind the head."""


@dataclass(frozen=True)
class Turntable:
    """A turn of T frames, the last of which leads into the first."""

    params: HeadParams
    """What the person does."""
    yaw: Float[Tensor, " T"]
    """How far the camera has gone round, radians; it sees more of the person's left first."""


def act_turntable(actor: Actor, frames: int) -> Turntable:
    """Act one turn.

    Args:
        actor: who makes the faces.
        frames: length.
    """
    time = torch.linspace(0, 1, frames + 1)[:-1]
    yaw = 2 * math.pi * time - LINGER * torch.sin(2 * math.pi * time)
    last = len(EXPRESSIONS) - FIRST
    slot = FIRST * (time / FRONT).clamp(0, 1) + last * ((time - 1 + FRONT) / FRONT).clamp(0, 1)
    weights = torch.zeros(frames, len(actor.names))
    for number, shown in enumerate(EXPRESSIONS):
        weights += torch.sin((slot - number).clamp(0, 1) * math.pi)[:, None] * actor.weights(shown)
    return Turntable(actor.act(weights, Angles.zeros(frames)), yaw)
