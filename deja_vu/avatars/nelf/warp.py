"""The warping field: models the tracking error of each training frame, and is discarded after training."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.avatars.nelf.config import NelfConfig
from deja_vu.core.transfer import move
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.nets.encodings import harmonic, harmonic_size
from deja_vu.nets.mlp import residual_trunk


class WarpField(nn.Module):
    """A small rigid motion of every ray point, by where it is and by the latent of its frame.

    Row 0 of the latents belongs to frames that fit exactly (a teacher's); they are not moved at all.
    """

    def __init__(self, config: NelfConfig, frames: int, code: int) -> None:
        """Start without moving anything.

        Args:
            config: of the avatar.
            frames: real training frames.
            code: numbers of the avatar's code.
        """
        super().__init__()
        self.config = config
        self.latents = nn.Parameter(torch.zeros(frames + 1, config.latent))
        if config.warp == "field":
            nn.init.normal_(self.latents, std=0.01)
            self.motion = residual_trunk(harmonic_size(3, config.point_octaves) + config.latent, config.warp_width, config.warp_depth, 9)
        else:
            self.motion = nn.Sequential(nn.Linear(config.latent, code))
        for parameter in self.motion[-1].parameters():
            nn.init.zeros_(parameter)
        if config.warp == "latent":
            nn.init.normal_(self.latents, std=0.01)

    def points(self, points: Float[Tensor, "B h w D"], rows: Int[Tensor, " B"]) -> Float[Tensor, "B h w D"]:
        """Moved ray points.

        Args:
            points: coordinates of each ray's points, one after the other.
            rows: of the latents, 0 for a frame that fits exactly; on the CPU, where they are looked at.
        """
        if self.config.warp != "field" or not rows.any():
            return points
        rows = move(rows, points.device)
        x = points.unflatten(-1, (-1, 3))
        latent = self.latents[rows][:, None, None, None].expand(*x.shape[:-1], -1)
        angle, center, shift = self.motion(torch.cat([harmonic(x, self.config.point_octaves), latent], -1)).split(3, -1)
        moved = (axis_angle_to_matrix(angle) @ (x + center)[..., None])[..., 0] - center + shift
        return torch.where((rows > 0)[:, None, None, None, None], moved, x).flatten(-2)

    def code(self, code: Float[Tensor, "B E"], rows: Int[Tensor, " B"]) -> Float[Tensor, "B E"]:
        """The code, changed by the frames' latents in the ablation without a field."""
        if self.config.warp != "latent":
            return code
        rows = move(rows, code.device)
        return code + self.motion(self.latents[rows]) * (rows > 0)[:, None]
