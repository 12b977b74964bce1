"""Size and kind of the generalized prior's network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deja_vu.avatars.gaussian.config import ChannelGains
from deja_vu.core.ranges import Pixels, Range, Rate, Share, Texels, Weight
from deja_vu.nets.config import UVNetConfig
from deja_vu.uv.config import HullConfig, MirrorConfig, RimConfig, StrandConfig

Color = tuple[Share, Share, Share]


@dataclass(frozen=True)
class MouthConfig:
    """Colors of what closed lips hide: red, green, blue in [0, 1] on a face of brightness `face_light`."""

    mouth_inner: Color = (0.30, 0.12, 0.11)
    """Gums and cheeks."""
    teeth_upper: Color = (0.80, 0.75, 0.68)
    """Upper teeth."""
    teeth_lower: Color = (0.74, 0.68, 0.61)
    """Lower teeth, in the upper lip's shade."""
    tongue: Color = (0.62, 0.34, 0.33)
    """Tongue."""
    face_light: Annotated[float, Range(0.01, 1)] = 0.55
    """Brightness of the face for which the colors are given; they follow that of the face at hand."""
    depth: Rate = 0.06
    """Distance behind the front teeth at which the mouth is as dark as it gets, meters."""
    min_light: Share = 0.12
    """Share of the light that is left there: a throat is dark, and so is what shows of it under the hair from behind, where no neck hides
    it."""


@dataclass(frozen=True)
class ColorLimitConfig:
    """Where the network's colors are limited, as no training photo bounds them.

    Places are told by the forward component of the neutral head's normals, from 1 in front to -1 behind.
    """

    back_begin: Annotated[float, Range(-1, 1)] = -0.7
    """Behind it is the back of the head, which no portrait shows: it keeps its lifted color."""
    back_end: Annotated[float, Range(-1, 1)] = -0.35
    """To here the back gives way to the sides."""
    side_begin: Annotated[float, Range(-1, 1)] = -0.2
    """Behind it hair keeps nearly the color of hair."""
    side_end: Annotated[float, Range(-1, 1)] = 0.2
    """To here the sides give way to what a portrait shows from the front."""
    hair_shift: Share = 0.1
    """Largest change of a channel of the color of that hair, colors in [0, 1]."""
    skin_shift: Share = 0.05
    """The same of skin that no photo shows well: at the rim the background shines in."""
    skin_trust: Rate = 0.15
    """Trust from which on skin is seen well."""


@dataclass(frozen=True)
class PhotoLiftConfig:
    """Lifting of photos, on which a network's input depends."""

    hull: HullConfig = field(default_factory=HullConfig)
    """Height of the hair."""
    visible_deviations: Weight = 1.5
    """Deviations from its middle to which a Gaussian of a dense surface is seen: a hull of the middles alone would be that much too
    large."""
    rim_cosine: Share = 0.4
    """Cosine between normal and view below which a texel lies on the outline: hair that leaves it upwards is seen to be as high."""
    depth_tolerance: Weight = 0.006
    """A texel further than this behind the nearest surface is hidden, meters."""
    rim: RimConfig = field(default_factory=RimConfig)
    """Height of the hair where no photo shows it."""
    shown_from: Annotated[float, Range(-1, 1)] = -0.65
    """Largest cosine between normal and direction to the camera from which on hair is less and less as usual, and more and more as photos
    show it."""
    shown_to: Annotated[float, Range(-1, 1)] = -0.4
    """The same to which it is so."""
    crown_from: Annotated[float, Range(-1, 1)] = 0.5
    """Height of a direction from the middle of the scalp, from which on hair belongs more and more to the crown."""
    crown_to: Annotated[float, Range(-1, 1)] = 0.7
    """The same from which on it does."""
    round_from: Annotated[float, Range(-1, 1)] = 0.1
    """Largest cosine between normal and direction to the camera up to which the crown is as usual beside its outline."""
    round_to: Annotated[float, Range(-1, 1)] = 0.6
    """The same from which on it is as photos show it."""
    moved: Rate = 0.004
    """Way that hair is moved from where it was lifted at which it takes the color of its new place, meters."""
    skin_from: Rate = 0.02
    """Squared cosine between normal and direction to the camera from which on skin beside the head's mask takes its color from photos."""
    skin_to: Rate = 0.2
    """The same from which on it is that color."""
    seen_from: Annotated[float, Range(-1, 1)] = -0.25
    """As `shown_from`, of the hair's color."""
    seen_to: Annotated[float, Range(-1, 1)] = 0.05
    """As `shown_to`, of the hair's color."""
    lips_tolerance: Weight = 0.0015
    """The same of what lies in the mouth: lips are thin."""
    mirror: MirrorConfig = field(default_factory=MirrorConfig)
    """Completion of what no photo shows."""
    strands: StrandConfig = field(default_factory=StrandConfig)
    """Colors of hair that no photo shows."""
    mouth: MouthConfig = field(default_factory=MouthConfig)
    """Colors of the mouth."""


@dataclass(frozen=True)
class PriorConfig:
    """Kind and size of the network."""

    head: str = "anny"
    """Head model."""
    uv_size: Texels = 256
    """Texels a side of the map."""
    architecture: Literal["evidence", "image"] = "evidence"
    """A U-Net on the texels' evidence, on top of the lifted start; or the paper's network from picture to map, on top of a plain head."""
    lift: PhotoLiftConfig = field(default_factory=PhotoLiftConfig)
    """Lifting of the photos on which the network was trained, and of those given to it."""
    gains: ChannelGains = field(default_factory=ChannelGains)
    """Raw change of each channel for one unit of the network's output."""
    limit: ColorLimitConfig = field(default_factory=ColorLimitConfig)
    """Limits of the network's colors."""
    network: UVNetConfig = field(default_factory=UVNetConfig)
    """Sizes of the U-Net; the paper's network has none to choose."""
    picture: Pixels = 128
    """Side to which the head crop is reduced, pixels; the paper's network works on pictures of the map's size."""
