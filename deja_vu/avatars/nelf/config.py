"""Size and kind of a light field avatar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from deja_vu.core.ranges import Count, Positive, Range, Rate


@dataclass(frozen=True)
class NelfConfig:
    """The defaults draw 512² several times a second on two cores; `PUBLISHED` is LightAvatar's deployed size."""

    points: Annotated[int, Range(1, 64)] = 4
    """Points that stand for a ray."""
    around: Literal["surface", "origin"] = "surface"
    """Where they lie: around the place where the ray meets an ellipsoid through face and scalp, so that the same skin has nearly the same
    coordinates from everywhere; or around the place where it passes the head's origin."""
    span: Rate = 0.6
    """Length of a ray that its points cover, scene units of 20 cm."""
    point_octaves: Annotated[int, Range(0, 20)] = 7
    """Frequencies of their coordinates; seven reach down to two centimeters, which a short training needs to become sharp."""
    code_octaves: Annotated[int, Range(0, 20)] = 1
    """Frequencies of expressions and joints."""
    limits: Literal["seen", "tanh"] = "seen"
    """What holds the code: what training frames covered; or, as published, a tanh on the turns of jaw and eyes, within what those do."""
    bank: Positive = 32
    """Features computed once a frame, which every ray mixes by attention."""
    bank_depth: Count = 2
    """Residual perceptrons of the bank's network."""
    attention_depth: Count = 1
    """Residual perceptrons of the attention's network."""
    attention: Literal["linear", "sigmoid", "softmax"] = "linear"
    """Activation of the attention's scores; linear is what the published script does."""
    width: Positive = 96
    """Channels."""
    depth: Count = 6
    """Residual perceptrons of the body."""
    upscale: Literal["shuffle", "transposed"] = "shuffle"
    """Layer that enlarges the picture by four."""
    upscale_width: Positive = 32
    """Channels of super-resolution."""
    upscale_depth: Count = 3
    """Residual blocks of super-resolution."""
    residual: bool = True
    """Super-resolution adds to the enlarged picture of the rays; else that is no picture, as published."""
    coverage: bool = True
    """A fourth channel holds coverage; without it, as published, the background is white and cannot be changed."""
    warp: Literal["field", "latent", "none"] = "field"
    """In training, errors of a real frame's fit are taken up by a warping field; or by a latent added to the code; or by nothing."""
    latent: Positive = 64
    """Numbers that a real frame has for that."""
    warp_depth: Count = 1
    """Residual perceptrons of the warping field."""
    warp_width: Positive = 48
    """Its channels."""

    @property
    def channels(self) -> int:
        return 4 if self.coverage else 3


PUBLISHED = NelfConfig(
    points=8,
    around="origin",
    span=2.0,
    point_octaves=5,
    code_octaves=1,
    limits="tanh",
    bank=64,
    bank_depth=2,
    attention_depth=2,
    attention="linear",
    width=128,
    depth=10,
    upscale="transposed",
    upscale_width=56,
    upscale_depth=5,
    residual=False,
    coverage=False,
    warp_depth=2,
    warp_width=128,
)
"""2,066,534 parameters for a code of 109 numbers."""
