"""The network of the light field: from rays and a code to colors, with a bank of features that is computed once a frame."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

from deja_vu.avatars.nelf.config import NelfConfig
from deja_vu.nets.encodings import harmonic, harmonic_size
from deja_vu.nets.mlp import ResidualPerceptron, residual_trunk
from deja_vu.nets.upscale import ResidualUpscale, Upscale


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
