"""Settings of the training of a Gaussian avatar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deja_vu.avatars.gaussian.config import GaussianConfig, ReaderConfig
from deja_vu.core.ranges import BatchSize, Count, Pixels, Positive, Range, Rate, Share, Texels, Weight
from deja_vu.training.config import AdamConfig, Phase, TrainConfig, ValidationConfig
from deja_vu.uv.config import HullConfig, RimConfig, StrandConfig

Init = Literal["auto", "prior", "lifted", "gray"]


@dataclass(frozen=True)
class LiftConfig:
    """How colors and hair are lifted from frames before training."""

    resolution: Pixels = 256
    """Side of the frames from which hair height and colors are taken, pixels."""
    frames: Positive = 24
    """Training frames whose colors are lifted."""
    hull: HullConfig = field(default_factory=HullConfig)
    """Height of the crown's hair."""
    rim: RimConfig = field(default_factory=RimConfig)
    """Height of the hair."""
    visible_deviations: Weight = 1.5
    """Deviations from its center up to which a Gaussian of a dense surface is visible, by which a hull of centers would be too large."""
    crown_from: Annotated[float, Range(-1, 1)] = 0.5
    """Vertical component of a direction from the middle of the scalp above which hair begins to fill the visual hull."""
    crown_to: Annotated[float, Range(-1, 1)] = 0.7
    """The same above which it fills the hull completely."""
    hull_from: Annotated[float, Range(-1, 1)] = -0.6
    """Largest cosine between normal and direction to the camera in the lifted frames below which it does so less and less, because the
    hull of small turns is a box."""
    hull_to: Annotated[float, Range(-1, 1)] = -0.85
    """The same below which it does not."""
    crown_angle: Rate = 0.14
    """Angle over which the crown is rounded where no outline shows it, radians."""
    min_trust: Share = 0.1
    """Squared cosine between normal and view above which a texel's color is taken; at the rim, the background shines through."""
    prior_frames: Positive = 12
    """Training frames given to the prior, two at a time."""
    averted_from: Annotated[float, Range(-1, 1)] = -0.6
    """Largest cosine between normal and direction to the camera in the lifted frames below which hair, being turned away from all of them,
    is held more and more firmly to the base map."""
    averted_to: Annotated[float, Range(-1, 1)] = -0.85
    """The same below which it is held completely."""
    color_averted_from: Annotated[float, Range(-1, 1)] = -0.25
    """As `averted_from`, for the hair's color, which frames blend with the background."""
    color_averted_to: Annotated[float, Range(-1, 1)] = -0.5
    """As `averted_to`, for the hair's color."""
    mouth_unseen: Share = 0.9
    """Value of `unseen` above which a place in the mouth is held to the base map."""
    unseen_below: Rate = 0.06
    """Mean squared facing cosine over the lifted frames around which a texel changes from hardly seen to seen, in (0, 1]."""
    hidden_below: Rate = 0.1
    """Pixels of the lifted frames that a Gaussian covers, over what one that faces the camera does, around which it goes over from hidden
    to shown, however it is turned."""
    example_unseen: Share = 0.2
    """Value of `unseen` below which a texel of hair may pass its color on to hair that no frame shows."""
    strands: StrandConfig = field(default_factory=StrandConfig)
    """Colors of such hair."""


@dataclass(frozen=True)
class NovelViewConfig:
    """Views that no frame shows, in which the avatar is compared with its base map."""

    every: Count = 4
    """Steps from one novel view to the next; the term's weight is multiplied accordingly. 0 leaves them out."""
    resolution: Pixels = 192
    """Side of the pictures, pixels."""
    min_yaw: Weight = 0.25
    """Least turn away from a frame's pose about the head's own upright axis, radians."""
    max_yaw: Weight = 0.9
    """Largest such turn, radians."""
    random_expression_share: Share = 0.15
    """Share of the expressions that are drawn at random instead of taken from a frame."""
    max_expression: Weight = 1.2
    """Largest value of such an expression."""
    huber_threshold: Rate = 0.1
    """Difference at which the Huber distance changes from quadratic to linear."""


@dataclass(frozen=True)
class BustConfig:
    """Map of neck, torso and clothes."""

    size: Texels = 192
    """Texels a side."""
    hull: HullConfig = field(default_factory=lambda: HullConfig(min_height=-0.02, max_height=0.09, steps=34))
    """Heights at which clothes and hair beside the neck may end."""
    outline_cosine: Share = 0.4
    """Cosine between normal and view below which a texel lies on the outline, which then says how high it is."""
    contour_step: Rate = 0.008
    """Height above usual clothing at which a texel of the outline is seen beside the bare surface, meters."""
    outline_reach: Rate = 0.03
    """Distance from the outline over which its correction of the height fades away, meters."""
    outline_texels: Rate = 4.0
    """Texels of the outline that a correction takes to count in full."""
    beside_cosine: Share = 0.8
    """Cosine between normal and sideways from which on a texel of the neck lies at its side."""
    behind_cosine: Share = 0.5
    """Cosine between normal and backwards from which on one lies wholly behind, where it stands off as both sides do."""
    neck_levels: Count = 16
    """Levels of the neck at which it is found out how far they do."""
    shape_deviation: Rate = 0.006
    """Deviation of the torso's tracked surface where it was filmed, meters: so far its shape may go back to a usual one."""
    shape_patches: Rate = 10.0
    """Parts of that surface whose deviations differ."""
    shape_cosine: Share = 0.15
    """Least cosine between normal and direction to the camera at which it counts as filmed, below zero: outlines are measured best."""
    cut_reach: Rate = 0.2
    """Distance over which heights go on beyond the border of the picture, meters."""
    widening: Weight = 0.1
    """Most by which what stands beside a bare neck may widen downwards, over the way down: hair hangs, and a shoulder is not hair."""
    widening_band: Rate = 0.01
    """Height of the bands that are compared for it, meters."""
    known_weight: Rate = 0.1
    """Mean squared facing cosine over the lifted frames from which a texel's color is taken as it is."""
    seen_face: Share = 0.2
    """Most that texels of the face may be unseen to give their color to the neck."""
    alike: Share = 0.15
    """Mean difference from the color of face or hair up to which a texel of the nape is taken for skin or hair, in [0, 1]."""
    border_voters: Positive = 64
    """Nearest texels of which most decide whether one belongs to the nape or to the back."""
    bare_share: Share = 0.5
    """Part of the shoulders' known texels that must look like skin for the back to be bare too."""
    upward_cosine: Share = 0.5
    """Cosine between normal and upwards from which on texels of the torso are the shoulders'."""
    collar_cosine: Share = 0.7
    """Cosine between normal and sideways from which on texels of the neck tell where a collar ends."""
    collar_texels: Count = 20
    """Known ones on either side that it takes."""
    less_red: Share = 0.03
    """Most by which the share of red in a color may be below the face's for a head's own neck to take it."""
    mirror_share: Share = 0.02
    """Weight of the mirror image's color beside the texel's own."""
    facing_distance: Weight = 0.1
    """Distance in space that counts as much as a difference of one between normals: a back is nearer to shoulders than to a chest."""
    hair_height: Rate = 0.01
    """Height over a bare nape above which what stands there is hair, meters."""
    side_cosine: Share = 0.5
    """Cosine between normal and forwards up to which what is seen may go on behind: not what closes before the throat."""
    hair_tips: Rate = 0.025
    """Length of the longest tips of hair on a nape that no frame shows, meters."""
    strand_width: Rate = 0.0025
    """Width of one, meters."""
    collar_width: Rate = 0.03
    """Distance below the nape over which clothes go over from what is seen at their height to what is seen nearest to them, meters."""
    around_neck: Share = 0.3
    """Distance round the neck, of which this share counts: at the back a collar ends where it does at the sides."""
    neighbors: Positive = 48
    """Known texels over which a texel that no frame shows takes its mean color."""
    held_from: Share = 0.8
    """Unseen share from which on a texel is held more and more firmly to the base map."""
    filmed_share: Share = 0.05
    """Share of the lifted frames in which a texel must lie in the picture to count as filmed."""
    empty_share: Share = 0.5
    """Share of the pictures in which a texel lies that show nobody there, from which on it was cut away."""
    empty_part: Share = 0.06
    """Part of the filmed front that must be cut away for a film to have no shoulders; less is a pose that is a little wrong."""
    empty_reach: Share = 0.03
    """Distance from the person within which a picture is not taken for empty, sides of the picture."""
    edge: Rate = 0.03
    """Distance below what was filmed at which the bust has faded away, meters."""
    longer_back: Weight = 0.025
    """Height by which the back ends lower than the chest, meters."""
    edge_middle: Rate = 0.08
    """Distance from the middle up to which texels say how far down the film shows the person, meters."""
    edge_quantile: Share = 0.01
    """Share of these that may lie below the edge."""
    least_opacity: Rate = 0.002
    """Opacity that is left there; below a 255th nothing is drawn."""


@dataclass(frozen=True)
class PersonViewConfig:
    """Training on the window with neck and torso."""

    every: Count = 4
    """Steps from one frame of that window to the next; the term's weight is multiplied accordingly. 0 leaves them out."""
    resolution: Pixels = 384
    """Largest side of its pictures, pixels."""


@dataclass(frozen=True)
class GaussianPhase(Phase):
    """A phase; its rates are in units of the avatar's gains."""

    batch: BatchSize = 1
    """Frames a step."""
    blendmaps: bool = False
    """Whether blendmaps and their code are trained; else only the global map."""
    perceptual_every: Count = 4
    """Steps from one perceptual term to the next; its weight is multiplied accordingly. 0 leaves it out."""
    perceptual_from: Count = 0
    """Steps of the phase before the first perceptual term."""


@dataclass(frozen=True)
class GaussianRates:
    """Learning rate of every parameter group, relative to that of the phase."""

    rectification: Weight = 1.0
    """Of the global map."""
    blendmaps: Weight = 0.1
    """Of the blendmaps: sixteen of them move together."""
    code: Weight = 0.1
    """Of the blend code."""
    correction: Weight = 0.2
    """Of the correction of tracked parameters."""


@dataclass(frozen=True)
class UnseenRanges:
    """Most that the global rectification changes where no training frame shows the person; elsewhere the more, the better it is seen."""

    way: Rate = 0.004
    """Of skin along each axis, meters."""
    stretch: Rate = 0.5
    """Of its widths, natural logarithm."""
    color: Rate = 0.12
    """Of colors, in [0, 1]."""
    hue: Rate = 0.03
    """Of the difference of a channel of these from their mean, in [0, 1]."""


@dataclass(frozen=True)
class GaussianRegularizers:
    """Weights of all terms that are not of the picture; 0 leaves a term out."""

    position: Weight = 0.007
    """Squared position rectification of skin."""
    scale: Weight = 0.01
    """Squared log-scale rectification."""
    opacity: Weight = 0.0005
    """Squared opacity rectification."""
    unseen: Weight = 0.01
    """Squared rectification of texels that the training frames hardly show."""
    novel_views: Weight = 1.0
    """Distance to the base map in views that no frame shows."""
    person: Weight = 1.0
    """The picture's terms in the window that holds neck and torso; only where the avatar shows them."""
    blendmaps: Weight = 1.0
    """Squared blendmaps."""
    correction: Weight = 0.0001
    """Squared weights of the correction of tracked parameters."""
    position_norm: Weight = 0.0
    """As published: mean norm of the pose's whole position rectification over the square map, in units of its gain, ten times the face's
    and a tenth of the scalp's."""
    scale_norm: Weight = 0.0
    """As published: the same of the log-scale's."""
    features: Weight = 0.0
    """As published: Huber distance on brows, eyes, nose and mouth alone, averaged over the whole picture, while blendmaps are trained."""


@dataclass(frozen=True, kw_only=True)
class GaussianTrainConfig(TrainConfig):
    """How a Gaussian avatar is trained."""

    avatar: GaussianConfig = field(default_factory=GaussianConfig)
    crop: Literal["person", "head"] = "person"
    """What the avatar shows: head, neck, shoulders and clothes as far as they were filmed, or the head alone."""
    bust: BustConfig = field(default_factory=BustConfig)
    init: Init = "auto"
    """What training starts from: colors and hair lifted from training frames and corrected by the prior, only lifted, or a bald gray
    head. auto takes the prior if it was trained for this head, map size and axes, else what is lifted, and says which."""
    prior: str | None = None
    """File of another prior than the one that ships, from `deja-vu generalize`."""
    lift: LiftConfig = field(default_factory=LiftConfig)
    phases: tuple[GaussianPhase, ...] = (
        GaussianPhase(steps=150, resolution=256, learning_rate=0.02, final_rate=0.4, perceptual_every=0),
        GaussianPhase(steps=300, resolution=256, learning_rate=0.01, final_rate=0.8, perceptual_every=0, blendmaps=True),
        GaussianPhase(steps=350, resolution=384, learning_rate=0.008, final_rate=0.5, blendmaps=True),
        GaussianPhase(steps=700, resolution=512, learning_rate=0.004, final_rate=0.1, blendmaps=True),
    )
    """Stage 1 (the global map), then stage 2 (blendmaps on top of it) from coarse to fine."""
    regularizers: GaussianRegularizers = field(default_factory=GaussianRegularizers)
    novel_views: NovelViewConfig = field(default_factory=NovelViewConfig)
    """Views from the side, which keep what no frame shows close to the base map."""
    person_views: PersonViewConfig = field(default_factory=PersonViewConfig)
    """Frames of the window that holds neck and torso."""
    learning_rates: GaussianRates = field(default_factory=GaussianRates)
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(eps=5e-8))
    """Its epsilon lies between the gradients of texels that are seen (1e-6) and of those that are not (3e-8): without it, Adam would move
    unseen texels as fast as seen ones, at random."""
    code_noise: Weight = 0.2
    """Deviation of the noise added to the blend code's coordinates in training."""
    hair_reach: Rate = 0.008
    """Largest change by training of the hair's height given by silhouettes, meters."""
    cloth_width: Rate = 0.01
    """Largest deviation of a Gaussian of neck, torso and clothes, meters; at the picture's border it would reach far beyond."""
    unseen_ranges: UnseenRanges = field(default_factory=UnseenRanges)
    """Largest changes by training where frames hardly show the person."""
    held_decay: Share = 0.2
    """Share of the global rectification that decays in every step where it is held to the base map."""
    global_map: Literal["trained", "folded"] = "trained"
    """What happens to the global map when blendmaps are added: it is trained further, with blendmaps that start at zero; or, as published,
    every blendmap starts as a copy of it and replaces it, which needs weights that sum to one."""
    fixed_mouth: bool = False
    """As published: the inside of the mouth stays where the head model has it."""
    targets: Literal["matte", "cut"] = "matte"
    """What pictures are compared with: the head by its matte over any background, where neck and torso hardly count; or, as published, the
    head cut out by a hard mask over white, where every pixel counts."""
    rare_share: Share = 0.2
    """Share of the training frames, those with the rarest pose and expression, that are used three times as often: blinks are rare."""
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    """How the avatar's reader is trained at the end; only with tangent axes."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    picture_every: Positive = 200
    """Steps between pictures, validation scores and checkpoints; each phase ends with all three."""

    def misfit(self) -> str:
        """What does not go together, if anything."""
        if empty := super().misfit():
            return empty
        fine = self.avatar.blend_size == self.avatar.uv_size and (self.crop == "head" or self.avatar.axes == "head")
        if (self.global_map == "folded" or self.fixed_mouth) and self.avatar.blendmaps and not fine:
            return (
                "global_map: folded and fixed_mouth need a head's map alone, with blendmaps as fine. Expected crop: head and "
                f"avatar.blend_size {self.avatar.uv_size}."
            )
        if self.global_map == "folded" and self.avatar.blendmaps and self.avatar.code == "linear":
            return "global_map: folded needs weights that sum to one. Expected avatar.code: softmax, components or network."
        return ""
