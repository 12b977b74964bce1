"""Settings of the training of a radiance field."""

from __future__ import annotations

from dataclasses import dataclass, field

from deja_vu.avatars.nerf.config import NerfConfig
from deja_vu.core.ranges import BatchSize, Count, Weight
from deja_vu.training.config import AdamConfig, ImageLossWeights, Phase, TrainConfig, ValidationConfig


@dataclass(frozen=True)
class NerfPhase(Phase):
    """Its rate is that of the networks."""

    batch: BatchSize = 1
    """Frames a step."""
    window: Count = 0
    """Side of the random window on the head that a step sees, pixels; 0 for whole pictures."""
    enlarge: bool = True
    """Train super-resolution too; else only the picture of the rays."""


@dataclass(frozen=True)
class NerfRates:
    """Learning rate of every parameter group over that of the phase; 0 leaves a group as it is."""

    planes: Weight = 4.0
    """Of the tri-planes."""
    points: Weight = 4.0
    """Of the surface points' features."""
    networks: Weight = 1.0
    """Of the field's networks."""
    upscale: Weight = 1.0
    """Of super-resolution."""
    slow: Weight = 0.1
    """Of the style networks' codes (published configuration)."""
    code: Weight = 0.3
    """Of the expression code."""


@dataclass(frozen=True)
class NerfRegularizers:
    """Weight of every term beside the full picture's; 0 leaves a term out."""

    fine: Weight = 2.0
    """Mean absolute difference of the picture before super-resolution, and of its coverage."""
    coarse: Weight = 0.5
    """The same of the picture from even samples alone."""
    low_perceptual: Weight = 0.0
    """Perceptual distances of these two pictures, added up."""
    face: Weight = 0.0
    """Mean absolute difference on the face's box, of all three pictures."""
    face_perceptual: Weight = 0.0
    """Perceptual distance there."""
    opacity: Weight = 0.0
    """Two-norm of the even samples' opacities."""
    planes: Weight = 0.02
    """Squared difference of neighboring texels of the tri-planes."""
    points: Weight = 0.0001
    """Squared features of the surface points."""


@dataclass(frozen=True, kw_only=True)
class NerfTrainConfig(TrainConfig):
    """How a radiance field is trained; the defaults suit two cores."""

    avatar: NerfConfig = field(default_factory=NerfConfig)
    """Sizes; with a prior only `sources` is read, and the others are the prior's."""
    prior: str | None = None
    """File of `deja-vu generalize --path nerf` that makes the planes to start from, of `avatar.sources` frames; by default none."""
    phases: tuple[NerfPhase, ...] = (
        NerfPhase(steps=250, resolution=512, learning_rate=0.005, final_rate=0.5, window=256, enlarge=False, perceptual_every=0),
        NerfPhase(steps=600, resolution=512, learning_rate=0.003, final_rate=0.1, window=256),
    )
    """First the volume alone, then with super-resolution."""
    loss: ImageLossWeights = field(default_factory=lambda: ImageLossWeights(dssim=0.1, perceptual=0.03))
    regularizers: NerfRegularizers = field(default_factory=NerfRegularizers)
    learning_rates: NerfRates = field(default_factory=NerfRates)
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(eps=1e-10))
    code_noise: Weight = 0.2
    """Deviation of the noise added to the code's coordinates in training."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
