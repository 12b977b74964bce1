"""Parts of Gaussian Deja-vu as published that differ from the defaults of this project."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.core.gaussians import CHANNELS, UVGaussianMap
from deja_vu.core.head import HeadParams
from deja_vu.heads.regions import MOUTH_REGIONS, region_faces
from deja_vu.uv.attach import matrix_to_quaternion, quaternion_multiply

FACE_WEIGHT = 10.1
"""Weight of a rectification's norm wherever no hair grows (the published weight map's larger value)."""
SCALP_WEIGHT = 0.1
"""The same of the scalp, from which Gaussians travel to form hair (its smaller value)."""


def offset_norms(avatar: GaussianAvatar, params: HeadParams) -> dict[str, Float[Tensor, ""]]:
    """Mean over poses and square map of the weighted norms of what is added to the base map, `position_norm` and `scale_norm`.

    Norms are those of the parameters, in units of the gains; texels that are not valid count as zero, as in a dense map.

    Args:
        avatar: in training.
        params: of the poses.
    """
    position, scale = CHANNELS["position"], CHANNELS["log_scale"]
    channels = slice(position.start, scale.stop)
    offset = avatar.rectification[:, channels].expand(len(params), -1, -1)
    if avatar.config.blendmaps:
        maps = avatar.blendmaps[..., channels]
        blend = (avatar.code(params) @ maps.flatten(1)).unflatten(-1, maps.shape[1:])
        offset = offset + (blend if avatar.upsample is None else avatar.upsample(blend))
    weight = torch.where(avatar.scalp, SCALP_WEIGHT, FACE_WEIGHT)
    count = len(params) * avatar.charts.head.size**2
    parts = {"position_norm": offset[..., position], "scale_norm": offset[..., scale]}
    return {name: (part.norm(dim=-1) * weight).sum() / count for name, part in parts.items()}


@torch.no_grad()
def fold_global_map(avatar: GaussianAvatar) -> None:
    """Add the global map to every blendmap, and leave nothing of it, in place; done again, it changes nothing.

    With weights that sum to one the avatar stays what it was.
    """
    avatar.blendmaps.add_(avatar.rectification)
    avatar.rectification.zero_()


@torch.no_grad()
def fix_mouth(avatar: GaussianAvatar, mouth: Bool[Tensor, " M"]) -> None:
    """Leave no rectification of position where `mouth_texels` are, in place; for maps that are as fine as their blendmaps."""
    channels = CHANNELS["position"]
    avatar.rectification[mouth, channels] = 0
    avatar.blendmaps[:, mouth, channels] = 0


def mouth_texels(avatar: GaussianAvatar) -> Bool[Tensor, " M"]:
    """Texels of teeth, tongue and the mouth's walls; none on a head without such."""
    chosen = torch.zeros_like(avatar.scalp)
    regions = avatar.head.topology.regions
    if any(name in regions for name in MOUTH_REGIONS):
        layout, texels = avatar.charts.parts[0]
        chosen[texels] = region_faces(avatar.head.topology, MOUTH_REGIONS)[layout.faces]
    return chosen


def in_head_axes(packed: Float[Tensor, "M 13"], frames: Float[Tensor, "M 3 3"]) -> Float[Tensor, "M 13"]:
    """The same Gaussians of the neutral head, with offsets and rotations along the head's axes instead of the surface's.

    A raw rotation cannot be half a turn. Of the four rotations that give the same Gaussian, half turns about its own axes apart, the
    smallest is taken, whose w is at least a half.

    Args:
        packed: raw map in tangent frames.
        frames: tangent frames of the neutral surface in head space.
    """
    turned = packed.clone()
    maps = UVGaussianMap.unpack(packed)
    turned[:, CHANNELS["position"]] = (frames @ maps.position[..., None])[..., 0]
    whole = quaternion_multiply(matrix_to_quaternion(frames), maps.quaternions())
    alike = quaternion_multiply(whole[:, None], torch.eye(4, dtype=packed.dtype, device=packed.device))
    smallest = alike[..., 0].abs().argmax(1)
    chosen = alike[torch.arange(len(alike), device=alike.device), smallest]
    turned[:, CHANNELS["rotation"]] = chosen[:, 1:] / chosen[:, :1]
    return turned
