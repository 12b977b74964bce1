"""Settings of retargeting and smoothing, apart from their code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from deja_vu.core.ranges import Range, Rate, Weight

TorsoMode = Literal["still", "follow", "source"]
"""What a whole person's torso does while the head moves."""


@dataclass(frozen=True)
class RetargetConfig:
    """Strength and parts of the retargeted motion."""

    gain: Annotated[float, Range(0, 10)] = 1.0
    """Strength of the expressions: 1 as they are, 0 none, above 1 exaggerated. Eyes open and shut as the driving person's in any case."""
    turn: bool = True
    """Retarget the rotation and the translation of the head, too."""
    torso: TorsoMode = "still"
    """What the torso does: still rests as far as the neck allows, follow goes part of the way with the head, late, source moves as the
    driving person's torso does."""


@dataclass(frozen=True)
class OneEuroConfig:
    """Cutoff frequency of the filter: `still + haste * speed`."""

    still: Rate = 1.5
    """Cutoff at rest, Hz; lower is steadier."""
    expression_haste: Weight = 2.0
    """Growth of the cutoff with an expression's or a joint's speed (1/s, rad/s), Hz s."""
    turn_haste: Weight = 2.0
    """Growth with the head's turning (rad/s), Hz s."""
    shift_haste: Weight = 15.0
    """Growth with the head's shifting (m/s), Hz s/m."""
    speed_cutoff: Rate = 2.0
    """Cutoff of the estimated speed, Hz."""
