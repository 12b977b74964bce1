"""Settings of the examples that the prior learns from, apart from their code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from deja_vu.core.ranges import Positive, Range, Share, Weight


@dataclass(frozen=True)
class AugmentConfig:
    """How much; every chance is a share of the photos."""

    exposure: Weight = 0.2
    """Deviation of the logarithm of the brightness."""
    balance: Weight = 0.06
    """Deviation of the logarithm of each channel's gain."""
    gamma: Weight = 0.1
    """Deviation of the logarithm of the tone curve's exponent."""
    blur: Share = 0.3
    """Chance of a blur of up to 1.5 pixels, or of lost resolution of up to a third."""
    noise: Share = 0.3
    """Chance of sensor noise of up to 6/255."""
    compress: Share = 0.4
    """Chance of JPEG at quality 30 to 90."""
    cut: Share = 0.15
    """Chance that the picture's border cuts up to a sixth of one side."""
    glasses: Share = 0.08
    """Chance of a pair of dark frames before the eyes."""
    strands: Share = 0.12
    """Chance of a few strands across the head."""


@dataclass(frozen=True)
class PeopleConfig:
    """How exercises are drawn."""

    twin_share: Share = 0.4
    """Share of the exercises that are digital twins."""
    pair_share: Share = 0.6
    """Share of the others, where a person has several portraits, whose answer is another one than the input."""
    targets: Positive = 2
    """Answers of a twin."""
    yaw: Annotated[float, Range(0, 180)] = 60.0
    """Largest turn of a twin to either side, degrees."""
    pitch: Annotated[float, Range(0, 90)] = 18.0
    """Largest nod of a twin, degrees."""
    roll: Annotated[float, Range(0, 90)] = 8.0
    """Largest tilt of a twin, degrees."""
    expression_noise: Weight = 0.03
    """Deviation of the expressions that a twin's photo comes with: fits are not exact."""
    turn_noise: Weight = 0.01
    """Deviation of that photo's pose, radians."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
