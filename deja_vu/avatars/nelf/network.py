"""The light field: rays and a code in, colors out, with a bank of features that is computed once a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

from deja_vu.nets.encodings import harmonic, harmonic_size
from deja_vu.nets.mlp import ResidualPerceptron, residual_trunk
from deja_vu.nets.upscale import ResidualUpscale, Upscale


@dataclass(frozen=True)
class NelfConfig:
    """The defaults draw 512² several times a second on two cores; `PUBLISHED` is LightAvatar's deployed size."""

    points: int = 4
    """Points that stand for a ray."""
    around: Literal["surface", "origin"] = "surface"
    """Where they lie: around the place where the ray meets an ellipsoid through face and scalp, so that the same skin has nearly the same
    coordinates from everywhere; or around the place where it passes the head's origin."""
    span: float = 0.6
    """Length of a ray that its points cover, scene units of 20 cm."""
    point_octaves: int = 7
    """Frequencies of their coordinates; seven reach down to two centimetres, which a short training needs to become sharp."""
    code_octaves: int = 1
    """Frequencies of expressions and joints."""
    bank: int = 32
    """Features computed once a frame, which every ray mixes by attention."""
    bank_depth: int = 2
    """Residual perceptrons of the bank's network."""
    attention_depth: int = 1
    """Residual perceptrons of the attention's network."""
    attention: Literal["linear", "sigmoid", "softmax"] = "linear"
    """What becomes of the attention's scores; linear is what the published script does."""
    width: int = 96
    """Channels."""
    depth: int = 6
    """Residual perceptrons of the body."""
    upscale: Literal["shuffle", "transposed"] = "shuffle"
    """How the picture grows by four."""
    upscale_width: int = 32
    """Channels of super-resolution."""
    upscale_depth: int = 3
    """Residual blocks of super-resolution."""
    residual: bool = True
    """Super-resolution adds to the enlarged picture of the rays; else that is no picture, as published."""
    coverage: bool = True
    """A fourth channel holds coverage; without it, as published, the background is white and cannot be changed."""
    warp: Literal["field", "latent", "none"] = "field"
    """In training, errors of a real frame's fit are taken up by a warping field; or by a latent added to the code; or by nothing."""
    latent: int = 64
    """Numbers that a real frame has for that."""
    warp_depth: int = 1
    """Residual perceptrons of the warping field."""
    warp_width: int = 48
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


class RayNetwork(nn.Module):
    """LightAvatar's network before super-resolution."""

    def __init__(self, config: NelfConfig, code: int) -> None:
        super().__init__()
        self.config = config
        points, codes, width = (
            harmonic_size(3 * config.points, config.point_octaves),
            harmonic_size(code, config.code_octaves),
            config.width,
        )
        self.bank = residual_trunk(codes, width, config.bank_depth, config.bank * width)
        self.attention = residual_trunk(points + codes, width, config.attention_depth, config.bank)
        self.head = nn.Linear(points + width, width)
        self.body = nn.Sequential(*(ResidualPerceptron(width) for _ in range(config.depth)))
        self.tail = nn.Linear(width, config.channels)

    def forward(self, points: Float[Tensor, "B n D"], code: Float[Tensor, "B E"]) -> Float[Tensor, "B n C"]:
        """Colors (times coverage, where there is one) of B x n rays.

        Args:
            points: coordinates of each ray's points, one after the other, scene units.
            code: of each frame.
        """
        place, state = harmonic(points, self.config.point_octaves), harmonic(code, self.config.code_octaves)
        bank = self.bank(state).unflatten(-1, (self.config.bank, self.config.width))
        mixed = self._weights(place, state) @ bank
        head = leaky_relu(_linear_of_both(self.head, place, mixed), 0.2)
        return self.tail(head + self.body(head))

    def _weights(self, place: Tensor, state: Tensor) -> Float[Tensor, "B n bank"]:
        first, *rest = self.attention
        scores = _linear_of_both(first, place, state[:, None])
        for layer in rest:
            scores = layer(scores)
        match self.config.attention:
            case "sigmoid":
                return scores.sigmoid()
            case "softmax":
                return scores.softmax(-1)
            case _:
                return scores


def _linear_of_both(layer: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """A linear layer of [a, b], without joining them: what is the same for all rays is multiplied once."""
    assert isinstance(layer, nn.Linear)
    size = a.shape[-1]
    return linear(a, layer.weight[:, :size], layer.bias) + linear(b, layer.weight[:, size:])


class NelfNetwork(nn.Module):
    """Rays on a grid, then four times as many pixels a side."""

    def __init__(self, config: NelfConfig, code: int) -> None:
        super().__init__()
        self.rays = RayNetwork(config, code)
        kind = ResidualUpscale if config.residual else Upscale
        self.upscale = kind(config.channels, config.upscale_width, config.upscale_depth, config.channels, config.upscale)

    def forward(
        self, points: Float[Tensor, "B h w D"], code: Float[Tensor, "B E"]
    ) -> tuple[Float[Tensor, "B h w C"], Float[Tensor, "B H W C"]]:
        """The picture of the rays, and the full picture."""
        small = self.rays(points.flatten(1, 2), code).unflatten(1, points.shape[1:3])
        return small, self.upscale(small.movedim(-1, 1)).movedim(1, -1)
