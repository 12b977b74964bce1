"""Train a Gaussian avatar on one tracked video: lift colors, learn one global rectification, then expression-aware blendmaps.

Every phase is the same loop with another resolution, learning rate and set of parameters; `train` below is that loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deja_vu.avatars import GaussianAvatar, GaussianConfig, save_avatar
from deja_vu.avatars.prior.atlas import VISIBLE_DEVIATIONS, load_atlas
from deja_vu.avatars.prior.network import load_prior, shipped_chart
from deja_vu.core.batch import Batch
from deja_vu.core.errors import ConfigError, DivergedError
from deja_vu.core.gaussians import CHANNELS, rgb_to_sh
from deja_vu.core.image import RenderOutput
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.io.frames import FrameSource, shuffled
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.pipelines.phases import draw_background, log_picture
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.training.checkpoint import load_checkpoint
from deja_vu.training.devices import pick_device
from deja_vu.training.fields import psnr_of
from deja_vu.training.logging import RunLogger
from deja_vu.training.loop import REMEDY, Step, Stretch, descend
from deja_vu.training.novel_views import SideConfig, SideViews
from deja_vu.training.objective import LossWeights, Objective, head_window
from deja_vu.uv.hull import HairHull
from deja_vu.uv.lift import ColorLift

START_RESOLUTION = 256
"""Side of the frames from which hair height and colors are taken, pixels."""

VALIDATION_FRAMES = 8
"""Watched frames that are rendered each time."""

DOUBTED_VIEW = 0.06
"""Mean squared facing cosine over the training frames below which a texel counts as hardly seen."""


@dataclass(frozen=True)
class Phase:
    """One stretch of the optimisation."""

    steps: int
    """Optimiser steps."""
    resolution: int
    """Side of render and target in pixels."""
    learning_rate: float
    """Adam's rate at the start of the phase, in units of `deja_vu.avatars.gaussian.avatar.GAINS`."""
    final_rate: float = 0.2
    """Fraction of the rate that is left at the end; the decay is exponential."""
    batch: int = 1
    """Frames a step."""
    blendmaps: bool = False
    """Whether blendmaps and their code are trained; else the global map alone."""
    perceptual_every: int = 4
    """Steps from one perceptual term to the next; its weight is multiplied accordingly. 0 leaves it out."""


@dataclass(frozen=True)
class PersonalizeConfig:
    """Recipe of a personalization."""

    avatar: GaussianConfig = field(default_factory=GaussianConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    phases: tuple[Phase, ...] = (
        Phase(steps=150, resolution=256, learning_rate=0.02, final_rate=0.4, perceptual_every=0),
        Phase(steps=300, resolution=256, learning_rate=0.01, final_rate=0.8, perceptual_every=0, blendmaps=True),
        Phase(steps=350, resolution=384, learning_rate=0.008, final_rate=0.5, blendmaps=True),
        Phase(steps=700, resolution=512, learning_rate=0.004, final_rate=0.1, blendmaps=True),
    )
    """Stage 1 (the global map), then stage 2 (blendmaps on top of it) from coarse to fine."""
    sides: SideConfig = field(default_factory=SideConfig)
    """Views from the side, which hold what no frame shows."""
    blendmap_rate: float = 0.1
    """Learning rate of the blendmaps over that of the global map: sixteen of them move together."""
    code_rate: float = 0.1
    """Learning rate of the blend code over that of the global map."""
    correction_rate: float = 0.2
    """Learning rate of the correction of tracked parameters over that of the global map."""
    code_noise: float = 0.2
    """Deviation of the noise added to the blend code's coordinates in training."""
    rare_share: float = 0.2
    """Share of the training frames, those with the rarest pose and expression, that are shown three times as often: blinks are few."""
    validation_share: float = 0.04
    """Share of the training frames, one block in their middle, that is only watched: its curve turns down where training overfits."""
    start: Literal["auto", "network", "lifted", "none"] = "auto"
    """What training begins with: colors and hair lifted from training frames and corrected by the generalize stage's network, only lifted,
    or a bald grey head. auto takes the network if it was trained for this head, map size and axes, else what is lifted, and says which."""
    lift_frames: int = 24
    """Training frames whose colors start the avatar."""
    network_frames: int = 12
    """Training frames that the network is shown, two at a time."""
    prior: str | None = None
    """File of another network than the one that ships, from `deja-vu generalize`."""
    perceptual_window: int = 192
    """Side of the random window on the head in which the perceptual term is measured, pixels."""
    random_background: float = 0.5
    """Fraction of steps over a random grey instead of white, which teaches coverage."""
    log_every: int = 20
    """Steps between scalars."""
    picture_every: int = 200
    """Steps between pictures, looks at the watched frames, and checkpoints."""
    seed: int = 0


@torch.no_grad()
def start_avatar(sequence: TrackedSequence, config: PersonalizeConfig) -> GaussianAvatar:
    """Avatar with the tracked identity; hair height and colors come from training frames, the blend code from their parameters.

    Raises:
        ConfigError: the network to start from is for another head, map size or kind of axes.
        MissingAssetError: no network ships, and none is named.
    """
    head = load_head(sequence.info.head_name)
    avatar = GaussianAvatar(head, sequence.params.shape[0], config.avatar)
    avatar.code.fit(sequence.params)
    start = chosen_start(avatar, config)
    print(f"start: {start}")
    if start == "none":
        return avatar
    source = FrameSource(sequence, START_RESOLUTION)
    spread = torch.linspace(0, len(sequence) - 1, min(config.lift_frames, len(sequence))).round().long().unique()
    if config.avatar.axes == "tangent":
        hull = HairHull(len(avatar.layout))
        reach = VISIBLE_DEVIATIONS * avatar.base[:, CHANNELS["log_scale"].start].exp()
        for position in spread:
            batch = source.batch(position[None])
            hull.add(avatar.surface(batch.params), batch.camera, batch.foreground, batch.valid, reach)
        avatar.raise_hair(hull.estimate_heights(avatar.layout, avatar.scalp))
    lift = ColorLift(len(avatar.layout))
    for position in spread:
        batch = source.batch(position[None])
        depth = rasterize_mesh(head(batch.params), head.topology.faces, batch.camera).depth
        surface = avatar.surface(batch.params)
        raised = surface.points + (surface.frames @ avatar.base[:, CHANNELS["position"], None])[..., 0]
        lift.add(replace(surface, points=raised), batch.camera, depth, batch.image, batch.head)
    color = load_atlas(sequence.info.head_name, config.avatar.uv_size).add_mouth(lift.colors(avatar.layout, avatar.scalp), lift.best)
    avatar.base[:, CHANNELS["color"]] = rgb_to_sh(color)
    avatar.unseen.copy_(torch.exp(-lift.weight / len(spread) / DOUBTED_VIEW))
    if start == "network":
        start_from_network(avatar, source, config)
    return avatar


def chosen_start(avatar: GaussianAvatar, config: PersonalizeConfig) -> Literal["network", "lifted", "none"]:
    """What the recipe's start comes to; a network that is named is taken in any case."""
    if config.start != "auto":
        return config.start
    fits = avatar.config.axes == "tangent" and shipped_chart() == avatar.layout.hash
    return "network" if config.prior or fits else "lifted"


def start_from_network(avatar: GaussianAvatar, source: FrameSource, config: PersonalizeConfig) -> None:
    """Begin with the mean of what the network makes of a few pairs of frames, in place.

    It was trained on one or two photos at a time, and corrects what is lifted from these: all frames at once would be less than the sum
    of their pairs, and a hull of many frames needs less correction than that of two. Its colors become the base map. All else that it
    moves becomes a first rectification of the lifted Gaussians, which stay what training holds to: they are solid from all sides, and
    fine detail grows better from regular ones.

    Raises:
        ConfigError: the network is for another head, map size or kind of axes.
        MissingAssetError: no network ships, and none is named.
    """
    prior = load_prior(Path(config.prior) if config.prior else None)
    if (avatar.layout.hash, config.avatar.axes) != (prior.atlas.layout.hash, "tangent"):
        raise ConfigError(
            f"The network makes maps of {prior.config.uv_size} texels a side for head '{prior.config.head}' in tangent axes. "
            "Set the avatar's uv_size and axes to these, or --start lifted."
        )
    count = len(source.sequence)
    shown = torch.linspace(0, count - 1, min(config.network_frames, count)).round().long().unique()
    made = [prior.predict(source.batch(pair)) for pair in shown.split(2)]
    learned = torch.stack([lifted.base + avatar.gains * correction for lifted, correction in made]).mean(0)
    color = CHANNELS["color"]
    avatar.base[:, color] = learned[:, color]
    avatar.rectification.copy_((learned - avatar.base) / avatar.gains)


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
        avatar: trained in place, on the GPU if there is one.
        sequence: training frames.
        config: recipe.
        run: folder for curves, checkpoint and the snapshot of the global map.
        resume: continue from the run's checkpoint.
        observe: called after every step with the number of steps done.

    Raises:
        DivergedError: a term is not finite.
    """
    device = pick_device()
    avatar.to(device)
    wants_perceptual = config.loss.perceptual > 0 and any(phase.perceptual_every for phase in config.phases)
    objective = Objective(config.loss, PerceptualDistance.load().to(device) if wants_perceptual else None)
    optimizer = make_optimizer(avatar, config)
    checkpoint = run / "checkpoint.pt"
    done = load_checkpoint(checkpoint, avatar, optimizer)[0] if resume and checkpoint.is_file() else 0
    trained, watched = hold_out(sequence, config.validation_share)
    avatar.train()
    avatar.code.noise = config.code_noise
    with RunLogger(run, resume_step=done + 1 if resume else None) as logger:
        begin = 0
        for number, phase in enumerate(config.phases, 1):
            end = begin + phase.steps
            if done < end:
                steps = phase_steps(avatar, trained, config, phase, objective, begin, max(done, begin))
                picture = partial(log_pictures, logger, avatar, trained, watched, phase.resolution)
                descend(avatar, optimizer, *steps, logger, checkpoint, picture, observe)
            if done <= end and not phase.blendmaps and number < len(config.phases):
                save_avatar(avatar, run / "global_only.safetensors", {"phase": str(number)})
            begin = end
    avatar.eval()


def hold_out(sequence: TrackedSequence, share: float) -> tuple[TrackedSequence, TrackedSequence]:
    """Frames to train on, and a block in their middle, `share` of them, to watch."""
    count = round(share * len(sequence))
    first = (len(sequence) - count) // 2
    positions = torch.arange(len(sequence))
    held = (positions >= first) & (positions < first + count)
    return sequence.select(positions[~held]), sequence.select(positions[held])


def make_optimizer(avatar: GaussianAvatar, config: PersonalizeConfig) -> torch.optim.Adam:
    """Adam with a relative learning rate for every parameter group.

    Its epsilon lies between the gradients of texels that are seen (1e-6) and of those that are not (3e-8): without it, Adam would
    move unseen texels as fast as seen ones, at random.
    """
    relative = {"rectification": 1.0, "blendmaps": config.blendmap_rate, "code": config.code_rate, "correction": config.correction_rate}
    groups = [{"params": params, "lr": 0.0, "relative": relative[name]} for name, params in avatar.param_groups().items() if params]
    return torch.optim.Adam(groups, eps=5e-8, betas=(0.9, 0.99), fused=True)


def phase_steps(
    avatar: GaussianAvatar, sequence: TrackedSequence, config: PersonalizeConfig, phase: Phase, objective: Objective, begin: int, start: int
) -> tuple[Iterator[Batch], Stretch, Callable[[Batch, int, torch.Generator], Step]]:
    """What the loop needs for one phase that begins at step `begin`, from step `start` on: batches, their stretch, what a step computes."""
    set_trained(avatar, phase)
    source = FrameSource(sequence, phase.resolution)
    device = avatar.base.device
    rare = avatar.code.rarity(sequence.params.to(device)).cpu().topk(round(config.rare_share * len(sequence))).indices
    order = shuffled(len(sequence), phase.batch, phase.steps, seed=config.seed + begin, start=start - begin, again=rare)
    sides = SideViews(avatar, sequence.params, config.sides)

    def compute(batch: Batch, step: int, generator: torch.Generator) -> Step:
        batch, background = batch.to(device), draw_background(config.random_background, generator).to(device)
        out = render_finite(avatar, batch, background, step)
        perceptual = bool(phase.perceptual_every) and step % phase.perceptual_every == 0
        window = head_window(batch.head, config.perceptual_window, generator) if perceptual else None
        terms = objective.terms(out, batch, background, window=window) | avatar.regularizers()
        if config.sides.every and step % config.sides.every == 1 % config.sides.every:
            terms["sides"] = sides.term(avatar, batch.params, batch.camera, generator)
        rare_terms = {"perceptual": phase.perceptual_every, "sides": config.sides.every}
        weighted = terms | {name: terms[name] * every for name, every in rare_terms.items() if name in terms}
        psnr = -10 * math.log10(max(2 * float(terms["huber"].detach()), 1e-8))
        return Step(objective.total(weighted), terms, psnr)

    stretch = Stretch(
        *(f"personalize {phase.resolution}²", begin, start, phase.steps, phase.learning_rate, phase.final_rate),
        *(config.seed, config.log_every, config.picture_every),
    )
    return source.stream(order), stretch, compute


def set_trained(avatar: GaussianAvatar, phase: Phase) -> None:
    """Choose which parameter groups receive gradients in a phase."""
    for name, params in avatar.param_groups().items():
        for parameter in params:
            parameter.requires_grad_(phase.blendmaps or name == "rectification")
            parameter.grad = None


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
def log_pictures(
    logger: RunLogger, avatar: GaussianAvatar, trained: TrackedSequence, watched: TrackedSequence, resolution: int, step: int
) -> None:
    """A fixed training frame, target beside render, and the watched frames' mean PSNR in dB, over white, of the pixels that count."""
    device, middle = avatar.base.device, torch.tensor([len(trained) // 2])
    log_picture(logger, avatar, FrameSource(trained, resolution).batch(middle).to(device), step)
    if len(watched):
        source = FrameSource(watched, resolution)
        spread = torch.linspace(0, len(watched) - 1, min(len(watched), VALIDATION_FRAMES)).round().long().unique()
        avatar.eval()
        scores = []
        white = torch.ones(3, device=device)
        for batch in source.stream(iter(spread[:, None])):
            batch = batch.to(device)
            scores.append(psnr_of(avatar.render(batch.params, batch.camera, white), batch, white))
        avatar.train()
        logger.scalars(step, {"validation/psnr": sum(scores) / len(scores)})
