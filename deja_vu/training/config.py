"""Settings shared by the training of every path, separate from the code so that the command line need not load it."""

from __future__ import annotations

from dataclasses import dataclass, field

from deja_vu.core.ranges import Count, Pixels, Positive, Rate, Share, Weight


@dataclass(frozen=True)
class Phase:
    """One phase of a training; paths that vary more between phases add fields of their own."""

    steps: Positive
    """Optimizer steps."""
    resolution: Pixels
    """Side of renders and targets, pixels."""
    learning_rate: Rate
    """Adam's rate at the start of the phase; every parameter group has a factor of its own."""
    final_rate: Rate = 0.2
    """Fraction of the rate that is left at the end; the decay is exponential."""
    stairs: Count = 0
    """Number of equal parts of the phase within which the rate is constant; 0 lets it decay in every step."""
    perceptual_every: Count = 2
    """Steps from one perceptual term to the next; its weight is multiplied accordingly. 0 leaves it out."""

    def rate(self, step: int, relative: float = 1.0) -> float:
        """Learning rate of a group with this factor, at a step counted from the start of the phase."""
        passed = step * self.stairs // self.steps / self.stairs if self.stairs else step / self.steps
        return self.learning_rate * relative * self.final_rate**passed


@dataclass(frozen=True)
class ImageLossWeights:
    """Weight of every loss term of a picture; 0 leaves a term out. The last three fields weight pixels within the terms."""

    huber: Weight = 10.0
    """Huber distance over all channels."""
    l1: Weight = 0.0
    """Mean absolute difference of color and coverage."""
    l2: Weight = 0.0
    """Mean squared difference of color."""
    dssim: Weight = 0.4
    """(1 - SSIM) / 2, window 11."""
    perceptual: Weight = 0.02
    """ST-LPIPS (AlexNet)."""
    alpha: Weight = 0.1
    """Mean absolute difference of coverage and head alpha."""
    eyes_mouth: Weight = 3.0
    """Extra Huber weight of a pixel on eyes and mouth."""
    neck: Weight = 0.2
    """Weight of a pixel on neck and torso, where nothing should be drawn, relative to other pixels."""
    huber_threshold: Rate = 0.1
    """Difference at which the Huber distance changes from quadratic to linear, in (0, 1]."""


PIXEL_WEIGHTS = ("eyes_mouth", "neck", "huber_threshold")
"""Fields of `ImageLossWeights` that are not terms."""


@dataclass(frozen=True)
class AdamConfig:
    """Parameters of Adam (Kingma and Ba, 2015)."""

    beta1: Share = 0.9
    """Decay of the mean gradient."""
    beta2: Share = 0.99
    """Decay of the mean squared gradient."""
    eps: Rate = 1e-8
    """Added to the root of the mean squared gradient: much smaller gradients change nothing."""
    fused: bool = True
    """Update in one kernel; the result differs from that of the other in the last bits."""


@dataclass(frozen=True)
class ValidationConfig:
    """Validation frames, which are not trained on; their score falls when training overfits."""

    share: Share = 0.04
    """Share of the training frames, one block in their middle; 0 for none."""
    frames: Positive = 8
    """Number of them that are rendered each time, at most."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the recipes of all paths have in common."""

    phases: tuple[Phase, ...] = ()
    """One after another."""
    loss: ImageLossWeights = field(default_factory=ImageLossWeights)
    """Weights of the full picture's terms."""
    adam: AdamConfig = field(default_factory=AdamConfig)
    perceptual_window: Pixels = 192
    """Side of the random window on the head in which the perceptual term is measured, pixels."""
    random_background: Share = 0.5
    """Share of the steps with a random gray background instead of white, from which coverage is learned."""
    log_every: Positive = 20
    """Steps between scalars, which are means over these steps."""
    picture_every: Positive = 250
    """Steps between pictures, validation scores and checkpoints; each phase ends with all three."""
    seed: Count = 0
    """Seed of all random numbers: order of the frames, noise, random initial values."""

    def misfit(self) -> str:
        """What does not go together, if anything."""
        return "" if self.phases else "phases is empty, so that nothing would be trained. Expected at least one, or no `phases` at all."
