"""The head's left and right: which texel mirrors which, and colors of one side lent to the other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.uv.layout import UVLayout
from deja_vu.uv.lift import alike, fill

LENT, ENOUGH = 0.1, 0.05
"""Weight of the mirror image's color beside the texel's own, and the own weight at which a third of that is left: a face is not
symmetric, so the other side decides only where the texel is seen at a steep slant or not at all."""
SHOWN = 0.02
"""Weight from which a color counts as known."""
SHOWN_WELL = 0.06
"""Weight from which a color is taken as it is, and lent to its surroundings; between the two it fades into theirs, without a seam."""


def mirror_table(points: Float[Tensor, "M 3"]) -> Int[Tensor, " M"]:
    """The texel nearest to each texel's mirror image.

    Args:
        points: texels on the symmetric mean head in head space (the plane of symmetry is x = 0), metres.
    """
    flipped = points.double() * points.new_tensor([-1.0, 1.0, 1.0])
    return torch.from_numpy(cKDTree(points.double().numpy()).query(flipped.numpy())[1]).long()


def complete(
    total: Float[Tensor, "M C"], weight: Float[Tensor, " M"], mirror: Int[Tensor, " M"], scalp: Bool[Tensor, " M"], layout: UVLayout
) -> tuple[Float[Tensor, "M C"], Float[Tensor, " M"]]:
    """Mean values of all texels: their own, their mirror images' where that is better known, their surroundings' where neither is.

    Hair takes its surroundings' value from hair, and skin from skin. What neither side shows is made symmetric, so that the chart's
    seam down the back of the head is not seen.

    Args:
        total: sum of weighted values.
        weight: sum of weights.
        mirror: from `mirror_table`.
        scalp: texels on which hair may grow.
        layout: the texels' chart.

    Returns:
        Values, and the weight from which each was taken.
    """
    lent = LENT * torch.exp(-weight / ENOUGH)
    both = weight + lent * weight[mirror]
    mean, known = (total + lent[:, None] * total[mirror]) / both.clamp_min(1e-6)[:, None], both > SHOWN
    well = both > SHOWN_WELL
    filled = torch.empty_like(mean)
    for part in (scalp, ~scalp):
        source = next((chosen for chosen in (well & part, known & part, known) if chosen.any()), known)
        if part is scalp and (source & scalp).any():
            source = alike(mean, source)
        filled[part] = fill(mean, source, layout)[part]
    filled = torch.where(well[:, None], filled, (filled + filled[mirror]) / 2)
    own = ((both - SHOWN) / (SHOWN_WELL - SHOWN)).clamp(0, 1)[:, None]
    return filled.lerp(mean, own), both
