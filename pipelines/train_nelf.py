"""Train a light field avatar on one tracked video and on what a teacher draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deja_vu.avatars import Avatar
from deja_vu.avatars.nelf import NelfAvatar, NelfConfig, WarpField
from deja_vu.core.batch import Batch
from deja_vu.core.errors import ConfigError
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.losses.photometric import masked_mean
from deja_vu.pipelines.phases import FieldPhase, Training, grouped, run_phases
from deja_vu.training.devices import pick_device
from deja_vu.training.distill import SamplingLaw, sample_params, taught
from deja_vu.training.fields import FieldObjective, NelfWeights, absolute, psnr_of
from deja_vu.training.loop import Step
from deja_vu.training.objective import head_window

Teacher = Literal["gaussian", "nerf", "none"]


@dataclass(frozen=True)
class NelfRecipe:
    """How a light field is trained; the defaults suit two cores."""

    avatar: NelfConfig = field(default_factory=NelfConfig)
    loss: NelfWeights = field(default_factory=NelfWeights)
    teacher: Teacher = "gaussian"
    """Whose frames are learned beside the real ones."""
    pseudo_share: float = 0.5
    """Share of steps on a teacher's frames: 0 for real ones only, 1 for a teacher's only."""
    law: SamplingLaw = field(default_factory=SamplingLaw)
    """Where a teacher's frames lie."""
    phases: tuple[FieldPhase, ...] = (
        FieldPhase(steps=300, resolution=256, learning_rate=0.002, final_rate=1.0, perceptual_every=0),
        FieldPhase(steps=4000, resolution=256, learning_rate=0.002, final_rate=0.5, window=128, perceptual_every=0),
        FieldPhase(steps=2500, resolution=512, learning_rate=0.001, final_rate=0.4, window=192, perceptual_every=0),
        FieldPhase(steps=800, resolution=512, learning_rate=0.0004, final_rate=0.1, window=256, perceptual_every=4),
    )
    """Whole pictures at half the size for a start, then small windows on the head, which cost little, so that a step's frames and codes
    change often; at the end large windows of the full size, for the perceptual term."""
    warp_rate: float = 1.0
    """Learning rate of the warping field over that of the network."""
    warp_share: float = 0.5
    """Share of the real frames' steps that go through the warping field; the others hold the unwarped light field, which is what is
    deployed, to the truth: without them, and without a teacher, it drifts away from every frame."""
    perceptual_window: int = 192
    """Side of the window on which the perceptual term is measured, pixels."""
    random_background: float = 0.5
    log_every: int = 20
    picture_every: int = 500
    seed: int = 0


def start_nelf(sequence: TrackedSequence, recipe: NelfRecipe) -> NelfAvatar:
    """Avatar with the tracked identity and the training frames' range of codes."""
    torch.manual_seed(recipe.seed)
    avatar = NelfAvatar(load_head(sequence.info.head_name), sequence.params.shape[0], recipe.avatar)
    avatar.fit(sequence.params)
    return avatar


def train_nelf(
    avatar: NelfAvatar,
    sequence: TrackedSequence,
    recipe: NelfRecipe,
    teacher: Avatar | None,
    run: Path,
    *,
    resume: bool,
    observe: Callable[[int], None] = lambda step: None,
) -> WarpField | None:
    """Run all phases; returns what is trained beside the avatar and not deployed with it.

    Args:
        avatar: trained in place, on the GPU if there is one.
        sequence: real training frames.
        recipe: how.
        teacher: draws the other frames; None where there are none.
        run: folder for curves and the checkpoint.
        resume: continue from the run's checkpoint.
        observe: called after every step with the number of steps done.

    Raises:
        ConfigError: frames of a teacher are asked for and there is none, or a phase does not fit super-resolution.
        DivergedError: a term is not finite.
    """
    _check(recipe, teacher)
    device = pick_device()
    avatar.to(device)
    torch.manual_seed(recipe.seed)
    warp = None if recipe.avatar.warp == "none" else WarpField(recipe.avatar, len(sequence), avatar.code_size).to(device)
    wanted = recipe.loss.image.perceptual and any(phase.perceptual_every for phase in recipe.phases)
    objective = FieldObjective(recipe.loss, PerceptualDistance.load().to(device) if wanted else None)
    groups = list(grouped(avatar, {"rays": 1.0, "upscale": 1.0}))
    if warp is not None and recipe.warp_rate:
        groups.append({"params": list(warp.parameters()), "lr": 0.0, "relative": recipe.warp_rate})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

    def compute(batch: Batch, background: Tensor, phase: FieldPhase, step: int, generator: torch.Generator) -> Step:
        if torch.rand((), generator=generator) < recipe.pseudo_share:
            assert teacher is not None
            batch = taught(teacher, sample_params(sequence.params, batch.params, recipe.law, generator), batch)
            rows = torch.zeros(len(batch.positions), dtype=torch.long, device=device)
        else:
            warped = float(torch.rand((), generator=generator)) < recipe.warp_share
            rows = (batch.positions.to(device) + 1) * warped
        over = background if recipe.avatar.coverage else torch.ones_like(background)
        return nelf_step(avatar, warp, objective, recipe, sequence.params, batch, rows, over, phase, step, generator)

    shared = Training(recipe.phases, recipe.random_background, recipe.seed, recipe.log_every, recipe.picture_every)
    run_phases(avatar, sequence, shared, optimizer, compute, run, label="nelf", resume=resume, beside=warp, observe=observe)
    return warp


def nelf_step(
    avatar: NelfAvatar,
    warp: WarpField | None,
    objective: FieldObjective,
    recipe: NelfRecipe,
    video: HeadParams,
    batch: Batch,
    rows: Tensor,
    background: Tensor,
    phase: FieldPhase,
    step: int,
    generator: torch.Generator,
) -> Step:
    """Terms of one step: the full picture's, the rays', and those that watch time and latents."""
    weights = objective.weights
    assert isinstance(weights, NelfWeights)
    out = avatar.render_all(batch.params, batch.camera, background, warp, rows)
    perceptual = bool(phase.perceptual_every) and step % phase.perceptual_every == 0
    window = head_window(batch.head.cpu(), recipe.perceptual_window, generator) if perceptual else None
    terms = objective.image.terms(out.full, batch, background, window=window)
    if not recipe.avatar.coverage:
        del terms["alpha"]
    if weights.l1:
        terms["l1"] = absolute(out.full, batch, background, weights.image.neck)
    if weights.l2:
        loss_mask = batch.loss_mask.clamp_min(weights.image.neck) * batch.valid
        terms["l2"] = masked_mean((out.full.rgb - objective.image.target(batch, background)).square(), loss_mask)
    if weights.rays and recipe.avatar.residual:
        small = batch.resized(out.rays.rgb.shape[2], out.rays.rgb.shape[1])
        terms["rays"] = absolute(out.rays, small, background, weights.image.neck)
    if weights.temporal:
        terms["temporal"] = _temporal(avatar, out.full.rgb, batch, background, sample_params(video, batch.params, recipe.law, generator))
    if warp is not None:
        terms["latents"] = warp.latents[rows].square().mean()
    return Step(objective.total(terms, phase.perceptual_every), terms, psnr_of(out.full, batch, background))


def _temporal(avatar: NelfAvatar, picture: Tensor, batch: Batch, background: Tensor, other: HeadParams) -> Tensor:
    """Change of the picture for a change of the code, same camera (LightAvatar's temporal loss)."""
    moved = HeadParams(other.shape, other.expression, other.joints, batch.params.world_from_head)
    change = (avatar.render(moved, batch.camera, background).rgb - picture).abs().mean()
    return change / (avatar.code(moved) - avatar.code(batch.params)).abs().mean().clamp_min(1e-3)


def _check(recipe: NelfRecipe, teacher: Avatar | None) -> None:
    if not 0 <= recipe.pseudo_share <= 1:
        raise ConfigError(f"pseudo_share is {recipe.pseudo_share}. Expected a share between 0 and 1.")
    if recipe.pseudo_share > 0 and teacher is None:
        raise ConfigError("Frames of a teacher are asked for, but there is none. Set pseudo_share: 0, or teacher: gaussian or nerf.")
    for phase in recipe.phases:
        if phase.resolution % 4 or phase.window % 4:
            raise ConfigError(
                f"Phase of {phase.resolution} pixels, window {phase.window}: super-resolution by four needs both to be multiples of 4."
            )
