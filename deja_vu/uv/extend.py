"""Continue values over a surface to places that were not seen: smoothly at the border, and with no effect far away."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from torch import Tensor

NEIGHBORS = 8
"""Nearest places that each place is joined with."""


def extend_harmonic(
    values: Float[Tensor, "M C"], known: Bool[Tensor, " M"], points: Float[Tensor, "M D"], length: float
) -> Float[Tensor, "M C"]:
    """Values of all places, of which the unknown ones minimize the integral of |grad v|^2 + v^2 / length^2 (screened Poisson).

    They lie between 0 and the extremes of what is known, are those of the border where the unknown begins, and fall off from there as
    exp(-distance / length). What no path joins with anything known is 0.

    Args:
        values: of each place; what is unknown does not matter.
        known: which values stay as they are.
        points: places, in any space in which neighbors on the surface are near, meters.
        length: over which values are carried on, meters.
    """
    extended = torch.where(known[:, None], values, torch.zeros_like(values))
    if known.all() or not known.any():
        return extended
    count = min(NEIGHBORS, len(points) - 1)
    distance, place = cKDTree(points.double().numpy()).query(points.double().numpy(), k=[*range(2, count + 2)])
    weight = 1 / np.maximum(distance, 1e-6).ravel() ** 2
    rows, columns = np.repeat(np.arange(len(points)), count), place.ravel()
    joined = coo_matrix((weight, (rows, columns)), shape=(len(points), len(points))).tocsr()
    joined = joined.maximum(joined.T)  # one edge for each pair
    degree = np.asarray(joined.sum(1)).ravel()
    edges = np.diff(joined.indptr)
    # In every direction alike, the edges of a place sum to half their number times |grad v|^2; a pair's edge counts for both.
    system = (diags(degree + edges / 4 / length**2) - joined).tocsr()
    inside, outside = ~known.numpy(), known.numpy()
    right = joined[inside][:, outside] @ extended[known].double().numpy()
    solved = splu(system[inside][:, inside].tocsc()).solve(right)
    extended[~known] = torch.from_numpy(solved).to(extended.dtype)
    return extended
