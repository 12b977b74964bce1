"""Perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn


def perceptron(sizes: tuple[int, ...], activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between them, none at the end.

    Args:
        sizes: width of the input, of every hidden layer and of the output.
        activation: makes one.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


class ResidualPerceptron(nn.Module):
    """x + Linear(LeakyReLU(Linear(x))), no activation after the sum (LightAvatar's ResMLP)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = perceptron((width, width, width), lambda: nn.LeakyReLU(0.2))

    def forward(self, x: Float[Tensor, "*b W"]) -> Float[Tensor, "*b W"]:
        return x + self.layers(x)


def residual_trunk(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """Linear, `depth` residual perceptrons, Linear."""
    return nn.Sequential(nn.Linear(inputs, width), *(ResidualPerceptron(width) for _ in range(depth)), nn.Linear(width, outputs))
