"""Means with an honest interval: neighbouring frames of a video are not independent."""

from __future__ import annotations

import torch

BLOCK = 12
"""Frames drawn together: half a second at 25 frames a second."""
DRAWS = 2000


def summarize(values: list[float], block: int = BLOCK, draws: int = DRAWS) -> dict[str, float]:
    """Mean, standard deviation, and the 95 % interval of the mean by moving-block bootstrap.

    Args:
        values: one a frame, in the order of time.
        block: frames drawn together; fewer where there are not so many frames.
        draws: resampled means.
    """
    series = torch.tensor(values, dtype=torch.float64)
    count = len(series)
    block = max(1, min(block, count // 2))
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(count - block + 1, (draws, -(-count // block)), generator=generator)
    taken = (starts[..., None] + torch.arange(block)).flatten(1)[:, :count]
    low, high = series[taken].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    deviation = float(series.std()) if count > 1 else 0.0
    rounded = {"mean": float(series.mean()), "std": deviation, "low": low, "high": high}
    return {name: round(value, 5) for name, value in rounded.items()} | {"frames": count}


def differs(a: dict[str, float], b: dict[str, float]) -> bool:
    """Whether two summaries' intervals do not overlap."""
    return a["low"] > b["high"] or b["low"] > a["high"]
