"""Real spherical harmonics up to degree 3, for view-dependent color."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0


def sh_basis(directions: Float[Tensor, "*b 3"], count: int) -> Float[Tensor, "*b K"]:
    """The first `count` real spherical harmonics, in the order and with the signs of 3D Gaussian Splatting.

    Args:
        directions: unit vectors.
        count: 1, 4, 9 or 16.

    Source:
        Sloan, Efficient Spherical Harmonic Evaluation, JCGT 2013; signs of Kerbl et al., SIGGRAPH 2023.
    """
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, SH_C0)]
    if count >= 4:
        first = 0.4886025119029199
        basis += [-first * y, first * z, -first * x]
    if count >= 9:
        second = 1.0925484305920792
        basis += [second * x * y, -second * y * z, 0.31539156525252005 * (3 * z * z - 1), -second * x * z, second / 2 * (x * x - y * y)]
    if count >= 16:
        side, near, mixed = 0.5900435899266435, 0.4570457994644658, 2.890611442640554
        basis += [-side * y * (3 * x * x - y * y), mixed * x * y * z, -near * y * (5 * z * z - 1)]
        basis += [0.3731763325901154 * z * (5 * z * z - 3), -near * x * (5 * z * z - 1)]
        basis += [mixed / 2 * z * (x * x - y * y), -side * x * (x * x - 3 * y * y)]
    return torch.stack(basis, dim=-1)


def sh_sum(sh: Float[Tensor, "*b N K 3"], means: Float[Tensor, "*b N 3"], camera: Camera) -> Float[Tensor, "*b N 3"]:
    """Sum of basis times coefficient, seen along camera center -> mean; color is max(0, 0.5 + this).

    Args:
        sh: coefficients.
        means: centers, meters.
        camera: the viewer; its batch broadcasts against the Gaussians'.
    """
    if sh.shape[-2] == 1:
        return SH_C0 * sh[..., 0, :]
    center = torch.linalg.inv(camera.camera_from_world)[..., :3, 3]  # not by the transpose: gsplat's gradient of the pose is this one's
    directions = torch.nn.functional.normalize(means - center[..., None, :], dim=-1)
    return (sh_basis(directions, sh.shape[-2])[..., None] * sh).sum(-2)
