"""Train a Gaussian avatar on one tracked video: one global rectification of what it begins with, then expression-aware blendmaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deja_vu.avatars import GaussianAvatar, GaussianConfig, save_avatar
from deja_vu.core.batch import Batch
from deja_vu.core.image import RenderOutput
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import FrameSource, shuffled
from deja_vu.losses.photometric import psnr
from deja_vu.training.divergence import refuse_broken, refuse_broken_frames
from deja_vu.training.logging import RunLogger
from deja_vu.training.novel_views import NovelViewConfig, NovelViewLoss
from deja_vu.training.objective import (
    ImageObjective,
    compensate,
    draw_background,
    head_window,
    is_due,
    load_perceptual,
    term_weights,
)
from deja_vu.training.optimizer import AdamConfig
from deja_vu.training.schedule import Phase
from deja_vu.training.trainer import StepResult, Task, TrainConfig, Trainer
from deja_vu.training.validation import Validation, ValidationConfig, hold_out

Init = Literal["auto", "prior", "lifted", "grey"]


@dataclass(frozen=True)
class LiftConfig:
    """How many frames are looked at before training, and how closely."""

    resolution: int = 256
    """Side of the frames from which hair height and colors are taken, pixels."""
    frames: int = 24
    """Training frames whose colors are lifted."""
    prior_frames: int = 12
    """Training frames that the prior is shown, two at a time."""
    unseen_below: float = 0.06
    """Mean squared facing cosine over the lifted frames around which a texel goes over from hardly seen to seen, in (0, 1]."""


@dataclass(frozen=True)
class GaussianPhase(Phase):
    """Its rates are in units of `deja_vu.avatars.gaussian.avatar.GAINS`."""

    batch: int = 1
    """Frames a step."""
    blendmaps: bool = False
    """Whether blendmaps and their code are trained; else the global map alone."""
    perceptual_every: int = 4
    """Steps from one perceptual term to the next; its weight is multiplied accordingly. 0 leaves it out."""


@dataclass(frozen=True)
class GaussianRates:
    """Learning rate of every parameter group over that of the phase."""

    rectification: float = 1.0
    """Of the global map."""
    blendmaps: float = 0.1
    """Of the blendmaps: sixteen of them move together."""
    code: float = 0.1
    """Of the blend code."""
    correction: float = 0.2
    """Of the correction of tracked parameters."""


@dataclass(frozen=True)
class GaussianRegularizers:
    """Weight of every term beside the picture's; 0 leaves a term out."""

    position: float = 0.007
    """Squared position rectification, where skin must hold."""
    scale: float = 0.01
    """Squared log-scale rectification."""
    opacity: float = 0.0005
    """Squared opacity rectification."""
    unseen: float = 0.01
    """Squared rectification of texels that the training frames hardly show."""
    novel_views: float = 1.0
    """Distance to the base map in views that no frame shows."""
    blendmaps: float = 1.0
    """Squared blendmaps."""
    correction: float = 0.0001
    """Squared weights of the correction of tracked parameters."""


@dataclass(frozen=True, kw_only=True)
class GaussianTrainConfig(TrainConfig):
    """How a Gaussian avatar is trained."""

    avatar: GaussianConfig = field(default_factory=GaussianConfig)
    init: Init = "auto"
    """What training begins with: colors and hair lifted from training frames and corrected by the prior, only lifted, or a bald grey
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
    """Views from the side, which hold what no frame shows."""
    learning_rates: GaussianRates = field(default_factory=GaussianRates)
    adam: AdamConfig = field(default_factory=lambda: AdamConfig(eps=5e-8))
    """Its epsilon lies between the gradients of texels that are seen (1e-6) and of those that are not (3e-8): without it, Adam would move
    unseen texels as fast as seen ones, at random."""
    code_noise: float = 0.2
    """Deviation of the noise added to the blend code's coordinates in training."""
    rare_share: float = 0.2
    """Share of the training frames, those with the rarest pose and expression, that are shown three times as often: blinks are few."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    picture_every: int = 200
    """Steps between pictures, scores of the frames that are only watched, and checkpoints."""


def train_gaussian(
    avatar: GaussianAvatar,
    sequence: TrackedSequence,
    config: GaussianTrainConfig,
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
        run: folder for curves, checkpoint and the snapshot of the global map.
        device: where to train.
        resume: continue from the run's checkpoint.
        started: `time.monotonic()` when the work on this avatar began.
        on_step: called after every step with the number of steps done.

    Raises:
        DivergedError: a value is not finite.
    """
    started = time.monotonic() if started is None else started
    task = GaussianTask(avatar.to(device), sequence, config, run)
    return Trainer(task, config, run, resume=resume, started=started).fit(on_step)


class GaussianTask(Task[GaussianPhase, Batch]):
    """The training of one Gaussian avatar."""

    label = "gaussian"

    def __init__(self, avatar: GaussianAvatar, sequence: TrackedSequence, config: GaussianTrainConfig, run: Path) -> None:
        self.model = self.avatar = avatar
        self.config, self.run, self.device = config, run, avatar.base.device
        self.rates = config.learning_rates
        self.trained, watched = hold_out(sequence, config.validation.share)
        self.validation = Validation(self.trained, watched, config.validation)
        self.objective = ImageObjective(config.loss, load_perceptual([config.loss.perceptual], config.phases, self.device))
        self.weights = term_weights(config.loss, config.regularizers)
        avatar.code.noise = config.code_noise

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return self.avatar.param_groups()

    def batches(self, phase: GaussianPhase, begin: int, start: int) -> Iterator[Batch]:
        """Frames in random order, the rare ones more often; in the first stage, only the global map is trained."""
        self.phase = phase
        for name, parameters in self.avatar.param_groups().items():
            for parameter in parameters:
                parameter.requires_grad_(phase.blendmaps or name == "rectification")
                parameter.grad = None
        params = self.trained.params
        rare = self.avatar.code.rarity(params.to(self.device)).cpu().topk(round(self.config.rare_share * len(params))).indices
        order = shuffled(len(params), phase.batch, phase.steps, seed=self.config.seed + begin, start=start - begin, again=rare)
        self.novel_views = NovelViewLoss(self.avatar, params, self.config.novel_views)
        return FrameSource(self.trained, phase.resolution).stream(order)

    def compute(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        """Render some frames over grey or white; compare them, and hold the maps and what no frame shows to the base map."""
        config, avatar = self.config, self.avatar
        refuse_broken_frames(batch, step)
        batch, background = batch.to(self.device), draw_background(config.random_background, generator).to(self.device)
        out = self.render(batch, background, step)
        perceptual = is_due(self.phase.perceptual_every, step)
        window = head_window(batch.head, config.perceptual_window, generator) if perceptual else None
        terms = self.objective.terms(out, batch, background, window=window)
        terms |= {name: value for name, value in avatar.regularizers().items() if self.weights[name]}
        if self.weights["novel_views"] and is_due(config.novel_views.every, step - 1):
            terms["novel_views"] = self.novel_views(avatar, batch.params, batch.camera, generator)
        weights = compensate(self.weights, {"perceptual": self.phase.perceptual_every, "novel_views": config.novel_views.every})
        return StepResult(terms, weights, psnr(out, batch, background).mean(), len(batch.positions))

    def render(self, batch: Batch, background: Float[Tensor, "3"], step: int) -> RenderOutput:
        """Render a batch; what is no longer finite, and so cannot be drawn, stops the run by its name.

        Raises:
            DivergedError: the avatar's parameters, or the Gaussians that follow from them, are not finite.
        """
        try:
            return self.avatar.render(batch.params, batch.camera, background)
        except ValueError:
            gaussians = self.avatar.gaussians(batch.params)
            tensors = {f"avatar's {name}": value for name, value in self.avatar.named_parameters()}
            tensors |= {f"Gaussians' {part.name}": getattr(gaussians, part.name) for part in fields(gaussians)}
            refuse_broken(tensors, batch, step)
            raise

    def validate(self, logger: RunLogger, step: int) -> None:
        self.validation.log(logger, self.avatar, self.phase.resolution, step)

    def leave(self, phase: GaussianPhase, number: int) -> None:
        """Keep the global map as it is before blendmaps join it."""
        if not phase.blendmaps and number < len(self.config.phases):
            save_avatar(self.avatar, self.run / "global_only.safetensors", {"phase": str(number)})
