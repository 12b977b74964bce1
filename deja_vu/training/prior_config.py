"""Settings of the training of the prior."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.core.ranges import BatchSize, Pixels, Positive, Rate, Share, Weight
from deja_vu.training.config import AdamConfig, ImageLossWeights, Phase, TrainConfig

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class PriorPhase(Phase):
    """Its rate is that of the network."""

    final_rate: Rate = 0.3
    """Fraction of the rate that is left at the end; the decay is exponential."""


@dataclass(frozen=True)
class PriorRates:
    """Learning rate of the parameter groups over that of the phase: there is one group."""

    network: Weight = 1.0
    """Of all of the network."""


@dataclass(frozen=True)
class PriorRegularizers:
    """Weight of every term beside the picture's; 0 leaves a term out."""

    position: Weight = 0.02
    """Squared correction of positions, where skin must hold."""
    scale: Weight = 0.01
    """Squared correction of log-scales."""
    opacity: Weight = 0.001
    """Squared correction of opacities."""
    consistency: Weight = 0.1
    """Mean squared difference of maps made from different photos of one person."""


@dataclass(frozen=True, kw_only=True)
class PriorTrainConfig(TrainConfig):
    """How the prior is trained."""

    prior: PriorConfig = field(default_factory=PriorConfig)
    phases: tuple[PriorPhase, ...] = (
        PriorPhase(steps=6000, resolution=128, learning_rate=6e-4, perceptual_every=0),
        PriorPhase(steps=24000, resolution=256, learning_rate=3e-4, final_rate=0.05),
    )
    """Resolution curriculum."""
    loss: ImageLossWeights = field(default_factory=lambda: ImageLossWeights(dssim=0.1, perceptual=0.03, eyes_mouth=2.0))
    regularizers: PriorRegularizers = field(default_factory=PriorRegularizers)
    scalp_freedom: Share = 0.05
    """How firmly positions of hair are held beside those of skin: hair must travel."""
    learning_rates: PriorRates = field(default_factory=PriorRates)
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(fused=False))
    batch: BatchSize = 2
    """People a step, over all processes."""
    average: Share = 0.999
    """Decay of the averaged weights, which are what is kept."""
    perceptual_window: Pixels = 128
    """Side of the random window on the head in which the perceptual term is measured, pixels."""
    precision: Precision = "auto"
    """Of the network's convolutions."""
    device: str = "auto"
    """Where to train: auto (CUDA where it works, else the CPU), cpu, cuda, or with one process cuda:1 and so on."""
    picture_every: Positive = 500
    """Steps between pictures and scores of held-out people, and between checkpoints; each phase ends with all three."""
