"""Train a radiance field avatar on one tracked video: first the volume, then super-resolution on top of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.avatars.nerf import NerfAvatar, NerfConfig
from deja_vu.avatars.nerf.planes import EncodedPlanes
from deja_vu.avatars.nerf.prior import load_field_prior, make_person
from deja_vu.core.batch import Batch
from deja_vu.core.errors import ConfigError
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.transfer import move
from deja_vu.heads import load_head
from deja_vu.io.frames import FrameSource, shuffle_positions
from deja_vu.training.checkpoint import video_print
from deja_vu.training.divergence import refuse_broken_frames
from deja_vu.training.field import FieldTask
from deja_vu.training.logging import RunLogger
from deja_vu.training.nerf_config import NerfPhase, NerfTrainConfig
from deja_vu.training.objective import draw_background
from deja_vu.training.trainer import StepResult, Trainer
from deja_vu.training.validation import Validation, hold_out


@torch.no_grad()
def init_nerf(sequence: TrackedSequence, config: NerfTrainConfig) -> NerfAvatar:
    """Avatar with the tracked identity; the code's components and source pictures come from training frames.

    With a prior it is what that makes of source pictures from all over the video, and has its sizes.

    Raises:
        ConfigError: the prior is of another head.
        FormatError: the prior's file is none, or damaged.
    """
    torch.manual_seed(config.seed)
    head_name, shape, wanted = sequence.info.head_name, sequence.params.shape[0], config.avatar.sources
    if config.prior is None:
        avatar = NerfAvatar(load_head(head_name), shape, config.avatar)
        avatar.fit(sequence.params)
        show_spread_sources(avatar, sequence)
        return avatar
    prior = load_field_prior(Path(config.prior))
    if prior.head.spec.name != head_name:
        raise ConfigError(
            f"{config.prior} is for head '{prior.head.spec.name}', but the video was tracked with head '{head_name}'. "
            "Track it with the prior's head, or leave the prior out."
        )
    return make_person(prior, shape, read_sources(prior, sequence, evenly_spaced(wanted, len(sequence))))


def show_spread_sources(avatar: NerfAvatar, sequence: TrackedSequence) -> None:
    """Let an encoder see frames from all over the video."""
    if isinstance(avatar.planes, EncodedPlanes):
        show_sources(avatar, sequence, torch.linspace(0, len(sequence) - 1, avatar.config.sources).round().long())


def draw_sources(count: int, wanted: int, targets: Int[Tensor, " B"], generator: torch.Generator) -> Int[Tensor, " K"]:
    """Frames that an encoder sees in a step: any but those that it must make, as the published method has it.

    Args:
        count: frames there are.
        wanted: frames to draw, each on its own.
        targets: places of the step's frames; where there are no others, these are drawn.
        generator: source of the draw.
    """
    others = torch.ones(count, dtype=torch.bool)
    others[targets.cpu()] = False
    places = others.nonzero()[:, 0] if others.any() else torch.arange(count)
    return places[torch.randint(len(places), (wanted,), generator=generator)]


@torch.no_grad()
def show_sources(avatar: NerfAvatar, sequence: TrackedSequence, positions: Int[Tensor, " K"]) -> None:
    """Let the encoder see some frames: what each shows of the head's frontal plane, before black."""
    assert isinstance(avatar.planes, EncodedPlanes)
    avatar.planes.set_sources(move(read_sources(avatar, sequence, positions), avatar.device))


def read_sources(avatar: NerfAvatar, sequence: TrackedSequence, positions: Int[Tensor, " K"]) -> Float[Tensor, "K s s 3"]:
    """Some frames of a video as an encoder takes them, see `read_photos`."""
    source = FrameSource(sequence, sequence.info.resolution, cache_bytes=0)
    return torch.cat([avatar.read_photos(source.batch(position[None])) for position in positions])


def train_nerf(
    avatar: NerfAvatar,
    sequence: TrackedSequence,
    config: NerfTrainConfig,
    run: Path,
    *,
    device: torch.device,
    resume: bool,
    started: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Run all phases; returns the seconds that this and earlier attempts took.

    Args:
        avatar: trained in place, and moved to the device.
        sequence: training frames.
        config: recipe.
        run: folder for curves and the checkpoint.
        device: where to train.
        resume: continue from the run's checkpoint.
        started: `time.monotonic()` when the work on this avatar began.
        on_step: called after every step with the number of steps done.

    Raises:
        ConfigError: a phase's pictures do not fit the super-resolution.
        DivergedError: a value is not finite.
    """
    refuse_odd_sizes(config.phases, avatar.config)
    started = time.monotonic() if started is None else started
    task = NerfTask(avatar.to(device), sequence, config)
    seconds = Trainer(task, config, run, resume=resume, started=started).fit(on_step)
    show_spread_sources(avatar, sequence)
    return seconds


class NerfTask(FieldTask[Batch]):
    """The training of one person's radiance field."""

    label = "nerf"

    def __init__(self, avatar: NerfAvatar, sequence: TrackedSequence, config: NerfTrainConfig) -> None:
        super().__init__(avatar, config)
        self.sequence, self.learned_from = sequence, video_print(sequence)
        self.trained, watched = hold_out(sequence, config.validation.share)
        self.validation = Validation(self.trained, watched, config.validation)
        avatar.code.noise = config.code_noise

    def batches(self, phase: NerfPhase, begin: int, start: int) -> Iterator[Batch]:
        """Frames in random order."""
        self.phase = phase
        order = shuffle_positions(len(self.trained), phase.batch, phase.steps, seed=self.config.seed + begin, start=start - begin)
        return FrameSource(self.trained, phase.resolution, device=self.device).stream(order)

    def compute(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        """Draw some frames over gray or white, an encoder's planes from others of them."""
        refuse_broken_frames(batch, step)
        background = move(draw_background(self.config.random_background, generator), self.device)
        if isinstance(self.avatar.planes, EncodedPlanes):
            count = self.avatar.config.sources
            show_sources(self.avatar, self.trained, draw_sources(len(self.trained), count, batch.positions, generator))
        return self.compare(batch, step, background, generator)

    def validate(self, logger: RunLogger, step: int) -> None:
        self.validation.log(logger, self.avatar, self.phase.resolution, step)


def refuse_odd_sizes(phases: Sequence[NerfPhase], avatar: NerfConfig) -> None:
    """Refuse phases whose pictures do not fit the super-resolution.

    Args:
        phases: of a training.
        avatar: sizes of what is trained.

    Raises:
        ConfigError: the published one sees whole pictures; the others need multiples of four.
    """
    for phase in phases:
        if avatar.upscale == "style" and phase.window:
            raise ConfigError("The published super-resolution sees whole pictures. Set window: 0 in every phase, or a light upscale.")
        if avatar.upscale != "style":
            refuse_odd_size(phase.resolution, phase.window)


def refuse_odd_size(resolution: int, window: int) -> None:
    """Refuse pictures that super-resolution by four cannot make.

    Raises:
        ConfigError: a side is no multiple of four.
    """
    if resolution % 4 or window % 4:
        raise ConfigError(f"Phase of {resolution} pixels, window {window}: super-resolution by four needs both to be multiples of 4.")
