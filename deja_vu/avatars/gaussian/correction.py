"""A correction of tracked pose and expression, learned with the avatar, for errors that the tracker makes consistently.

A correction of each training frame on its own would fit them better and help no other frame. This one is a linear function of the
blend code's coordinates, which every frame has, so it carries over to frames and motions that were never trained on.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import axis_angle_to_matrix

ROTATION_STEP = 0.05
"""Rotation that one unit of the learned weights stands for, radians."""
TRANSLATION_STEP = 0.005
"""Translation that one unit stands for, meters."""
EXPRESSION_STEP = 0.3
"""Expression coefficient that one unit stands for."""


class ParamCorrection(nn.Module):
    """Linear correction of tracked parameters; zero at the start."""

    def __init__(self, num_coordinates: int, num_expression: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_coordinates + 1, 6 + num_expression))

    def forward(self, params: HeadParams, coordinates: Float[Tensor, "*b K"]) -> HeadParams:
        """Corrected parameters.

        Args:
            params: as tracked.
            coordinates: of the blend code, within the range of training.
        """
        constant = torch.ones_like(coordinates[..., :1])
        rotation, translation, expression = (torch.cat([coordinates, constant], -1) @ self.weight).split(
            [3, 3, self.weight.shape[1] - 6], dim=-1
        )
        pose = params.world_from_head
        turned = axis_angle_to_matrix(ROTATION_STEP * rotation) @ pose[..., :3, :3]
        moved = pose[..., :3, 3:] + TRANSLATION_STEP * translation[..., None]
        corrected = torch.cat([torch.cat([turned, moved], -1), pose[..., 3:, :]], -2)
        torso = torch.linalg.inv_ex(corrected).inverse @ params.world_from_torso  # stays where it was tracked; `inv` waits for a GPU
        return replace(params, world_from_head=corrected, torso=torso, expression=params.expression + EXPRESSION_STEP * expression)
