"""Blend weights: factors of the blendmaps, computed from tracked parameters."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.core.head import HeadParams

JOINT_SCALE = 2.0
"""Weight of a radian of a joint beside an expression's full swing."""
ROTATION_SCALE = 1.5
"""Weight of a radian of the head beside an expression's full swing."""


def code_features(params: HeadParams, rest_rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "*b D"]:
    """Features on which blend weights depend: expression, joints, and how the head is turned in the world's light.

    Args:
        params: pose and expression.
        rest_rotation: the person's mean head rotation; the turn is measured from it by the sine of each axis' angle.
    """
    relative = params.world_from_head[..., :3, :3] @ rest_rotation.T
    skew = relative - relative.transpose(-1, -2)
    turn = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1) / 2
    return torch.cat([params.expression, params.joints.flatten(-2) * JOINT_SCALE, turn * ROTATION_SCALE], -1)


class LinearCode(nn.Module):
    """Learned linear mixture of the principal components of the training frames' parameters.

    Coordinates are held to what training frames covered, one by one and as a whole, so that a pose never seen does not extrapolate.
    """

    noise: float = 0.0
    """Deviation of the noise added to the coordinates in training mode."""
    rest_rotation: Tensor
    mean: Tensor
    components: Tensor
    """Principal axes, scaled to coordinates of deviation one."""
    weight: Tensor
    """Share of each coordinate in the code: square root of its deviation over the largest one's."""
    reach: Tensor
    """Largest norm of the coordinates."""
    low: Tensor
    high: Tensor

    def __init__(self, num_features: int, num_maps: int) -> None:
        super().__init__()
        self.register_buffer("rest_rotation", torch.eye(3))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("components", torch.zeros(num_maps, num_features))
        self.register_buffer("weight", torch.ones(num_maps))
        self.register_buffer("reach", torch.tensor(max(num_maps, 1) ** 0.5))
        self.register_buffer("low", -torch.ones(num_maps))
        self.register_buffer("high", torch.ones(num_maps))
        self.mix = nn.Parameter(torch.eye(num_maps))

    @torch.no_grad()
    def fit(self, params: HeadParams) -> None:
        """Set the principal components, and the range of the coordinates, from training frames."""
        if len(self.components) == 0:
            return
        rotation = params.world_from_head[:, :3, :3].mean(0)
        u, _, vt = torch.linalg.svd(rotation)
        self.rest_rotation.copy_(u @ vt)
        features = code_features(params, self.rest_rotation)
        self.mean.copy_(features.mean(0))
        _, spread, axes = torch.linalg.svd(features - self.mean, full_matrices=False)
        count = min(len(spread), len(self.components))
        deviation = (spread / max(len(features) - 1, 1) ** 0.5)[:count].clamp_min(1e-6)
        self.components.zero_()
        self.components[:count] = axes[:count] / deviation[:, None]
        self.weight[:count] = (deviation / deviation[0]).sqrt()
        coordinates = (features - self.mean) @ self.components.T
        self.low.copy_(coordinates.quantile(0.005, 0))
        self.high.copy_(coordinates.quantile(0.995, 0))
        self.reach.copy_(coordinates.norm(dim=1).quantile(0.99))

    def rarity(self, params: HeadParams) -> Float[Tensor, "*b"]:
        """Distance of parameters from the training frames' mean, in deviations of each coordinate, before they are clamped."""
        return ((code_features(params, self.rest_rotation) - self.mean) @ self.components.T).norm(dim=-1)

    def coordinates(self, params: HeadParams) -> Float[Tensor, "*b K"]:
        """Weighted principal coordinates within the range of training."""
        features = code_features(params, self.rest_rotation)
        held = ((features - self.mean) @ self.components.T).clamp(self.low, self.high)
        excess = held.norm(dim=-1, keepdim=True) / self.reach
        return self.weight * held / excess.clamp_min(1.0)

    def forward(self, params: HeadParams) -> Float[Tensor, "*b K"]:
        coordinates = self.coordinates(params)
        if self.training and self.noise:
            coordinates = coordinates + self.noise * self.weight * torch.randn_like(coordinates)
        return coordinates @ self.mix.T
