"""Feature planes through the head, and attention over several people's views of them (GPAvatar, ICLR 2024)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

AXES = ((0, 1), (0, 2), (2, 1))
"""Coordinates that each plane is read at, columns then rows: XY, XZ, ZY."""


def sample_planes(planes: Float[Tensor, "B 3 C s s"], points: Float[Tensor, "B n 3"]) -> Float[Tensor, "B n C"]:
    """Mean of the three planes' features, read bilinearly; zero beyond the planes.

    Args:
        planes: XY, XZ and ZY.
        points: in the cube [-1, 1].
    """
    read = [
        grid_sample(planes[:, number], points[:, None][..., axes], mode="bilinear", padding_mode="zeros", align_corners=False)
        for number, axes in enumerate(AXES)
    ]
    return torch.stack(read).mean(0)[:, :, 0].transpose(1, 2)


def sample_plane(plane: Float[Tensor, "C s s"], points: Float[Tensor, "n 2"]) -> Float[Tensor, "n C"]:
    """One plane's features, read bilinearly; zero beyond it.

    Args:
        plane: columns and rows rise with the two coordinates.
        points: in the square [-1, 1].
    """
    return grid_sample(plane[None], points[None, None], mode="bilinear", padding_mode="zeros", align_corners=False)[0, :, 0].T


def total_variation(planes: Float[Tensor, "*b s s"]) -> Float[Tensor, ""]:
    """Mean squared difference of neighboring texels, of both directions."""
    return planes.diff(dim=-1).square().mean() + planes.diff(dim=-2).square().mean()


class PlaneAttention(nn.Module):
    """Multi tri-plane attention: each texel mixes the N sources' features by how they answer a learned query.

    One source passes unchanged, and the order of the sources does not matter.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.question, self.key = _tower(channels), _tower(channels)
        self.scale = nn.Parameter(torch.tensor([channels**-0.5]), requires_grad=False)
        """Fixed; counted among the published network's parameters."""
        self.query = nn.Parameter(torch.randn(3, channels, size, size))

    def forward(self, sources: Float[Tensor, "B N 3 C s s"]) -> Float[Tensor, "B 3 C s s"]:
        return sources[:, 0] if sources.shape[1] == 1 else (sources * self.weigh(sources).unsqueeze(3)).sum(1)

    def weigh(self, sources: Float[Tensor, "B N 3 C s s"]) -> Float[Tensor, "B N 3 s s"]:
        """How much each source counts at each texel; the weights add up to one over the sources."""
        question = self.question(self.query.movedim(1, -1))
        scores = (self.key(sources.movedim(3, -1)) * question).sum(-1) * self.scale
        return scores.softmax(1)


def _tower(width: int) -> nn.Sequential:
    hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.GELU())]
    return nn.Sequential(nn.LayerNorm(width), *hidden, nn.Linear(width, width))
