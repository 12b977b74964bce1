"""Means with intervals that account for the dependence of neighboring frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

BLOCK = 12
"""Frames drawn together: half a second at 25 frames a second."""
DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over frames, rounded to five digits."""

    mean: float
    std: float
    """Standard deviation of the frames."""
    low: float
    """Lower end of the mean's 95 % interval."""
    high: float
    """Upper end."""
    frames: int


def summarize(values: Sequence[float], block: int = BLOCK, draws: int = DRAWS) -> Estimate:
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
    return Estimate(mean=round(float(series.mean()), 5), std=round(deviation, 5), low=round(low, 5), high=round(high, 5), frames=count)


def differs(a: Estimate, b: Estimate) -> bool:
    """Whether two intervals do not overlap."""
    return a.low > b.high or b.low > a.high
