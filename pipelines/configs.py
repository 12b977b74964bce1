"""Settings of the commands, separate from the code so that the command line need not load it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from deja_vu.avatars.nerf.config import NerfConfig
from deja_vu.core.ranges import BatchSize, Count, Frames, Pixels, Positive, Range, Share, Texels
from deja_vu.datasets.config import PriorSamplerConfig
from deja_vu.motion.config import OneEuroConfig, RetargetConfig, TorsoMode
from deja_vu.pipelines.flags import FLAT
from deja_vu.tracking.config import PhotoConfig
from deja_vu.training.config import AdamConfig
from deja_vu.training.gaussian_config import BustConfig, LiftConfig
from deja_vu.training.nerf_config import NerfPhase, NerfRates, NerfRegularizers, NerfTrainConfig
from deja_vu.training.prior_config import PriorTrainConfig

STAGE = "generalize"
"""Name of the stage, of its command and of the folder of its recipes."""

Format = Literal["ply", "spz", "gltf", "npz", "web"]
"""Formats of exported avatars."""
TRUTH_SUFFIX = ".truth.safetensors"
"""Of the file beside a sample video that says what is known about it."""


@dataclass(frozen=True)
class DriveConfig:
    """How a motion is retargeted and shown."""

    retarget: Annotated[RetargetConfig, FLAT] = field(default_factory=RetargetConfig)
    smooth: Literal["auto", "on", "off"] = "auto"
    """One-euro smoothing; auto smooths what comes from a camera or a phone only, as tracked videos are smooth."""
    filter: OneEuroConfig = field(default_factory=OneEuroConfig)
    neutral_at: Annotated[float, Range(0)] | None = None
    """Moment at which the mover's face is at rest, seconds from the start; by default one is found."""
    fit: bool = False
    """The motion shows the avatar's own person: fit expression, jaw and eyes of every frame to its pixels through the avatar, about a third
    of a second each."""
    read: bool = False
    """The same by what the avatar has learned to read from a picture, tens of times faster; also with a camera."""
    background: str | None = None
    """A color (name or RRGGBB) or a picture; without it WebM and picture folders are transparent, and all else is white."""
    size: tuple[Pixels, ...] | None = None
    """Side of the pictures, or width and height, pixels; by default those of the tracked video."""
    fps: Annotated[float, Range(1, 240)] | None = None
    """Frames a second, for which frames of the motion are repeated or left out; by default as in the motion."""
    frames: Positive | None = None
    """Stop after so many frames."""
    sound: Literal["keep", "none"] = "keep"
    """Whether the sound of a driving video is kept."""

    def misfit(self) -> str:
        """What does not go together, if anything."""
        if self.size is not None and len(self.size) not in (1, 2):
            return f"--size takes a side (512), or width and height (640 360), not {len(self.size)} numbers."
        if self.fit and self.read:
            return "--fit and --read are two ways to the same: give one of them."
        if (self.fit or self.read) and self.neutral_at is not None:
            return "--neutral-at is for other people's motion; with --fit or --read the neutral face is the avatar's own. Leave one out."
        return ""


@dataclass(frozen=True)
class ExportConfig:
    """What of an avatar is written."""

    motion: str | None = None
    """What sets the pose: a video, a folder that `deja-vu track` made, an ARKit capture (.csv) or an expression script (.yaml); the person
    at rest without it. The page can play it beside a turntable and the first seconds of the person's own video."""
    frame: Count | None = None
    """Write this frame of the motion alone, counted from 0."""
    torso: TorsoMode = "still"
    """What a whole person's torso does in the motion: still stays as far as the neck reaches, follow goes a part of the head's way and
    late, source does as the mover's own."""
    webcam: Path | None = None
    """Folder of the npm package @mediapipe/tasks-vision, to let the page follow the user's face (web; adds 9 MB)."""

    @property
    def inputs(self) -> list[Path]:
        """Files and folders that are read besides the run."""
        return [Path(given) for given in (self.motion, self.webcam) if given is not None]


@dataclass(frozen=True)
class ReconstructConfig:
    """Recipe of a reconstruction."""

    path: Literal["gaussian", "nerf"] = "gaussian"
    """Kind of avatar: Gaussians, or a radiance field of the head, for which --prior names a network."""
    init: Literal["prior", "lifted"] = "prior"
    """Correct the lifted head by the prior, the network that was trained on many people, or leave it as it is."""
    prior: str | None = None
    """File of another network than the one that ships, from `deja-vu generalize`; none ships for radiance fields."""
    head: str = "anny"
    """Head model."""
    uv_size: Texels = 256
    """Texels a side of the map; the network's own where one is used."""
    photo: PhotoConfig = field(default_factory=PhotoConfig)
    likeness: Share = 0.7
    """Least correlation of the brightness of two photos' faces, brought into one shape, at which they are taken for one person's: those of
    eight people in one light reached 0.82 to 0.98, of different people 0.18 to 0.83. 0 takes any."""
    crop: Literal["person", "head"] = "person"
    """What the avatar shows: head, neck, shoulders and clothes as far as the photo does, or the head alone."""
    bust: BustConfig = field(default_factory=BustConfig)
    lift: LiftConfig = field(default_factory=LiftConfig)
    """Lifting of neck and torso; the head's belongs to the network."""
    side: Pixels = 256
    """Side of the pictures from which head and torso are lifted, pixels."""
    turntable_frames: Annotated[int, Range(0, 100_000)] = 48
    """Length of the turntable video; 0 leaves it out."""
    turntable_side: Pixels = 320
    """Side of the turntable's pictures, pixels."""


@dataclass(frozen=True)
class SetRule:
    """Who the photos of a set show, and which people are held out."""

    match: str
    """Regular expression that a photo's path below the data folder must match as a whole."""
    identity: str = r"\g<0>"
    """Whom it shows, with the groups of `match` filled in; photos of one identity stay together."""
    test: str | None = None
    """Regular expression of held-out identities; by default a fixed tenth, by the identity's digest."""


@dataclass(frozen=True)
class PrepareConfig:
    """Recipe of the preparation."""

    head: str = "anny"
    """Head model."""
    photo: PhotoConfig = field(default_factory=PhotoConfig)
    sets: tuple[SetRule, ...] = ()
    """The first rule that matches a photo counts; without one, every photo is a person of its own."""
    test_share: Share = 0.1
    """Share of the identities that are held out where no rule says which."""
    each: Count = 0
    """Most photos of one identity, evenly spread over the order of their names; 0 for all."""
    made_up: Annotated[int, Range(0, 1_000_000)] = 0
    """Made-up people that are added; their odd tenths are held out like anybody's."""
    made_up_frames: BatchSize = 6
    """Portraits of each of them, in different poses and expressions."""
    clip_frames: Frames = 24
    """Portraits of each tracked video, spread over it."""
    per_shard: BatchSize = 32
    """Sources a shard; an interrupt loses the shard at hand."""


@dataclass(frozen=True)
class ImportConfig:
    """How a data set of others is brought into this project's layout."""

    head: Literal["flame2020", "flame2023"] | None = None
    """Version of FLAME that its parameters are for; by default the usual one of its kind."""
    camera: Count | None = None
    """Which of several cameras (vhap), by its number."""
    resolution: Pixels = 512
    """Side of the stored pictures at most, pixels."""
    fps: Annotated[float, Range(1, 240)] = 25.0
    """Frames a second, which most data sets do not say."""
    test_frames: Count = 0
    """Last frames that are kept for test, as papers do: 350 of INSTA's clips. 0 takes the data set's own, or the last `test_share`."""
    test_share: Share = 0.2
    """Share of the frames, the last ones, that are kept for test where nothing else says which."""
    photos: PrepareConfig = field(default_factory=PrepareConfig)
    """Of collections of photos (ffhq, vfhq): as `deja-vu prepare` has it."""


FIELD = NerfTrainConfig(
    avatar=NerfConfig(
        planes="encoded",
        plane_size=64,
        encoder_size=256,
        encoder_width=0.125,
        sources=1,
        rectify="surface",
        picture=True,
        code=0,
        coarse=12,
        fine=12,
        features=12,
    ),
    phases=(
        NerfPhase(steps=200, resolution=128, learning_rate=0.0015, final_rate=0.7, batch=2, enlarge=False, perceptual_every=0),
        NerfPhase(steps=900, resolution=128, learning_rate=0.001, final_rate=0.4, batch=2, perceptual_every=4),
        NerfPhase(steps=300, resolution=256, learning_rate=0.0006, final_rate=0.15, batch=2, window=128, perceptual_every=4),
    ),
    regularizers=NerfRegularizers(planes=0.0),
    learning_rates=NerfRates(planes=0.5, points=1.0),  # at twice the rates above, and these at one and two, all became transparent
    adam=AdamConfig(eps=1e-8),
    perceptual_window=128,
)
"""A field for many people that one core trains in half an hour; `full` has the published one."""


@dataclass(frozen=True, kw_only=True)
class GeneralizeConfig(PriorTrainConfig):
    """Recipe of the stage: whose photos, how they are varied, and how the prior is trained on them."""

    path: Literal["gaussian", "nerf"] = "gaussian"
    """What the prior makes of photos: the correction of a lifted Gaussian head, or the planes of a radiance field."""
    nerf: NerfTrainConfig = field(default_factory=lambda: FIELD)
    """Training of the radiance field, where it is one."""
    watched_share: Share = 0.05
    """Share of the people of the training who are only watched: the state that does best on them is kept. 0 keeps the last one."""
    watched_people: Annotated[int, Range(1, 1000)] = 24
    """Most of them who are looked at each time."""
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    people: PriorSamplerConfig = field(default_factory=PriorSamplerConfig)
    photo_counts: tuple[Share, ...] = (0.7, 0.2, 0.1)
    """Shares of the steps with one, two, three ... photos of each person."""
    apart: Share = 0.5
    """Share of the steps with several photos in which each photo makes a map of its own, and the maps should agree."""
    loaders: Annotated[int, Range(1, 256)] = 1
    """Threads that draw examples ahead of the step that needs them."""
    grid_people: Annotated[int, Range(1, 64)] = 6
    """Watched people of whom pictures are made."""
