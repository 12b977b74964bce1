"""Frame rates from timestamps."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SAME = 0.02
"""Share by which a rate from rounded stamps may differ from a stated one that is meant."""


def usual_rate(times: Float[Tensor, " T"], stated: float) -> float:
    """Rate by the median step, 1/s; the stated one, or a whole part of it where frames were left out, if that is meant.

    Args:
        times: of frames that follow each other, seconds, growing.
        stated: what the file says, 1/s; the answer where there is a single frame.
    """
    if len(times) < 2:
        return stated
    rate = 1 / float(times.double().diff().median())
    exact = stated / max(1, round(stated / rate))
    return exact if abs(exact - rate) < SAME * rate else rate


def is_even(times: Float[Tensor, " T"], rate: float) -> bool:
    """Whether frames shown at a rate are at their times, to half a frame."""
    grid = torch.arange(len(times), dtype=torch.float64) / rate
    return bool(((times.double() - times[0].double() - grid).abs() < 0.5 / rate).all()) and math.isfinite(rate)
