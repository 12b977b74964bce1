"""Where exported Gaussians are: in the head space of the person at rest, in the axes of each format.

format  axes                                      of a face that looks at the viewer
glTF    x to the subject's left, y up, z forward  as head space (the front of a glTF asset faces +z)
spz     right, up, back                           the same three axes seen by the viewer
ply     right, down, forward                      head space turned by 180 degrees about x, as COLMAP and 3DGS have it
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.core.errors import InputError
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.uv.attach import matrix_to_quaternion, quaternion_multiply

RIGHT_DOWN_FORWARD = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""From head axes to those of 3DGS's PLY files."""


def move_gaussians(gaussians: Gaussians, transform: Float[Tensor, "4 4"]) -> Gaussians:
    """Gaussians under a rigid motion; their colors stay, so only degree 0 is accepted.

    Args:
        gaussians: one set or a batch.
        transform: rotation and translation, meters.
    """
    assert gaussians.sh.shape[-2] == 1, gaussians.sh.shape
    rotation = transform[:3, :3]
    means = gaussians.means @ rotation.T + transform[:3, 3]
    quats = quaternion_multiply(matrix_to_quaternion(rotation), gaussians.quats)
    return replace(gaussians, means=means, quats=torch.nn.functional.normalize(quats, dim=-1))


def rotate_gaussians(gaussians: Gaussians, rotation: Float[Tensor, "3 3"]) -> Gaussians:
    """Gaussians in other axes about the same origin."""
    transform = torch.eye(4)
    transform[:3, :3] = rotation
    return move_gaussians(gaussians, transform)


@torch.no_grad()
def at_rest(avatar: Avatar, params: HeadParams, rest: HeadParams) -> Gaussians:
    """Gaussians of one pose in the head space of the resting pose.

    Args:
        avatar: anything that has Gaussians.
        params: the pose and expression, a batch of one.
        rest: the person at rest, a batch of one; its head space is where the Gaussians stand.

    Raises:
        InputError: the avatar has no Gaussians.
    """
    if "gaussians" not in avatar.capabilities:
        raise InputError(
            f"A {type(avatar).__name__} has no Gaussians to export: it computes pictures in another way. Render videos of it with "
            "`deja-vu drive`, or personalize a Gaussian avatar."
        )
    return move_gaussians(avatar.gaussians(params)[0], torch.linalg.inv(rest.world_from_head[0]))
