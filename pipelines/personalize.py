"""From a video to an avatar: track, lift colors, learn one global rectification, then expression-aware blendmaps.

Every phase is the same loop with another resolution, learning rate and set of parameters; `train` below is that loop.
"""

from __future__ import annotations

import json
import math
import resource
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from deja_vu.avatars import GaussianAvatar, GaussianConfig, save_avatar
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
from deja_vu.pipelines.evaluate import compare_sheet, evaluate_run
from deja_vu.pipelines.report import write_report
from deja_vu.pipelines.runs import clear_run, find_track, machine, open_run, record, refuse_other_recipe
from deja_vu.pipelines.track import TrackConfig, track
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.checkpoint import load_checkpoint, save_checkpoint
from deja_vu.training.interrupt import interrupts_wait
from deja_vu.training.logging import RunLogger
from deja_vu.training.objective import LossWeights, Objective, head_window
from deja_vu.uv.hull import HairHull
from deja_vu.uv.lift import ColorLift

START_RESOLUTION = 256
"""Side of the frames from which hair height and colors are taken, pixels."""

REMEDY = "Lower the learning rate, or track the video again if its frames' parameters are to blame."

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
    personalize: PersonalizeConfig = field(default_factory=PersonalizeConfig)


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
    config = recipe.personalize
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
    avatar = start_avatar(sequence.train_part(), config)
    train(avatar, sequence.train_part(), config, out, resume=resume)
    save_avatar(avatar, out / "avatar.safetensors", provenance)
    seconds["total"] = time.monotonic() - started
    seconds["personalize"] = seconds["total"] - seconds["track"]
    description = {
        "video": sequence.info.source,
        "frames": len(sequence),
        "resolution": sequence.info.resolution,
        "device": machine(),
        "gaussians": len(avatar.layout),
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


def tracked(video: Path, out: Path, config: TrackConfig, *, resume: bool) -> TrackedSequence:
    """The tracked sequence of a run: read where it is there, made where it is not."""
    if video.is_dir():
        return TrackedSequence.load(find_track(video))
    folder = out / "track"
    if resume and (folder / "track.json").is_file():
        return TrackedSequence.load(folder)
    return track(video, folder, config)


def write_json(path: Path, value: dict[str, object]) -> None:
    """Write JSON in one move, so that a reader never sees half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)


def summary(metrics: dict[str, Any], out: Path) -> str:
    """What a newcomer wants to read at the end."""
    rows = {"avatar": metrics["test"], **metrics["baselines"]}
    seconds = metrics["seconds"]
    lines = [f"{name:>14}  {row['psnr']:6.2f} dB   SSIM {row['ssim']:.4f}   ST-LPIPS {row['st_lpips']:.4f}" for name, row in rows.items()]
    lines.append(f"track {seconds['track']:.0f} s, personalize {seconds['personalize']:.0f} s, peak memory {metrics['peak_mb']} MB")
    lines.append(f"look at {out / 'report.html'}, {out / 'compare.png'} and {out / 'turntable.mp4'}")
    return "\n".join(lines)


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


def train(avatar: GaussianAvatar, sequence: TrackedSequence, config: PersonalizeConfig, run: Path, *, resume: bool) -> None:
    """Run all phases; an interrupt leaves a checkpoint from which the same numbers follow.

    Args:
        avatar: trained in place.
        sequence: training frames.
        config: recipe.
        run: folder for curves, checkpoint and the snapshot of the global map.
        resume: continue from the run's checkpoint.

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
                    train_phase(avatar, sequence, config, phase, objective, optimizer, logger, run, (begin, max(done, begin), end))
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
) -> None:
    """One phase, from step span[1] of span[0] .. span[2]."""
    begin, step, _ = span
    set_trained(avatar, phase)
    source = FrameSource(sequence, phase.resolution)
    rare = avatar.code.rarity(sequence.params).topk(round(config.rare_share * len(sequence))).indices
    order = shuffled(len(sequence), phase.batch, phase.steps, seed=config.seed + begin, start=step - begin, again=rare)
    fixed = source.batch(torch.tensor([len(sequence) // 2]))
    bar = tqdm(source.stream(order), total=phase.steps, initial=step - begin, desc=f"personalize {phase.resolution}²", unit="it")
    try:
        for batch in bar:
            # All of a step's random numbers follow from its number, so that a step cut short by Ctrl-C can be repeated.
            generator = torch.manual_seed(config.seed * 1_000_003 + step)
            progress = (step - begin) / phase.steps
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * group["relative"] * phase.final_rate**progress
            background = draw_background(config, generator)
            out = render_finite(avatar, batch, background, step)
            perceptual = bool(phase.perceptual_every) and step % phase.perceptual_every == 0
            window = head_window(batch.head, config.perceptual_window, generator) if perceptual else None
            terms = objective.terms(out, batch, background, window=window)
            terms |= avatar.regularizers()
            weighted = terms | ({"perceptual": terms["perceptual"] * phase.perceptual_every} if "perceptual" in terms else {})
            loss = objective.total(weighted)
            refuse_divergence(terms, batch.positions, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            with interrupts_wait():
                optimizer.step()
                step += 1
            if step % config.log_every == 0:
                log_step(logger, bar, terms, loss, optimizer, step)
            if step % config.picture_every == 0:
                log_picture(logger, avatar, fixed, objective, step)
                save_checkpoint(run / "checkpoint.pt", step, avatar, optimizer)
    except KeyboardInterrupt:
        save_checkpoint(run / "checkpoint.pt", step, avatar, optimizer)
        raise
    save_checkpoint(run / "checkpoint.pt", step, avatar, optimizer)


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


def refuse_divergence(terms: dict[str, Tensor], positions: Tensor, step: int) -> None:
    """Stop at the first value that is not finite, naming the term and the frames."""
    for name, value in terms.items():
        if not math.isfinite(float(value.detach())):
            raise DivergedError(f"The term '{name}' became {float(value)} at step {step} on frames {positions.tolist()}. {REMEDY}")


def log_step(logger: RunLogger, bar: tqdm, terms: dict[str, Tensor], loss: Tensor, optimizer: torch.optim.Adam, step: int) -> None:
    """Scalars of one step, and the bar's postfix."""
    psnr = -10 * math.log10(max(2 * float(terms["huber"].detach()), 1e-8))
    scalars = {f"loss/{name}": float(value.detach()) for name, value in terms.items()}
    rate = bar.format_dict["rate"] or 0.0
    scalars |= {"loss/total": float(loss.detach()), "metric/psnr": psnr, "lr": optimizer.param_groups[0]["lr"], "time/it_per_s": rate}
    logger.scalars(step, scalars)
    bar.set_postfix(loss=f"{float(loss.detach()):.4f}", psnr=f"{psnr:.1f}")


@torch.no_grad()
def log_picture(logger: RunLogger, avatar: GaussianAvatar, fixed: Batch, objective: Objective, step: int) -> None:
    """A fixed training frame: target beside render."""
    white = torch.ones(3)
    avatar.eval()
    out = avatar.render(fixed.params, fixed.camera, white)
    avatar.train()
    logger.image(step, "train/target_render", torch.cat([objective.target(fixed, white)[0], out.rgb[0].clamp(0, 1)], dim=1))
