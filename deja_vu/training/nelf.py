"""Train a light field avatar on one tracked video and on frames drawn by a teacher."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.avatars import Avatar
from deja_vu.avatars.nelf import NelfAvatar, WarpField
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.transfer import move
from deja_vu.heads import load_head
from deja_vu.io.frames import FrameSource, shuffle_positions
from deja_vu.losses.photometric import absolute_difference, s3im_loss
from deja_vu.losses.picture import psnr
from deja_vu.training.checkpoint import video_print
from deja_vu.training.distill import render_teacher, sample_params
from deja_vu.training.divergence import refuse_broken_frames
from deja_vu.training.logging import RunLogger
from deja_vu.training.nelf_config import NelfPhase, NelfTrainConfig
from deja_vu.training.nerf import refuse_odd_size
from deja_vu.training.objective import ImageObjective, compensate, draw_background, head_window, is_due, load_perceptual, term_weights
from deja_vu.training.trainer import StepResult, Task, Trainer
from deja_vu.training.validation import Validation, hold_out


def init_nelf(sequence: TrackedSequence, config: NelfTrainConfig) -> NelfAvatar:
    """Avatar with the tracked identity and the training frames' range of codes."""
    torch.manual_seed(config.seed)
    avatar = NelfAvatar(load_head(sequence.info.head_name), sequence.params.shape[0], config.avatar)
    avatar.fit(sequence.params)
    return avatar


def train_nelf(
    avatar: NelfAvatar,
    sequence: TrackedSequence,
    config: NelfTrainConfig,
    teacher: Avatar | None,
    run: Path,
    *,
    device: torch.device,
    resume: bool,
    started: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> tuple[float, WarpField | None]:
    """Run all phases; returns the seconds that this and earlier attempts took, and what is trained beside the avatar and left behind.

    Args:
        avatar: trained in place, and moved to the device.
        sequence: real training frames.
        config: recipe.
        teacher: draws the other frames, and is moved to the device; None where there are none.
        run: folder for curves and the checkpoint.
        device: where to train.
        resume: continue from the run's checkpoint.
        started: `time.monotonic()` when the work on this avatar began.
        on_step: called after every step with the number of steps done.

    Raises:
        ConfigError: frames of a teacher are asked for and there is none, or a phase does not fit super-resolution.
        DivergedError: a value is not finite.
    """
    refuse_misfits(config, teacher)
    started = time.monotonic() if started is None else started
    task = NelfTask(avatar.to(device), sequence, config, teacher)
    return Trainer(task, config, run, resume=resume, started=started).fit(on_step), task.warp


class NelfTask(Task[NelfPhase, Batch]):
    """The training of one light field."""

    label = "nelf"

    def __init__(self, avatar: NelfAvatar, sequence: TrackedSequence, config: NelfTrainConfig, teacher: Avatar | None) -> None:
        self.avatar, self.config, self.device = avatar, config, avatar.shape.device
        self.teacher = None if teacher is None else teacher.to(self.device)
        self.trained, watched = hold_out(sequence, config.validation.share)
        self.validation = Validation(self.trained, watched, config.validation)
        torch.manual_seed(config.seed)
        self.warp: WarpField | None = None
        if config.avatar.warp != "none":
            self.warp = WarpField(config.avatar, len(self.trained), avatar.code_size).to(self.device)
        self.model = avatar if self.warp is None else nn.ModuleList([avatar, self.warp])
        self.learned_from = video_print(sequence)
        self.rates = config.learning_rates
        loss = config.loss if config.avatar.coverage else replace(config.loss, alpha=0.0)
        self.objective = ImageObjective(loss, load_perceptual([loss.perceptual], config.phases, self.device))
        self.weights = term_weights(loss, config.regularizers)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.avatar.param_groups()
        return groups if self.warp is None else {**groups, "warp": list(self.warp.parameters())}

    def batches(self, phase: NelfPhase, begin: int, start: int) -> Iterator[Batch]:
        """Real frames in random order."""
        self.phase = phase
        order = shuffle_positions(len(self.trained), phase.batch, phase.steps, seed=self.config.seed + begin, start=start - begin)
        return FrameSource(self.trained, phase.resolution, device=self.device).stream(order)

    def compute(self, batch: Batch, step: int, generator: torch.Generator) -> StepResult:
        """Draw a window of real or of a teacher's frames over gray or white; compare pictures before and after super-resolution."""
        config, avatar, phase, weights = self.config, self.avatar, self.phase, self.weights
        refuse_broken_frames(batch, step)
        background = move(draw_background(config.random_background, generator), self.device)
        params, batch = batch.params, batch.to(self.device)  # the parameters still on the host
        if phase.window:
            batch = batch.crop(*head_window(batch.head, phase.window, generator))
        batch, params, rows = self.pick_batch(batch, params, generator)
        if not config.avatar.coverage:
            background = torch.ones_like(background)
        out = avatar.render_all(batch.params, batch.camera, background, self.warp, rows)
        window = head_window(batch.head, config.perceptual_window, generator) if is_due(phase.perceptual_every, step) else None
        terms = self.objective.terms(out.full, batch, background, window=window)
        if weights["rays"] and config.avatar.residual:
            small = batch.resize(out.rays.rgb.shape[2], out.rays.rgb.shape[1])
            terms["rays"] = absolute_difference(out.rays, small, background, config.loss.neck)
        if weights["temporal"]:
            other = sample_params(self.trained.params, params, config.law, generator)
            terms["temporal"] = self.temporal(out.full.rgb, batch, background, other.to(self.device))
        if weights["neighbors"]:
            terms["neighbors"] = self.compare_neighbors(batch.positions, batch.camera, background)
        if weights["s3im"]:
            terms["s3im"] = s3im_loss(out.full.rgb, self.objective.target(batch, background))
        if weights["latents"] and self.warp is not None:
            terms["latents"] = self.warp.latents[move(rows, self.device)].square().mean()
        scaled = compensate(weights, {"perceptual": phase.perceptual_every})
        return StepResult(terms, scaled, psnr(out.full, batch, background).mean(), len(batch.positions))

    def pick_batch(self, batch: Batch, params: HeadParams, generator: torch.Generator) -> tuple[Batch, HeadParams, Int[Tensor, " B"]]:
        """The step's frames, or the teacher's in their place.

        Args:
            batch: tracked frames.
            params: theirs, on the host.
            generator: of the draws.

        Returns:
            The frames where `batch` is; on the host their parameters, and the rows of the warping field's latents, 0 for no warp.
        """
        config = self.config
        if torch.rand((), generator=generator) < config.pseudo_share:
            assert self.teacher is not None
            params = sample_params(self.trained.params, params, config.law, generator)
            return render_teacher(self.teacher, params, batch), params, torch.zeros(len(params), dtype=torch.long)
        warped = float(torch.rand((), generator=generator)) < config.warp_share
        return batch, params, (batch.positions + 1) * warped

    def temporal(
        self, picture: Float[Tensor, "B H W 3"], batch: Batch, background: Float[Tensor, "3"], other: HeadParams
    ) -> Float[Tensor, ""]:
        """Change of the picture for a change of the code, same camera (LightAvatar's temporal loss)."""
        moved = HeadParams(other.shape, other.expression, other.joints, batch.params.world_from_head, batch.params.torso)
        change = (self.avatar.render(moved, batch.camera, background).rgb - picture).abs().mean()
        return change / (self.avatar.code(moved) - self.avatar.code(batch.params)).abs().mean().clamp_min(1e-3)

    def compare_neighbors(self, positions: Int[Tensor, " B"], camera: Camera, background: Float[Tensor, "3"]) -> Float[Tensor, ""]:
        """Change of the picture from a frame to the next, over that of what it is made from: codes and poses, mean absolute both."""
        last = len(self.trained.params) - 1
        places = positions.cpu().clamp_max(last - 1)
        pair = [self.trained.params[at].to(self.device) for at in (places, places + 1)]
        inputs = [torch.cat([self.avatar.code(one), one.world_from_head[:, :3].flatten(1)], 1) for one in pair]
        before, after = (self.avatar.render(one, camera, background).rgb for one in pair)
        return (after - before).abs().mean() / (inputs[1] - inputs[0]).abs().mean().clamp_min(1e-3)

    def validate(self, logger: RunLogger, step: int) -> None:
        self.validation.log(logger, self.avatar, self.phase.resolution, step)


def refuse_misfits(config: NelfTrainConfig, teacher: Avatar | None) -> None:
    """Refuse a recipe that cannot work.

    Raises:
        ConfigError: it asks for a teacher that is not there, or for pictures that super-resolution cannot make.
    """
    if not 0 <= config.pseudo_share <= 1:
        raise ConfigError(f"pseudo_share is {config.pseudo_share}. Expected a share between 0 and 1.")
    if config.pseudo_share > 0 and teacher is None:
        raise ConfigError("Frames of a teacher are asked for, but there is none. Set pseudo_share: 0, or teacher: gaussian or nerf.")
    for phase in config.phases:
        refuse_odd_size(phase.resolution, phase.window)
