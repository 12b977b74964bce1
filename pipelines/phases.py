"""Phases of the field paths: windows of frames in, steps of the common loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from deja_vu.avatars import Avatar
from deja_vu.core.batch import Batch
from deja_vu.core.errors import DivergedError
from deja_vu.core.image import over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import FrameSource, shuffled
from deja_vu.training.checkpoint import load_checkpoint
from deja_vu.training.logging import RunLogger
from deja_vu.training.loop import REMEDY, Step, Stretch, descend
from deja_vu.training.objective import head_window


@dataclass(frozen=True)
class FieldPhase:
    """One stretch of the optimisation of a field."""

    steps: int
    """Optimiser steps."""
    resolution: int
    """Side of the pictures in pixels."""
    learning_rate: float
    """Rate at the start; every parameter group has its own factor."""
    final_rate: float = 0.2
    """Fraction of the rate left at the end; the decay is exponential."""
    batch: int = 1
    """Frames a step."""
    window: int = 0
    """Side of the random window on the head that a step sees, pixels; 0 for whole pictures."""
    enlarge: bool = True
    """Train super-resolution too; else only the picture of the rays (radiance fields)."""
    perceptual_every: int = 2
    """Steps from one perceptual term to the next; 0 leaves it out."""


@dataclass(frozen=True)
class Training:
    """What all phases of a run share."""

    phases: tuple[FieldPhase, ...]
    random_background: float
    """Share of steps over a random grey instead of white."""
    seed: int
    log_every: int
    picture_every: int


@dataclass(frozen=True)
class Learned:
    """A trained avatar, and what is to be told of its training."""

    avatar: Avatar
    teacher_seconds: float = 0.0
    """Time for training the teacher, where there is one."""
    beside: int = 0
    """Parameters that were trained and are not part of the avatar."""


Compute = Callable[[Batch, Tensor, FieldPhase, int, torch.Generator], Step]


def run_phases(
    avatar: Avatar,
    sequence: TrackedSequence,
    training: Training,
    optimizer: torch.optim.Optimizer,
    compute: Compute,
    run: Path,
    *,
    label: str,
    resume: bool,
    beside: nn.Module | None = None,
    observe: Callable[[int], None] = lambda step: None,
) -> None:
    """Train an avatar through all phases; an interrupt leaves a checkpoint from which the same numbers follow.

    Args:
        avatar: trained in place.
        sequence: training frames.
        training: phases and how they are watched.
        optimizer: every group has a factor `relative` of the phase's rate.
        compute: terms of one step, of a window over a background.
        run: folder for curves and the checkpoint.
        label: before the progress bar.
        resume: continue from the run's checkpoint.
        beside: what is trained with the avatar and left behind.
        observe: called after every step with the number of steps done.

    Raises:
        DivergedError: a term is not finite.
    """
    checkpoint = run / "checkpoint.pt"
    model = avatar if beside is None else nn.ModuleList([avatar, beside])
    done = load_checkpoint(checkpoint, model, optimizer)[0] if resume and checkpoint.is_file() else 0
    device = next(avatar.parameters()).device
    model.train()
    with RunLogger(run, resume_step=done + 1 if resume else None) as logger:
        begin = 0
        for phase in training.phases:
            start, end = max(done, begin), begin + phase.steps
            if start < end:
                source = FrameSource(sequence, phase.resolution)
                order = shuffled(len(sequence), phase.batch, phase.steps, seed=training.seed + begin, start=start - begin)
                fixed = source.batch(torch.tensor([len(sequence) // 2])).to(device)
                stretch = Stretch(
                    *(f"{label} {phase.resolution}²", begin, start, phase.steps, phase.learning_rate, phase.final_rate),
                    *(training.seed, training.log_every, training.picture_every),
                )
                descend(
                    model,
                    optimizer,
                    source.stream(order),
                    stretch,
                    _windowed(compute, phase, training, device),
                    logger,
                    checkpoint,
                    partial(log_picture, logger, avatar, fixed),
                    observe,
                )
            begin = end
    model.eval()


def _windowed(
    compute: Compute, phase: FieldPhase, training: Training, device: torch.device
) -> Callable[[Batch, int, torch.Generator], Step]:
    def step_of(batch: Batch, step: int, generator: torch.Generator) -> Step:
        refuse_broken_frames(batch, step)
        background = draw_background(training.random_background, generator).to(device)
        if phase.window:
            batch = batch.cropped(*head_window(batch.head, phase.window, generator))
        return compute(batch.to(device), background, phase, step, generator)

    return step_of


def refuse_broken_frames(batch: Batch, step: int) -> None:
    """Stop where a frame's parameters are not finite, and so cannot be drawn.

    Raises:
        DivergedError: names the parameters and the frames.
    """
    broken = [name for name in ("expression", "joints", "world_from_head") if not getattr(batch.params, name).isfinite().all()]
    if broken:
        where = f"at step {step} on frames {batch.positions.tolist()}"
        raise DivergedError(f"The frames' {', '.join(broken)} hold values that are not finite {where}. {REMEDY}")


def draw_background(share: float, generator: torch.Generator) -> Tensor:
    """A random grey in so large a share of the draws, else white."""
    if torch.rand((), generator=generator) < share:
        return torch.rand((), generator=generator).expand(3)
    return torch.ones(3)


@torch.no_grad()
def log_picture(logger: RunLogger, avatar: Avatar, fixed: Batch, step: int) -> None:
    """A fixed training frame: target beside render."""
    white = torch.ones(3, device=fixed.image.device)
    avatar.eval()
    out = avatar.render(fixed.params, fixed.camera, white)
    avatar.train()
    target = over(fixed.image, fixed.head, white)[0]
    logger.image(step, "train/target_render", torch.cat([target, out.rgb[0].clamp(0, 1)], dim=1))


def grouped(avatar: Avatar, relative: dict[str, float]) -> Iterator[dict[str, object]]:
    """The optimiser's parameter groups: those of the avatar that are not empty, with their factors of the rate.

    Args:
        avatar: names its groups.
        relative: factor of each; 0 leaves a group as it is.
    """
    for name, parameters in avatar.param_groups().items():
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if trained and relative[name]:
            yield {"params": trained, "lr": 0.0, "relative": relative[name]}
