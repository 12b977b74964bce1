"""Size and kind of a radiance field avatar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from deja_vu.core.ranges import Count, Pixels, Positive, Range, Rate, Weight


@dataclass(frozen=True)
class NerfConfig:
    """The defaults are a person's own field that two cores train; `PUBLISHED` is GPAvatar."""

    planes: Literal["free", "encoded"] = "free"
    """Tri-planes: learned as they are for one person, or computed from source pictures by the encoder."""
    plane_size: Annotated[int, Range(8, 2048)] = 160
    """Texels a side."""
    plane_channels: Positive = 16
    """Learned numbers of each texel."""
    encoder_size: Pixels = 512
    """Side of the source pictures, pixels (encoded planes)."""
    sources: Positive = 2
    """Source pictures, any number (encoded planes)."""
    encoder_width: Rate = 1.0
    """Factor on the channels of the encoder, and of a style super-resolution."""
    rectify: Literal["plane", "surface"] = "plane"
    """What source pictures show: the head's frontal plane, as published, or the front of its surface, with the expression taken back."""
    picture: bool = False
    """Lay the sources' own colors on the XY plane, at `encoder_size`: there a sample's color begins (encoded planes)."""
    points: Literal["mean", "perceptron"] = "mean"
    """What surface points near a sample contribute: the mean of their features, or the published perceptron's answer for each."""
    point_features: Positive = 16
    """Learned numbers of each surface point."""
    nearest: Annotated[int, Range(1, 16)] = 4
    """Surface points that a sample looks at, 1 to 16."""
    unit_offsets: bool = False
    """Offsets to points normalized to length one, as published, which hides how far they are (perceptron only)."""
    radius: Weight = 0.05
    """Samples farther than this from every surface point are empty, meters; 0 evaluates all of the box, as published."""
    canonical: bool = True
    """Read the planes where the sample would be on the expressionless head, instead of where it is."""
    surface_prior: bool = True
    """Start with density below the surface and none above it."""
    code: Count = 16
    """Coordinates of a learned linear code of pose and expression that the field reads too; 0 for none, as published."""
    width: Positive = 64
    """Channels of the decoder."""
    view_octaves: Annotated[int, Range(0, 20)] = 2
    """Frequencies of the view direction."""
    features: Annotated[int, Range(3, 4096)] = 16
    """Channels of the rendered feature picture; the first three are its color."""
    coarse: Positive = 16
    """Samples of a ray spread evenly."""
    fine: Count = 16
    """Samples of a ray placed by what the even ones found."""
    upscale: Literal["shuffle", "transposed", "style"] = "shuffle"
    """Super-resolution: four times by light residual blocks, or the published network from `rays` to `style_size` pixels a side."""
    upscale_width: Positive = 32
    """Channels (light super-resolution)."""
    upscale_depth: Count = 2
    """Residual blocks (light super-resolution)."""
    rays: Positive = 128
    """Rays a side (style super-resolution)."""
    style_size: Pixels = 512
    """Side of the picture (style super-resolution), pixels."""


PUBLISHED = NerfConfig(
    planes="encoded",
    plane_size=256,
    plane_channels=32,
    points="perceptron",
    point_features=32,
    nearest=8,
    radius=0.0,
    canonical=False,
    surface_prior=False,
    code=0,
    width=128,
    view_octaves=4,
    features=32,
    coarse=32,
    fine=32,
    upscale="style",
)
"""GPAvatar's sizes. Of its released code's defects, none is copied: density counts by length, neighbors' weights add up to one,
offsets show how far a point is, and noise stands still."""
