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


@dataclass(frozen=True)
class RimConfig:
    """Measurement of the height of hair along the outline, and its continuation over the scalp."""

    min_height: Annotated[float, Range(-0.05, 0)] = -0.006
    """Least height over the surface that is searched, meters."""
    max_height: Annotated[float, Range(0, 0.3)] = 0.09
    """Largest height over the surface that is searched, meters."""
    steps: Annotated[int, Range(2, 256)] = 49
    """Heights at which every texel's normal is sampled."""
    outline: Rate = 0.004
    """Distance that a texel's normal runs inside the bald head's own silhouette at which the texel hardly lies on the outline, meters."""
    max_facing: Share = 0.45
    """Cosine between normal and view, in size, above which a texel does not lie on the outline."""
    min_share: Share = 0.15
    """Weight that a texel must have had on the outline for its height to count as measured, as a share of the frames."""
    sure_share: Rate = 0.6
    """The same share from which on the measured height is taken as it is."""
    border: Rate = 0.016
    """Distance from the border of the scalp over which hair gains its full height, meters."""
    cell: Rate = 0.12
    """Side of the cells of directions whose measurements count as one."""
    deviation: Rate = 0.004
    """Deviation of such a measurement, meters."""
    amount: Rate = 0.3
    """Deviation between people of the logarithm of how high hair stands as a whole, beyond that of the people it was learned from."""
    patch: Rate = 0.4
    """Deviation of the same from place to place."""
    patch_angle: Rate = 0.5
    """Angle over which places are alike, radians."""
    envelope: Share = 0.6
    """Height of hair over that of its outline, which the highest strands make; applies where no outline was seen."""
    envelope_angle: Rate = 0.3
    """Angle over which one goes over into the other, radians."""


@dataclass(frozen=True)
class StrandConfig:
    """Colors of hair that no picture shows, continued from hair that pictures show."""

    examples: Positive = 1500
    """Texels whose color is passed on."""
    near: Rate = 0.25
    """Angle within which such texels count alike, radians."""
    smooth: Rate = 0.4
    """The same where a strand's contrast to its surroundings is measured, radians."""
    strands: Annotated[int, Range(5, 4096)] = 256
    """Strands round the head: one each two millimeters."""
    roots: Annotated[int, Range(3, 1024)] = 18
    """Stretches from the whorl to the opposite point over which a strand keeps its brightness."""
    contrast: Weight = 0.7
    """Contrast of made-up strands over that of strands that were seen: in doubt softer."""
