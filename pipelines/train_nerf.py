"""Train a radiance field avatar on one tracked video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from deja_vu.avatars.nerf import NerfAvatar, NerfConfig
from deja_vu.avatars.nerf.planes import EncodedPlanes, project_frontal
from deja_vu.core.batch import Batch
from deja_vu.core.errors import ConfigError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.heads.regions import region_window
from deja_vu.io.frames import FrameSource
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.pipelines.phases import FieldPhase, Training, grouped, run_phases
from deja_vu.render.volume import SCENE_SCALE
from deja_vu.training.devices import pick_device
from deja_vu.training.fields import FieldObjective, NerfWeights, absolute, psnr_of
from deja_vu.training.loop import Step
from deja_vu.training.objective import head_window


@dataclass(frozen=True)
class NerfRecipe:
    """How a radiance field is trained; the defaults suit two cores."""

    avatar: NerfConfig = field(default_factory=NerfConfig)
    loss: NerfWeights = field(default_factory=NerfWeights)
    phases: tuple[FieldPhase, ...] = (
        FieldPhase(steps=250, resolution=512, learning_rate=0.005, final_rate=0.5, window=256, enlarge=False, perceptual_every=0),
        FieldPhase(steps=600, resolution=512, learning_rate=0.003, final_rate=0.1, window=256),
    )
    """First the volume alone, then with super-resolution."""
    planes_rate: float = 4.0
    """Learning rate of the tri-planes over that of the networks."""
    points_rate: float = 4.0
    """Learning rate of the surface points' features over that of the networks."""
    code_rate: float = 0.3
    """Learning rate of the code over that of the networks."""
    code_noise: float = 0.2
    """Deviation of the noise added to the code's coordinates in training."""
    slow_rate: float = 0.1
    """Learning rate of the style networks' codes over that of the networks (published configuration)."""
    beta1: float = 0.9
    """Adam's first moment; the published configuration has 0."""
    perceptual_window: int = 192
    """Side of the window on which the perceptual term is measured, pixels."""
    random_background: float = 0.5
    log_every: int = 20
    picture_every: int = 250
    seed: int = 0


@torch.no_grad()
def start_nerf(sequence: TrackedSequence, recipe: NerfRecipe) -> NerfAvatar:
    """Avatar with the tracked identity; the code's components and source pictures come from training frames."""
    torch.manual_seed(recipe.seed)
    avatar = NerfAvatar(load_head(sequence.info.head_name), sequence.params.shape[0], recipe.avatar)
    avatar.fit(sequence.params)
    if isinstance(avatar.planes, EncodedPlanes):
        show_sources(avatar, sequence, torch.linspace(0, len(sequence) - 1, recipe.avatar.sources).round().long())
    return avatar


@torch.no_grad()
def show_sources(avatar: NerfAvatar, sequence: TrackedSequence, positions: Tensor) -> None:
    """Let the encoder see some frames."""
    assert isinstance(avatar.planes, EncodedPlanes)
    source = FrameSource(sequence, sequence.info.resolution, cache_bytes=0)
    pictures = [source_picture(source.batch(position[None]), avatar) for position in positions]
    avatar.planes.set_sources(torch.stack(pictures).to(avatar.shape.device))


def source_picture(batch: Batch, avatar: NerfAvatar) -> Tensor:
    """What one frame shows of the head's frontal plane, before black."""
    pose = batch.params.world_from_head[0] @ torch.diag(torch.tensor([1 / SCENE_SCALE] * 3 + [1.0]))
    return project_frontal((batch.image * batch.head)[0], batch.camera, pose, avatar.config.encoder_size)


def train_nerf(
    avatar: NerfAvatar,
    sequence: TrackedSequence,
    recipe: NerfRecipe,
    run: Path,
    *,
    resume: bool,
    observe: Callable[[int], None] = lambda step: None,
) -> None:
    """Run all phases.

    Args:
        avatar: trained in place, on the GPU if there is one.
        sequence: training frames.
        recipe: how.
        run: folder for curves and the checkpoint.
        resume: continue from the run's checkpoint.
        observe: called after every step with the number of steps done.

    Raises:
        ConfigError: a phase's pictures do not fit the super-resolution.
        DivergedError: a term is not finite.
    """
    _check(recipe)
    device = pick_device()
    avatar.to(device)
    avatar.code.noise = recipe.code_noise
    wanted = recipe.loss.image.perceptual or recipe.loss.face_perceptual or recipe.loss.low_perceptual
    perceptual = PerceptualDistance.load().to(device) if wanted and any(phase.perceptual_every for phase in recipe.phases) else None
    objective = FieldObjective(recipe.loss, perceptual)
    relative = {"planes": recipe.planes_rate, "points": recipe.points_rate, "networks": 1.0, "upscale": 1.0}
    relative |= {"slow": recipe.slow_rate, "code": recipe.code_rate}
    optimizer = torch.optim.Adam(list(grouped(avatar, relative)), betas=(recipe.beta1, 0.99), eps=1e-10, fused=True)

    def compute(batch: Batch, background: Tensor, phase: FieldPhase, step: int, generator: torch.Generator) -> Step:
        if isinstance(avatar.planes, EncodedPlanes):
            show_sources(avatar, sequence, torch.randint(len(sequence), (recipe.avatar.sources,), generator=generator))
        return nerf_step(avatar, objective, recipe, batch, background, phase, step, generator)

    shared = Training(recipe.phases, recipe.random_background, recipe.seed, recipe.log_every, recipe.picture_every)
    run_phases(avatar, sequence, shared, optimizer, compute, run, label="nerf", resume=resume, observe=observe)
    if isinstance(avatar.planes, EncodedPlanes):
        show_sources(avatar, sequence, torch.linspace(0, len(sequence) - 1, recipe.avatar.sources).round().long())


def nerf_step(
    avatar: NerfAvatar,
    objective: FieldObjective,
    recipe: NerfRecipe,
    batch: Batch,
    background: Tensor,
    phase: FieldPhase,
    step: int,
    generator: torch.Generator,
) -> Step:
    """Terms of one step: the full picture's, those of the pictures before it, the regularizers'."""
    weights = recipe.loss
    out = avatar.render_all(batch.params, batch.camera, background, enlarge=phase.enlarge)
    low = batch.resized(out.fine.rgb.shape[2], out.fine.rgb.shape[1])
    neck = weights.image.neck
    terms = {"fine": absolute(out.fine, low, background, neck), "coarse": absolute(out.coarse, low, background, neck)}
    terms |= avatar.regularizers() | {"opacity": out.opacity}
    if out.full is None:
        return Step(objective.total(terms, 0), terms, psnr_of(out.fine, low, background))
    perceptual = bool(phase.perceptual_every) and step % phase.perceptual_every == 0
    window = head_window(batch.head, recipe.perceptual_window, generator) if perceptual else None
    terms |= objective.image.terms(out.full, batch, background, window=window)
    terms["l1"] = absolute(out.full, batch, background, neck)
    if weights.low_perceptual and perceptual and objective.perceptual is not None:
        target = objective.image.target(low, background)
        terms["low_perceptual"] = objective.perceptual(out.fine.rgb, target).mean() + objective.perceptual(out.coarse.rgb, target).mean()
    if weights.face or weights.face_perceptual:
        head, topology = avatar.head, avatar.head.topology
        vertices = head(batch.params)
        boxes = [region_window(vertices[b], topology.faces, topology.regions["face"], batch.camera) for b in range(len(vertices))]
        renders = [(out.coarse, low), (out.fine, low), (out.full, batch)]
        terms |= objective.face(renders, boxes, background, perceptual=perceptual)
    return Step(objective.total(terms, phase.perceptual_every), terms, psnr_of(out.full, batch, background))


def _check(recipe: NerfRecipe) -> None:
    for phase in recipe.phases:
        if recipe.avatar.upscale == "style" and phase.window:
            raise ConfigError("The published super-resolution sees whole pictures. Set window: 0 in every phase, or a light upscale.")
        if recipe.avatar.upscale != "style" and (phase.resolution % 4 or phase.window % 4):
            raise ConfigError(
                f"Phase of {phase.resolution} pixels, window {phase.window}: super-resolution by four needs both to be multiples of 4."
            )
