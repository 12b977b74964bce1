"""What stands behind the neck of an avatar, where no frame shows it: long hair, or a collar, from what stands off at both sides."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.gaussians import CHANNELS
from deja_vu.training.gaussian_config import BustConfig


def continue_behind(
    avatar: GaussianAvatar, height: Float[Tensor, " M"], known: Float[Tensor, " M"], bust: BustConfig
) -> Float[Tensor, " M"]:
    """Height over every texel of the bust, meters, with a neck that bears behind what stands off at both of its sides.

    What one side alone shows is not continued: there the outline was wrong, or something lies over one shoulder.

    Args:
        avatar: with a bust.
        height: that the outline tells, meters.
        known: how well, in [0, 1].
        bust: what lies beside the neck, and what behind.
    """
    layout, texels = avatar.charts.parts[1]
    assert avatar.bust is not None
    rest, usual = avatar.rest_surface().part(texels), avatar.clothing_height()[texels]
    points, normal = rest.points[0], rest.frames[0, :, :, 2]
    throat, nape = (avatar.bust.topology.regions[name][layout.faces] for name in ("neck_front", "nape"))
    levels = torch.linspace(*points[nape, 1].aminmax(), bust.neck_levels)
    sides = [(throat | nape) & (sign * normal[:, 0] > bust.beside_cosine) for sign in (-1, 1)]
    off = torch.stack([mean_at_levels((height - usual)[side], known[side], points[side, 1], levels) for side in sides]).amin(0).clamp_min(0)
    standing = torch.from_numpy(np.interp(points[:, 1], levels, join_hair(avatar, off, bust))).float()
    to_nape = torch.from_numpy(cKDTree(points[nape].double().numpy()).query(points.double().numpy())[0]).float()
    behind = (-normal[:, 2] / bust.behind_cosine).clamp(0, 1) * (1 - to_nape / bust.collar_width).clamp(0, 1)
    return height.lerp(usual + standing, behind)


def join_hair(avatar: GaussianAvatar, off: Float[Tensor, " L"], bust: BustConfig) -> Float[Tensor, " L"]:
    """Height behind a neck at rising levels, meters: what stands off as far as hair does comes from the head's, without a groove between.

    Args:
        avatar: whose hair has its height.
        off: height at both sides.
        bust: from which height on it is hair.
    """
    peak = int(off.argmax())
    if off[peak] < bust.hair_height:
        return off
    rest, normal = avatar.rest_surface().part(avatar.charts.parts[0][1]), CHANNELS["position"].stop - 1
    behind = avatar.scalp[: len(avatar.layout)] & (rest.frames[0, :, 2, 2] < -bust.behind_cosine)
    height, level = avatar.base[: len(avatar.layout), normal][behind], rest.points[0, behind, 1]
    rim = height[level < level.min() + bust.hair_tips].median().clamp_min(float(off[peak]) / 2)
    upwards = torch.linspace(0, 1, len(off) - peak)
    return torch.cat([off[:peak], off[peak:].maximum(off[peak].lerp(rim, upwards))])


def mean_at_levels(
    values: Float[Tensor, " n"], known: Float[Tensor, " n"], at: Float[Tensor, " n"], levels: Float[Tensor, " L"]
) -> Float[Tensor, " L"]:
    """Mean around each of some evenly spaced levels; where hardly any is known, of the nearest level where some are, else zero.

    Args:
        values: known ones; where they are known in part, as much smaller.
        known: how well, in [0, 1].
        at: level of each.
        levels: rising.
    """
    share = torch.exp(-(((at[:, None] - levels) / (levels[1] - levels[0])) ** 2))
    total = (share * known[:, None]).sum(0)
    told = total > 1
    if not told.any():
        return torch.zeros_like(levels)
    mean = (share * values[:, None]).sum(0) / total.clamp_min(1)
    return torch.from_numpy(np.interp(levels, levels[told], mean[told])).float()
