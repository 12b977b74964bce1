"""Point-based expression field: what the posed surface's points near a sample say about it (GPAvatar, ICLR 2024, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, normalize

from deja_vu.nets.encodings import harmonic, harmonic_size
from deja_vu.nets.mlp import perceptron

OCTAVES = 4
EPSILON = 1e-4
"""Added to distances before they are inverted, scene units; a sample on a point gets that point's feature and stays finite."""


@dataclass(frozen=True)
class Neighborhood:
    """The K points nearest to each sample."""

    index: Int[Tensor, "n K"]
    weight: Float[Tensor, "n K"]
    """Inverse distances, normalized over K; 0 beyond the radius."""


def weigh_neighbors(index: Int[Tensor, "n K"], square: Float[Tensor, "n K"]) -> Neighborhood:
    """Weights of neighbors at some squared distances; infinite ones count for nothing, and at least one must be finite."""
    inverse = 1 / (square.sqrt() + EPSILON)
    return Neighborhood(index, inverse / inverse.sum(1, keepdim=True))


class PointField(nn.Module):
    """The published field: a perceptron reads each neighbor's feature and where it lies, and the answers are averaged by weight."""

    def __init__(self, points: int, features: int, hidden: int, *, unit_offsets: bool) -> None:
        """Build.

        Args:
            points: surface points, each with a learned feature.
            features: numbers a point, and numbers out.
            hidden: width of the perceptron.
            unit_offsets: offsets normalized to length one, as published, which hides the distance; else as they are, times ten.
        """
        super().__init__()
        self.features, self.unit_offsets = features, unit_offsets
        self.table = nn.Embedding(points, features)
        self.read = perceptron((features + harmonic_size(3, OCTAVES), hidden, features))

    def forward(self, samples: Float[Tensor, "n 3"], points: Float[Tensor, "V 3"], near: Neighborhood) -> Float[Tensor, "n C"]:
        offset = samples[:, None] - points[near.index]
        offset = normalize(offset, dim=-1) if self.unit_offsets else 10 * offset
        answers = self.read(torch.cat([self.table(near.index), harmonic(offset, OCTAVES)], -1))
        return (answers * near.weight[..., None]).sum(1)


class PointMean(nn.Module):
    """The cheap field: the weighted mean of the neighbors' features, without a perceptron for each."""

    def __init__(self, points: int, features: int) -> None:
        super().__init__()
        self.features = features
        self.table = nn.Embedding(points, features)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, samples: Float[Tensor, "n 3"], points: Float[Tensor, "V 3"], near: Neighborhood) -> Float[Tensor, "n C"]:
        return weighted_mean(self.table.weight, near)


def weighted_mean(values: Float[Tensor, "V C"], near: Neighborhood) -> Float[Tensor, "n C"]:
    """Mean over each sample's neighbors of what is attached to the points."""
    return embedding_bag(near.index, values, per_sample_weights=near.weight, mode="sum")
