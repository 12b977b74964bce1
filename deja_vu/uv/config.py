"""Settings of what is lifted from pictures onto texels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from deja_vu.core.ranges import Positive, Range, Rate, Share, Weight


@dataclass(frozen=True)
class HullConfig:
    """Estimation of the height of hair from silhouettes."""

    min_height: Annotated[float, Range(-0.05, 0)] = -0.006
    """Least height over the surface that is searched, meters."""
    max_height: Annotated[float, Range(0, 0.3)] = 0.045
    """Largest height over the surface that is searched, meters."""
    steps: Annotated[int, Range(2, 256)] = 18
    """Heights at which every texel's normal is sampled."""
    inside_share: Share = 0.9
    """Share of the frames in which a point must lie on the person; the rest forgives matting and tracking."""
    max_hidden_height: Annotated[float, Range(0, 0.3)] = 0.015
    """Most that hair is taken to stand off where no silhouette bounds it: at the back of a head that never turns, meters."""
    min_facing: Annotated[float, Range(-1, 1)] = -0.5
    """Cosine between normal and direction to the camera under which a texel's normal does not run into the silhouette in time."""
    blur: Positive = 5
    """Window over which heights are averaged in the chart, texels of a 256-texel map."""


@dataclass(frozen=True)
class MirrorConfig:
    """How values of texels are completed by the head's symmetry and by their surroundings."""

    weight: Weight = 0.1
    """Largest weight of the mirror image's value beside the texel's own."""
    decay: Rate = 0.05
    """Own weight at which 1 / e of that is left: a face is not symmetric, so the other side decides only where the texel is seen at a
    steep slant or not at all."""
    known: Weight = 0.02
    """Weight from which a value counts as known."""
    trusted: Weight = 0.06
    """Weight from which a value is taken as it is, and given to its surroundings; between the two it fades into theirs, without a seam."""
