"""What a renderer returns, and how pictures meet a background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

WHITE = torch.ones(3)
"""Background of pictures that are compared or shown."""


@dataclass(frozen=True)
class RenderOutput:
    """Pictures of an avatar, over the background they were rendered with."""

    rgb: Float[Tensor, "*b H W 3"]
    """Color over the background, sRGB in [0, 1]."""
    alpha: Float[Tensor, "*b H W 1"]
    """Coverage in [0, 1]."""
    depth: Float[Tensor, "*b H W 1"] | None = None
    """Expected depth in metres where alpha > 0, else 0; None where the representation has none."""


def over(rgb: Float[Tensor, "*b H W 3"], alpha: Float[Tensor, "*b H W 1"], background: float | Tensor) -> Float[Tensor, "*b H W 3"]:
    """Composite straight-alpha color over a background color in [0, 1]."""
    return rgb * alpha + background * (1 - alpha)
