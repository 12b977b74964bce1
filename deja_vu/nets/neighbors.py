"""Nearest points: exact, within a radius."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu import native

PLAIN_TORCH = "searching neighbors with plain torch, tens of times slower than the native grid"
"""Fallback where the native library cannot be loaded, as the warning says it."""

CHUNK = 1 << 24
"""Distances held at once by the plain search."""
MAX_NEAREST = 16


def nearest(
    points: Float[Tensor, "V 3"], queries: Float[Tensor, "Q 3"], count: int, radius: float
) -> tuple[Int[Tensor, "Q K"], Float[Tensor, "Q K"]]:
    """The nearest points to each query, nearest first; nothing here is differentiated.

    float32 on the CPU goes through a native grid of cells, everything else through plain torch.

    Args:
        points: to choose from.
        queries: to look around; one that is not finite, or over a million units away, has no neighbors.
        count: points for each query, 1 to 16.
        radius: beyond it a point is ignored; may be infinite.

    Returns:
        Index of each neighbor, and the square of its distance; 0 and infinity where there are fewer than `count`.

    Raises:
        ValueError: a shape, type or number does not fit.
    """
    if points.shape[1:] != (3,) or queries.shape[1:] != (3,) or points.dtype != queries.dtype or len(points) == 0:
        raise ValueError(f"points {tuple(points.shape)} {points.dtype} and queries {tuple(queries.shape)} {queries.dtype} must be [n, 3]")
    if not 1 <= count <= MAX_NEAREST or not radius > 0:
        raise ValueError(f"{count} neighbors within {radius}; expected 1 to {MAX_NEAREST} within a positive radius")
    points, queries = points.detach(), queries.detach()
    if points.is_cpu and not points.isfinite().all():  # elsewhere the host would wait; there such points are nobody's neighbors
        raise ValueError("points hold values that are not finite")
    if points.is_cpu and points.dtype == torch.float32 and native.available(PLAIN_TORCH):
        return _native(points.contiguous(), queries.contiguous(), count, radius)
    return brute_force(points, queries, count, radius)


def brute_force(points: Tensor, queries: Tensor, count: int, radius: float) -> tuple[Tensor, Tensor]:
    """`nearest` by measuring every distance."""
    taken = min(count, len(points))
    index = torch.zeros(len(queries), count, dtype=torch.long, device=points.device)
    square = torch.full((len(queries), count), torch.inf, dtype=points.dtype, device=points.device)
    step = max(1, CHUNK // len(points))
    for begin in range(0, len(queries), step):
        part = slice(begin, begin + step)
        distance = torch.cdist(queries[part], points, compute_mode="donot_use_mm_for_euclid_dist").square()
        square[part, :taken], index[part, :taken] = distance.topk(taken, dim=1, largest=False)
    missing = ~(square < radius * radius) | ~(queries.abs() < 1e6).all(1, keepdim=True)
    return index.masked_fill(missing, 0), square.masked_fill(missing, torch.inf)


def _native(points: Tensor, queries: Tensor, count: int, radius: float) -> tuple[Tensor, Tensor]:
    index = torch.empty(len(queries), count, dtype=torch.int32)
    square = torch.empty(len(queries), count)
    arguments = native.Neighbors(
        **{"points": points.data_ptr(), "queries": queries.data_ptr(), "index": index.data_ptr(), "square": square.data_ptr()},
        radius=radius,
        point_count=len(points),
        query_count=len(queries),
        nearest=count,
        threads=torch.get_num_threads(),
    )
    native.call("neighbors", arguments, f"search {len(points)} points")
    return index.clamp_min(0).long(), square
