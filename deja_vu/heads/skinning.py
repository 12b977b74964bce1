"""Linear blend skinning as pure functions of tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices by the exponential map, smooth at zero.

    On a GPU in closed form: the general exponential asks there how large its matrices are, and the host waits for the answer.

    Args:
        axis_angle: rotation axis times angle, radians.
    """
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(skew) if axis_angle.is_cpu else exponentiate_skew(skew)


def exponentiate_skew(skew: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """Exponential of skew-symmetric matrices, smooth at zero: I + sin(t) / t S + (1 - cos(t)) / t^2 S^2 (Rodrigues)."""
    square = skew @ skew
    angle = (-square.diagonal(dim1=-2, dim2=-1).sum(-1) / 2).clamp_min(1e-20).sqrt()[..., None, None]  # a root's slope is infinite at 0
    eye = torch.eye(3, dtype=skew.dtype, device=skew.device)
    return eye + torch.sinc(angle / torch.pi) * skew + torch.sinc(angle / (2 * torch.pi)).square() / 2 * square


def matrix_to_axis_angle(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Rotation axis times angle, radians; undoes `axis_angle_to_matrix` for turns of less than half a circle."""
    skew = (rotation - rotation.transpose(-1, -2)) / 2
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    length = sine.norm(dim=-1, keepdim=True)
    angle = torch.atan2(length, (rotation.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1) / 2)
    return sine * torch.where(length > 1e-6, angle / length.clamp_min(1e-6), torch.ones_like(length))


def joint_transforms(
    rotations: Float[Tensor, "*b J 3 3"], pivots: Float[Tensor, "*b J 3"], parents: tuple[int, ...]
) -> Float[Tensor, "*b J+1 4 4"]:
    """Rigid motion of every joint's part relative to rest, the root's (identity) first.

    Args:
        rotations: rotation of each joint relative to its parent.
        pivots: rest position of each joint, meters.
        parents: index of each joint's parent, -1 for the root; a parent precedes its children.
    """
    assert all(parent < joint for joint, parent in enumerate(parents)), parents
    batch = rotations.shape[:-3]
    root = torch.eye(4, dtype=rotations.dtype, device=rotations.device).expand(*batch, 4, 4)
    moved = [root]
    for joint, parent in enumerate(parents):
        rotation, pivot = rotations[..., joint, :, :], pivots[..., joint, :]
        about_pivot = torch.cat([rotation, (pivot - (rotation @ pivot[..., None])[..., 0])[..., None]], dim=-1)
        about_pivot = torch.cat([about_pivot, root[..., 3:, :]], dim=-2)
        moved.append(moved[parent + 1] @ about_pivot)
    return torch.stack(moved, dim=-3)


def blend_transforms(
    transforms: Float[Tensor, "*b J1 4 4"], weights: Float[Tensor, "V J1"]
) -> tuple[Float[Tensor, "*b V 3 3"], Float[Tensor, "*b V 3"]]:
    """Linear part and translation of each vertex's blended transform.

    Args:
        transforms: one rigid motion a joint, root included.
        weights: skinning weights, rows sum to one.
    """
    blended = (weights @ transforms[..., :3, :].flatten(-2)).unflatten(-1, (3, 4))
    return blended[..., :3], blended[..., 3]


def invert_motion(motion: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Inverse of a rigid motion."""
    back = motion[..., :3, :3].transpose(-1, -2)
    return _join_motion(back, -(back @ motion[..., :3, 3:]))


def halve_motion(motion: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """The rigid motion that gives the whole one when done twice: half of its screw, exp(log(motion) / 2).

    Smooth wherever the turn is less than half a circle, at the identity too.
    """
    rotation, translation = motion[..., :3, :3], motion[..., :3, 3:]
    w = 0.5 * (1 + rotation.diagonal(dim1=-2, dim2=-1).sum(-1)).clamp_min(1e-6).sqrt()  # cosine of half the angle
    skew = (rotation - rotation.transpose(-1, -2)) / (4 * w[..., None, None])  # sine of half the angle, about the axis
    # A unit quaternion (w, v) has the root (1 + w, v) / sqrt(2 + 2 w); its matrix is I + 2 w' [v'] + 2 [v']^2.
    eye = torch.eye(3, dtype=motion.dtype, device=motion.device)
    root = eye + skew + skew @ skew / (1 + w[..., None, None])
    return _join_motion(root, torch.linalg.solve_ex(eye + root, translation).result)  # never singular, which a GPU would wait to learn


def _join_motion(rotation: Float[Tensor, "*b 3 3"], translation: Float[Tensor, "*b 3 1"]) -> Float[Tensor, "*b 4 4"]:
    last = torch.eye(4, dtype=rotation.dtype, device=rotation.device)[3:].expand(*rotation.shape[:-2], 1, 4)
    return torch.cat([torch.cat([rotation, translation], -1), last], -2)
