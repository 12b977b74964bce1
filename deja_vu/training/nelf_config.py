"""Settings of the training of a light field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deja_vu.avatars.nelf.config import NelfConfig
from deja_vu.core.ranges import BatchSize, Count, Positive, Share, Weight
from deja_vu.training.config import ImageLossWeights, Phase, TrainConfig, ValidationConfig

Teacher = Literal["gaussian", "nerf", "none"]


@dataclass(frozen=True)
class SamplingLaw:
    """How far a teacher's frames leave those of the video."""

    mix: Weight = 0.25
    """Codes lie on the line through two frames' codes, so far beyond each of them, in units of their distance."""
    rotation: tuple[Weight, Weight, Weight] = (0.08, 0.15, 0.04)
    """Deviation of the turn about the head's x, y and z axes, radians."""
    translation: Weight = 0.008
    """Deviation of the move along each axis, meters."""


@dataclass(frozen=True)
class NelfPhase(Phase):
    """Its rate is that of the network."""

    batch: BatchSize = 1
    """Frames a step."""
    window: Count = 0
    """Side of the random window on the head that a step sees, pixels; 0 for whole pictures."""


@dataclass(frozen=True)
class NelfRates:
    """Learning rate of every parameter group over that of the phase; 0 leaves a group as it is."""

    rays: Weight = 1.0
    """Of the network of the rays."""
    upscale: Weight = 1.0
    """Of super-resolution."""
    warp: Weight = 1.0
    """Of the warping field, which is trained beside the avatar and left behind."""


@dataclass(frozen=True)
class NelfRegularizers:
    """Weight of every term beside the full picture's; 0 leaves a term out."""

    rays: Weight = 2.0
    """Mean absolute difference of the picture before super-resolution, where that is a picture."""
    temporal: Weight = 0.0
    """How much more the picture changes between two codes than the codes do: ratio of the mean absolute differences."""
    neighbors: Weight = 0.0
    """The same of a frame and the next one of the video, each in its own pose, as published."""
    s3im: Weight = 0.0
    """One minus the structural similarity of patches of four by four pixels, of the full picture."""
    latents: Weight = 0.001
    """Squared latents of the warping field."""


@dataclass(frozen=True, kw_only=True)
class NelfTrainConfig(TrainConfig):
    """How a light field is trained; the defaults suit two cores."""

    avatar: NelfConfig = field(default_factory=NelfConfig)
    teacher: Teacher = "gaussian"
    """Whose frames are learned beside the real ones."""
    pseudo_share: Share = 0.5
    """Share of steps on a teacher's frames: 0 for real ones only, 1 for a teacher's only."""
    law: SamplingLaw = field(default_factory=SamplingLaw)
    """Where a teacher's frames lie."""
    phases: tuple[NelfPhase, ...] = (
        NelfPhase(steps=300, resolution=256, learning_rate=0.002, final_rate=1.0, perceptual_every=0),
        NelfPhase(steps=4000, resolution=256, learning_rate=0.002, final_rate=0.5, window=128, perceptual_every=0),
        NelfPhase(steps=2500, resolution=512, learning_rate=0.001, final_rate=0.4, window=192, perceptual_every=0),
        NelfPhase(steps=800, resolution=512, learning_rate=0.0004, final_rate=0.1, window=256, perceptual_every=4),
    )
    """Whole pictures at half the size for a start, then small windows on the head, which cost little, so that a step's frames and codes
    change often; at the end large windows of the full size, for the perceptual term."""
    loss: ImageLossWeights = field(default_factory=lambda: ImageLossWeights(dssim=0.1, perceptual=0.03))
    regularizers: NelfRegularizers = field(default_factory=NelfRegularizers)
    learning_rates: NelfRates = field(default_factory=NelfRates)
    warp_share: Share = 0.5
    """Share of the real frames' steps that go through the warping field; the others hold the unwarped light field, which is what is
    deployed, to the truth: without them, and without a teacher, it drifts away from every frame."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    picture_every: Positive = 500
    """Steps between pictures, scores of the frames that are only watched, and checkpoints; each phase ends with all three."""
