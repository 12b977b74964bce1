"""The head's symmetry: which texel mirrors which, and values of one side taken for the other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.uv.config import MirrorConfig
from deja_vu.uv.layout import UVLayout
from deja_vu.uv.lift import push_pull, reject_outliers


def find_mirror_texels(points: Float[Tensor, "M 3"]) -> Int[Tensor, " M"]:
    """The texel nearest to each texel's mirror image.

    Args:
        points: texels on the symmetric mean head in head space (the plane of symmetry is x = 0), meters.
    """
    flipped = points.double() * points.new_tensor([-1.0, 1.0, 1.0])
    return torch.from_numpy(cKDTree(points.double().numpy()).query(flipped.numpy())[1]).long()


def complete_texels(
    total: Float[Tensor, "M C"],
    weight: Float[Tensor, " M"],
    mirror: Int[Tensor, " M"],
    scalp: Bool[Tensor, " M"],
    layout: UVLayout,
    config: MirrorConfig = MirrorConfig(),
) -> tuple[Float[Tensor, "M C"], Float[Tensor, " M"]]:
    """Mean values of all texels: their own, their mirror images' where that is better known, their surroundings' where neither is.

    Hair takes its surroundings' value from hair, and skin from skin. What neither side shows is made symmetric, so that the chart's
    seam down the back of the head is not seen.

    Args:
        total: sum of weighted values.
        weight: sum of weights.
        mirror: from `find_mirror_texels`.
        scalp: texels on which hair may grow.
        layout: the texels' chart.
        config: weights.

    Returns:
        Values, and the weight from which each was taken.
    """
    share = config.weight * torch.exp(-weight / config.decay)
    both = weight + share * weight[mirror]
    mean, known = (total + share[:, None] * total[mirror]) / both.clamp_min(1e-6)[:, None], both > config.known
    well = both > config.trusted
    filled = torch.empty_like(mean)
    for part in (scalp, ~scalp):
        source = next((chosen for chosen in (well & part, known & part, known) if chosen.any()), known)
        if part is scalp and (source & scalp).any():
            source = reject_outliers(mean, source)
        filled[part] = push_pull(mean, source, layout)[part]
    filled = torch.where(well[:, None], filled, (filled + filled[mirror]) / 2)
    own = ((both - config.known) / (config.trusted - config.known)).clamp(0, 1)[:, None]
    return filled.lerp(mean, own), both
