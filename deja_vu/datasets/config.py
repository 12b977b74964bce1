"""Settings of the examples that the prior learns from, apart from their code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from deja_vu.core.ranges import Positive, Range, Share, Weight


@dataclass(frozen=True)
class AugmentConfig:
    """Strength and probability of each change; a chance is a share of the photos."""

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
class PriorSamplerConfig:
    """Shares and ranges of the examples."""

    synthetic_share: Share = 0.4
    """Share of the examples that are renders of lifted heads."""
    pair_share: Share = 0.6
    """Share of the others, where a person has several portraits, whose target is another one than the input."""
    targets: Positive = 2
    """Targets of a synthetic example."""
    yaw: Annotated[float, Range(0, 180)] = 60.0
    """Largest yaw of a synthetic example to either side, degrees."""
    pitch: Annotated[float, Range(0, 90)] = 18.0
    """Largest pitch of a synthetic example, degrees."""
    roll: Annotated[float, Range(0, 90)] = 8.0
    """Largest roll of a synthetic example, degrees."""
    expression_noise: Weight = 0.03
    """Deviation of the noise on a synthetic photo's expressions: fits are not exact."""
    turn_noise: Weight = 0.01
    """Deviation of the noise on that photo's pose, radians."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
