"""From a video to an avatar: track, lift colors, learn one global rectification, then expression-aware blendmaps.

Every phase is the same loop with another resolution, learning rate and set of parameters; `train` below is that loop.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deja_vu.avatars import Avatar, GaussianAvatar, GaussianConfig, load_avatar, save_avatar
from deja_vu.core.batch import Batch
from deja_vu.core.config import dump_config
from deja_vu.core.conventions import SH_C0
from deja_vu.core.errors import DivergedError
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.image import RenderOutput
from deja_vu.core.sequence import TrackedSequence
from deja_vu.datasets.sampling import FrameSource, shuffled
from deja_vu.heads import load_head
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.pipelines.drive import show
from deja_vu.pipelines.evaluate import compare_sheet, evaluate_run, summary
from deja_vu.pipelines.phases import Learned
from deja_vu.pipelines.report import write_report
from deja_vu.pipelines.runs import clear_run, find_track, machine, open_run, record, refuse_other_recipe, write_json
from deja_vu.pipelines.track import TrackConfig, track
from deja_vu.pipelines.train_nelf import NelfRecipe, start_nelf, train_nelf
from deja_vu.pipelines.train_nerf import NerfRecipe, start_nerf, train_nerf
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.checkpoint import load_checkpoint
from deja_vu.training.logging import RunLogger
from deja_vu.training.loop import REMEDY, Step, Stretch, descend
from deja_vu.training.objective import LossWeights, Objective, head_window
from deja_vu.uv.hull import HairHull
from deja_vu.uv.lift import ColorLift

START_RESOLUTION = 256
"""Side of the frames from which hair height and colors are taken, pixels."""

DOUBTED_VIEW = 0.03
"""Mean squared facing cosine over the training frames below which a texel counts as hardly seen."""


@dataclass(frozen=True)
class Phase:
    """One stretch of the optimisation."""

    steps: int
    """Optimiser steps."""
    resolution: int
    """Side of render and target in pixels."""
    learning_rate: float
    """Adam's rate at the start of the phase, in units of `deja_vu.avatars.gaussian.GAINS`."""
    final_rate: float = 0.2
    """Fraction of the rate that is left at the end; the decay is exponential."""
    batch: int = 1
    """Frames a step."""
    blendmaps: bool = False
    """Whether blendmaps and their code are trained; else the global map alone."""
    perceptual_every: int = 2
    """Steps from one perceptual term to the next; its weight is multiplied accordingly. 0 leaves it out."""


@dataclass(frozen=True)
class PersonalizeConfig:
    """Recipe of a personalization."""

    avatar: GaussianConfig = field(default_factory=GaussianConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    phases: tuple[Phase, ...] = (
        Phase(steps=300, resolution=256, learning_rate=0.02, final_rate=0.3, perceptual_every=0),
        Phase(steps=900, resolution=512, learning_rate=0.01, final_rate=0.15, blendmaps=True),
    )
    """Stage 1 (the global map) and stage 2 (blendmaps on top of it)."""
    blendmap_rate: float = 0.5
    """Learning rate of the blendmaps over that of the global map."""
    code_rate: float = 0.1
    """Learning rate of the blend code over that of the global map."""
    correction_rate: float = 0.2
    """Learning rate of the correction of tracked parameters over that of the global map."""
    code_noise: float = 0.2
    """Deviation of the noise added to the blend code's coordinates in training."""
    rare_share: float = 0.2
    """Share of the training frames, those with the rarest pose and expression, that are shown three times as often: blinks are few."""
    lift_frames: int = 24
    """Training frames whose colors start the avatar."""
    perceptual_window: int = 192
    """Side of the random window on the head in which the perceptual term is measured, pixels."""
    random_background: float = 0.5
    """Fraction of steps over a random grey instead of white, which teaches coverage."""
    log_every: int = 20
    """Steps between scalars."""
    picture_every: int = 250
    """Steps between pictures, and between checkpoints."""
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes."""

    track: TrackConfig = field(default_factory=TrackConfig)
    path: Literal["gaussian", "nerf", "nelf"] = "gaussian"
    """Kind of avatar: Gaussians, radiance field, or light field."""
    personalize: PersonalizeConfig = field(default_factory=PersonalizeConfig)
    nerf: NerfRecipe = field(default_factory=NerfRecipe)
    nelf: NelfRecipe = field(default_factory=NelfRecipe)


def personalize(video: Path, out: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
    """The main job, from a video (or a tracked folder) to an avatar with its scores and pictures.

    Args:
        video: file, or folder made by `deja_vu.pipelines.track`.
        out: run folder.
        recipe: what to compute.
        resume: continue an interrupted run.
        overwrite: start anew in a folder that holds a run.

    Raises:
        OutputError: `out` holds a run and neither flag is given, or it cannot be written.
        ConfigError: the run to resume was started with another recipe.
    """
    open_run(out, resume=resume, overwrite=overwrite)
    if resume:
        refuse_other_recipe(out, recipe)
    started = time.monotonic()
    sequence = tracked(video, out, recipe.track, resume=resume)
    if overwrite:
        clear_run(out, keep=sequence.folder)
    provenance = record(out, sequence.folder)
    dump_config(recipe, out / "config.yaml")
    seconds = {"track": time.monotonic() - started}
    learned = learn(sequence.train_part(), recipe, out, resume=resume)
    avatar = learned.avatar
    save_avatar(avatar, out / "avatar.safetensors", provenance)
    seconds["total"] = time.monotonic() - started
    seconds["personalize"] = seconds["total"] - seconds["track"]
    if learned.teacher_seconds:
        seconds["teacher"] = learned.teacher_seconds
    description = {
        "video": sequence.info.source,
        "frames": len(sequence),
        "resolution": sequence.info.resolution,
        "device": machine(),
        "path": recipe.path,
        "parameters": sum(parameter.numel() for parameter in avatar.parameters()),
        **({"gaussians": len(avatar.layout)} if isinstance(avatar, GaussianAvatar) else {}),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "config": asdict(recipe),
        "commit": provenance["commit"],
    }
    write_json(out / "metrics.json", description)
    metrics = evaluate_run(out)
    write_json(out / "metrics.json", metrics)
    compare_sheet(sequence, avatar, out / "compare.png")
    show(avatar, sequence, out / "turntable.mp4")
    write_report(out)
    print(summary(metrics, out))


def learn(
    sequence: TrackedSequence,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    teacher: Avatar | None = None,
    observe: Callable[[Avatar, int], None] = lambda avatar, step: None,
) -> Learned:
    """Start and train the avatar that the recipe's path asks for.

    Args:
        sequence: training frames.
        recipe: what to compute.
        out: run folder; a light field's teacher is trained in its folder `teacher`, or read from there.
        resume: continue an interrupted run.
        teacher: of a light field, if it is there already.
        observe: called after every step with the avatar and the number of steps done.
    """
    begun = time.monotonic()
    if recipe.path == "gaussian":
        gaussian = start_avatar(sequence, recipe.personalize)
        train(gaussian, sequence, recipe.personalize, out, resume=resume, observe=partial(observe, gaussian))
        return Learned(gaussian)
    if recipe.path == "nerf":
        torch.manual_seed(recipe.nerf.seed)
        nerf = start_nerf(sequence, recipe.nerf)
        train_nerf(nerf, sequence, recipe.nerf, out, resume=resume, observe=partial(observe, nerf))
        return Learned(nerf)
    if teacher is None and recipe.nelf.teacher != "none" and recipe.nelf.pseudo_share:
        teacher = learn_teacher(sequence, replace(recipe, path=recipe.nelf.teacher), out / "teacher", resume=resume)
    spent = time.monotonic() - begun
    nelf = start_nelf(sequence, recipe.nelf)
    warp = train_nelf(nelf, sequence, recipe.nelf, teacher, out, resume=resume, observe=partial(observe, nelf))
    return Learned(nelf, spent, 0 if warp is None else sum(parameter.numel() for parameter in warp.parameters()))


def learn_teacher(sequence: TrackedSequence, recipe: Recipe, folder: Path, *, resume: bool) -> Avatar:
    """The avatar that draws a light field's other frames."""
    path = folder / "avatar.safetensors"
    if not (resume and path.is_file()):
        save_avatar(learn(sequence, recipe, folder, resume=resume).avatar, path, {"role": "teacher"})
    return load_avatar(path)


def tracked(video: Path, out: Path, config: TrackConfig, *, resume: bool) -> TrackedSequence:
    """The tracked sequence of a run: read where it is there, made where it is not."""
    if video.is_dir():
        return TrackedSequence.load(find_track(video))
    folder = out / "track"
    if resume and (folder / "track.json").is_file():
        return TrackedSequence.load(folder)
    return track(video, folder, config)


@torch.no_grad()
def start_avatar(sequence: TrackedSequence, config: PersonalizeConfig) -> GaussianAvatar:
    """Avatar with the tracked identity; hair height and colors come from training frames, the blend code from their parameters."""
    head = load_head(sequence.info.head_name)
    avatar = GaussianAvatar(head, sequence.params.shape[0], config.avatar)
    avatar.code.fit(sequence.params)
    source = FrameSource(sequence, START_RESOLUTION)
    spread = torch.linspace(0, len(sequence) - 1, min(config.lift_frames, len(sequence))).round().long().unique()
    if config.avatar.axes == "tangent":
        hull = HairHull(len(avatar.layout))
        for position in spread:
            batch = source.batch(position[None])
            hull.add(avatar.surface(batch.params), batch.camera, batch.person, batch.known)
        avatar.raise_hair(hull.thickness(avatar.layout, avatar.hairy()))
    lift = ColorLift(len(avatar.layout))
    for position in spread:
        batch = source.batch(position[None])
        depth = rasterize_mesh(head(batch.params), head.topology.faces, batch.camera).depth
        surface = avatar.surface(batch.params)
        raised = surface.points + (surface.frames @ avatar.base[:, CHANNELS["position"], None])[..., 0]
        lift.add(replace(surface, points=raised), batch.camera, depth, batch.image, batch.head)
    avatar.base[:, CHANNELS["color"]] = (lift.colors(avatar.layout) - 0.5) / SH_C0
    avatar.doubt.copy_(torch.exp(-lift.weight / len(spread) / DOUBTED_VIEW))
    return avatar


def train(
    avatar: GaussianAvatar,
    sequence: TrackedSequence,
    config: PersonalizeConfig,
    run: Path,
    *,
    resume: bool,
    observe: Callable[[int], None] = lambda step: None,
) -> None:
    """Run all phases; an interrupt leaves a checkpoint from which the same numbers follow.

    Args:
        avatar: trained in place.
        sequence: training frames.
        config: recipe.
        run: folder for curves, checkpoint and the snapshot of the global map.
        resume: continue from the run's checkpoint.
        observe: called after every step with the number of steps done.

    Raises:
        DivergedError: a term is not finite.
    """
    wants_perceptual = config.loss.perceptual > 0 and any(phase.perceptual_every for phase in config.phases)
    objective = Objective(config.loss, PerceptualDistance.load() if wants_perceptual else None)
    optimizer = make_optimizer(avatar, config)
    checkpoint = run / "checkpoint.pt"
    done = load_checkpoint(checkpoint, avatar, optimizer)[0] if resume and checkpoint.is_file() else 0
    avatar.train()
    avatar.code.noise = config.code_noise
    with RunLogger(run, resume_step=done + 1 if resume else None) as logger:
        begin = 0
        for number, phase in enumerate(config.phases, 1):
            end = begin + phase.steps
            if done < end:
                try:
                    train_phase(avatar, sequence, config, phase, objective, optimizer, logger, run, (begin, max(done, begin), end), observe)
                except KeyboardInterrupt:
                    print(f"\nInterrupted. The run is kept; continue it with --resume (folder {run}).")
                    raise
            if done <= end and not phase.blendmaps and number < len(config.phases):
                save_avatar(avatar, run / "global_only.safetensors", {"phase": str(number)})
            begin = end
    avatar.eval()


def make_optimizer(avatar: GaussianAvatar, config: PersonalizeConfig) -> torch.optim.Adam:
    """Adam with a relative learning rate for every parameter group.

    Its epsilon lies between the gradients of texels that are seen (1e-6) and of those that are not (3e-8): without it, Adam would
    move unseen texels as fast as seen ones, at random.
    """
    relative = {"rectification": 1.0, "blendmaps": config.blendmap_rate, "code": config.code_rate, "correction": config.correction_rate}
    groups = [{"params": params, "lr": 0.0, "relative": relative[name]} for name, params in avatar.param_groups().items() if params]
    return torch.optim.Adam(groups, eps=5e-8, betas=(0.9, 0.99), fused=True)


def train_phase(
    avatar: GaussianAvatar,
    sequence: TrackedSequence,
    config: PersonalizeConfig,
    phase: Phase,
    objective: Objective,
    optimizer: torch.optim.Adam,
    logger: RunLogger,
    run: Path,
    span: tuple[int, int, int],
    observe: Callable[[int], None],
) -> None:
    """One phase, from step span[1] of span[0] .. span[2]."""
    begin, start, _ = span
    set_trained(avatar, phase)
    source = FrameSource(sequence, phase.resolution)
    rare = avatar.code.rarity(sequence.params).topk(round(config.rare_share * len(sequence))).indices
    order = shuffled(len(sequence), phase.batch, phase.steps, seed=config.seed + begin, start=start - begin, again=rare)
    fixed = source.batch(torch.tensor([len(sequence) // 2]))

    def compute(batch: Batch, step: int, generator: torch.Generator) -> Step:
        background = draw_background(config, generator)
        out = render_finite(avatar, batch, background, step)
        perceptual = bool(phase.perceptual_every) and step % phase.perceptual_every == 0
        window = head_window(batch.head, config.perceptual_window, generator) if perceptual else None
        terms = objective.terms(out, batch, background, window=window) | avatar.regularizers()
        weighted = terms | ({"perceptual": terms["perceptual"] * phase.perceptual_every} if "perceptual" in terms else {})
        psnr = -10 * math.log10(max(2 * float(terms["huber"].detach()), 1e-8))
        return Step(objective.total(weighted), terms, psnr)

    stretch = Stretch(
        *(f"personalize {phase.resolution}²", begin, start, phase.steps, phase.learning_rate, phase.final_rate),
        *(config.seed, config.log_every, config.picture_every),
    )

    def picture(step: int) -> None:
        log_picture(logger, avatar, fixed, objective, step)

    descend(avatar, optimizer, source.stream(order), stretch, compute, logger, run / "checkpoint.pt", picture, observe)


def set_trained(avatar: GaussianAvatar, phase: Phase) -> None:
    """Choose which parameter groups receive gradients in a phase."""
    for name, params in avatar.param_groups().items():
        for parameter in params:
            parameter.requires_grad_(phase.blendmaps or name == "rectification")
            parameter.grad = None


def draw_background(config: PersonalizeConfig, generator: torch.Generator) -> Tensor:
    """White, or a random grey."""
    if torch.rand((), generator=generator) < config.random_background:
        return torch.rand((), generator=generator).expand(3)
    return torch.ones(3)


def render_finite(avatar: GaussianAvatar, batch: Batch, background: Tensor, step: int) -> RenderOutput:
    """Render a batch; what is no longer finite, and so cannot be drawn, stops the run by its name.

    Raises:
        DivergedError: a frame's parameters, the avatar's, or the Gaussians that follow from both are not finite.
    """
    try:
        return avatar.render(batch.params, batch.camera, background)
    except ValueError:
        drawn = avatar.gaussians(batch.params)
        tensors = {f"frames' {name}": getattr(batch.params, name) for name in ("expression", "joints", "world_from_head")}
        tensors |= {f"avatar's {name}": value for name, value in avatar.named_parameters()}
        tensors |= {f"Gaussians' {name}": getattr(drawn, name) for name in ("means", "quats", "scales", "opacities", "sh")}
        broken = [name for name, value in tensors.items() if not value.isfinite().all()]
        if not broken:
            raise
        where = f"at step {step} on frames {batch.positions.tolist()}"
        raise DivergedError(f"The {', the '.join(broken)} hold values that are not finite {where}. {REMEDY}") from None


@torch.no_grad()
def log_picture(logger: RunLogger, avatar: GaussianAvatar, fixed: Batch, objective: Objective, step: int) -> None:
    """A fixed training frame: target beside render."""
    white = torch.ones(3)
    avatar.eval()
    out = avatar.render(fixed.params, fixed.camera, white)
    avatar.train()
    logger.image(step, "train/target_render", torch.cat([objective.target(fixed, white)[0], out.rgb[0].clamp(0, 1)], dim=1))
