"""Size and kind of a Gaussian avatar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deja_vu.core.ranges import Count, Positive, Range, Rate, Share, Texels, Weight


@dataclass(frozen=True)
class ChannelGains:
    """Raw change of each channel for one unit of a rectification parameter, so that one learning rate serves all."""

    position: Rate = 0.01
    """Meters."""
    log_scale: Rate = 2.0
    """Natural logarithm."""
    rotation: Rate = 1.0
    """Quaternion components."""
    opacity_logit: Rate = 3.0
    """Logit."""
    color: Rate = 4.0
    """Spherical-harmonic coefficients."""


@dataclass(frozen=True)
class CodeNetworkConfig:
    """How the small network that makes blend weights of expression and jaw is trained, before anything else and on nothing else."""

    width: Positive = 50
    """Outputs of each of its two hidden layers."""
    steps: Positive = 10_000
    """Adam's steps."""
    batch: Positive = 64
    """Frames a step, drawn at random."""
    learning_rate: Rate = 0.01
    """At the start."""
    decay: Share = 0.9
    """Share of the rate that is left after `decay_every` steps."""
    decay_every: Positive = 1000
    """Steps."""


@dataclass(frozen=True)
class NeckConfig:
    """Shape of the neck that closes a head without shoulders: a wall that fades away downwards, and a floor inside it."""

    end: Rate = 0.028
    """Height above the plane of the neck's foot, from the pit of the throat to the nape's, at which nothing of the wall is left, meters."""
    fade: Rate = 0.03
    """Height over which the wall fades away above that, meters."""
    floor_rise: Rate = 0.004
    """Height of the floor above where the wall begins to fade, meters."""
    floor_band: Rate = 0.006
    """Distance from the floor's plane up to which the wall says how wide the floor is, meters."""
    floor_sectors: Positive = 24
    """Directions in which that width is measured."""
    floor_share: Share = 0.85
    """Share of the wall's width in which the floor's Gaussians are centered; their own width fills the rest."""
    floor_opacity: Annotated[float, Range(0.01, 0.999)] = 0.98
    """Opacity of the floor."""


@dataclass(frozen=True)
class GaussianConfig:
    """Size and kind of a Gaussian avatar."""

    uv_size: Texels = 256
    """Texels a side of the Gaussian map, 64 to 512."""
    blend_size: Texels = 64
    """Texels a side of the blendmaps, at most `uv_size`; the blend is upsampled once a frame."""
    bust_size: Annotated[int, Range(0, 512)] = 0
    """Texels a side of the map of neck, torso and clothes, 64 to 512; 0 leaves them out, and the avatar is a head. Training sets it."""
    bust_blend_size: Texels = 64
    """Texels a side of that map's blendmaps, at most `bust_size`."""
    bust_part: Literal["whole", "neck"] = "whole"
    """What the bust's map covers: all of it, or the neck, which closes a head that is shown alone. Training sets it."""
    neck: NeckConfig = field(default_factory=NeckConfig)
    """Shape of that neck."""
    blendmaps: Annotated[int, Range(0, 256)] = 16
    """Number of expression-aware rectification blendmaps; 0 keeps the global map only."""
    code: Literal["linear", "softmax", "components", "network"] = "linear"
    """Blend weights: a learned linear code of pose and expression; or as published a softmax, of the first expression coefficients (the
    paper's, for FLAME), of the strongest components of the clip's expressions and jaw (the same for any head), or of what a small
    network makes of expression and jaw (the later release's)."""
    code_network: CodeNetworkConfig = field(default_factory=CodeNetworkConfig)
    """Training of that network."""
    correction: bool = True
    """Correct tracked pose and expression as a linear function of the blend code's coordinates (which only the linear code has)."""
    axes: Literal["tangent", "head"] = "tangent"
    """Frame of offsets and rotations: the surface's tangent frame, or the head's own axes as in the paper."""
    gains: ChannelGains = field(default_factory=ChannelGains)
    """Raw change of each channel for one unit of a parameter."""
    reader: bool = False
    """Whether the avatar reads from its person's frames what their tracker missed. Training sets it."""
    backend: Literal["auto", "reference", "cpu", "gsplat"] = "auto"
    """Rasterizer."""

    def misfit(self) -> str:
        """What does not go together, if anything."""
        if self.blend_size > self.uv_size:
            return f"blend_size {self.blend_size} is more than uv_size {self.uv_size}. Expected at most as many texels a side."
        if self.bust_size and self.bust_blend_size > self.bust_size:
            return (
                f"bust_blend_size {self.bust_blend_size} is more than bust_size {self.bust_size}. Expected at most as many texels a side."
            )
        if self.bust_size and self.axes == "head":
            return "axes: head has no frame for a torso that does not follow the head. Expected bust_size: 0 with it, or axes: tangent."
        return ""


@dataclass(frozen=True)
class CodeFitConfig:
    """How expression and joints of a frame are fitted to its pixels through an avatar."""

    steps: Positive = 3
    """Gauss-Newton steps a frame."""
    least_gain: Share = 0.003
    """Share of what is minimized that a step must win for another one to follow."""
    expression_deviation: Rate = 0.25
    """Usual error of a tracked expression: the spring that holds it."""
    angle_deviation: Rate = 0.08
    """Usual error of a tracked angle of jaw or eye, radians."""
    pixel_deviation: Rate = 0.1
    """Difference of a color from which on a pixel counts less: there something else is wrong, such as light or the avatar."""
    pixel_share: Share = 0.02
    """How many of the pixels say something of their own; neighbors err alike."""
    largest_step: Rate = 0.4
    """Most that a step may move an expression."""
    largest_turn: Rate = 0.13
    """Most that a step may turn a joint, radians."""
    probe: Rate = 0.08
    """Change of an expression by which its effect is measured."""
    angle_probe: Rate = 0.03
    """The same of an angle, radians."""
    least_motion: Rate = 0.001
    """Motion of a part's surface under a whole expression from which on the part tells something about it, meters."""


@dataclass(frozen=True)
class ReaderConfig:
    """How an avatar's reader of codes is learned."""

    frames: Count = 60
    """Most training frames that it is learned from, evenly spread; 0 for no reader."""
    fit: CodeFitConfig = field(default_factory=lambda: CodeFitConfig(steps=2))
    """How their codes are fitted."""
    noise: Rate = 2.0
    """Variance that is added to that of every cell of the residuals, over their mean: the larger, the more cautious the reader."""
    tracked_weight: Weight = 1.0
    """Weight of the tracker's real errors beside those that are drawn."""
    lips_limit: Rate = 3.0
    """Most that the residual of a cell around the lips counts, over its deviation in training: beyond, as where teeth and tongue show that
    never did, nothing is known about what it means."""
    eyes_limit: Rate = 6.0
    """The same of a cell around an eye and its brow."""
