"""The generalize stage: from many people's photos to a network that turns one photo of another person into a head.

A step draws exercises (`deja_vu.datasets.prior_examples`), lifts their photos, lets the network correct the lifted maps, renders them and
compares. Everything random follows from the recipe's seed, the step and the place in the batch, whoever computes it: so a run
resumes exactly, and two processes do what one does with a batch twice as large.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.avatars.prior.atlas import Lifted
from deja_vu.avatars.prior.config import PriorConfig
from deja_vu.avatars.prior.network import HeadPrior, build_prior, save_prior
from deja_vu.bench.prior_scores import PriorScores, head_makers
from deja_vu.core.batch import Batch
from deja_vu.core.config import dump_config
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.image import WHITE, over
from deja_vu.datasets.config import PeopleConfig
from deja_vu.datasets.prior_examples import Exercise, People
from deja_vu.datasets.shards import ShardSet, is_shards
from deja_vu.io.files import write_json
from deja_vu.io.provenance import commit, machine
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.pipelines.configs import PrepareConfig
from deja_vu.pipelines.evaluate_prior import score_photos
from deja_vu.pipelines.prepare import prepare
from deja_vu.pipelines.run_folder import open_run, refuse_other_recipe, working_folder
from deja_vu.render.base import rasterize
from deja_vu.report.prior_report import portrait_grid, prior_table
from deja_vu.tracking.masks import HeadMasks
from deja_vu.training.checkpoint import load_checkpoint
from deja_vu.training.ema import AveragedModel
from deja_vu.training.logging import RunLogger
from deja_vu.training.loop import Step, Stretch, descend
from deja_vu.training.objective import LossWeights, Objective, head_window
from deja_vu.training.processes import Precision, Processes

STAGE = "generalize"
"""Name of the stage, of its command and of the folder of its recipes."""


@dataclass(frozen=True)
class Phase:
    """One stretch of the training."""

    steps: int
    """Optimiser steps."""
    resolution: int
    """Side of photos and renders, pixels."""
    learning_rate: float
    """Adam's rate at the start of the phase."""
    final_rate: float = 0.3
    """Fraction of the rate that is left at the end; the decay is exponential."""
    perceptual_every: int = 2
    """Steps from one perceptual term to the next; its weight is multiplied accordingly. 0 leaves it out."""


@dataclass(frozen=True)
class GeneralizeConfig:
    """Recipe of the stage."""

    prior: PriorConfig = field(default_factory=PriorConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    people: PeopleConfig = field(default_factory=PeopleConfig)
    loss: LossWeights = field(
        default_factory=lambda: LossWeights(dssim=0.1, perceptual=0.03, eyes_mouth=2.0, position=0.02, scale=0.01, opacity=0.001)
    )
    consistency: float = 0.1
    """Weight of the mean squared difference of maps made from different photos of one person."""
    phases: tuple[Phase, ...] = (
        Phase(steps=6000, resolution=128, learning_rate=6e-4, perceptual_every=0),
        Phase(steps=24000, resolution=256, learning_rate=3e-4, final_rate=0.05),
    )
    """Resolution curriculum."""
    batch: int = 2
    """People a step, over all processes."""
    photo_counts: tuple[float, ...] = (0.7, 0.2, 0.1)
    """Shares of the steps with one, two, three ... photos of each person."""
    apart: float = 0.5
    """Share of the steps with several photos in which each photo makes a map of its own, and the maps should agree."""
    average: float = 0.999
    """Decay of the averaged weights, which are what is kept."""
    perceptual_window: int = 128
    """Side of the random window on the head in which the perceptual term is measured, pixels."""
    random_background: float = 0.5
    """Share of the steps over a random grey instead of white, which teaches coverage."""
    precision: Precision = "auto"
    """Of the network's convolutions."""
    loaders: int = 1
    """Threads that draw exercises ahead of the step that needs them."""
    log_every: int = 20
    picture_every: int = 500
    """Steps between grids of held-out people, and between checkpoints."""
    grid_people: int = 6
    seed: int = 0


@dataclass(frozen=True)
class Exercises:
    """What this process does in one step."""

    positions: Int[Tensor, " B"]
    """Portraits, for messages."""
    exercises: list[Exercise]
    starts: list[Lifted]
    """One for each map that the network is to correct."""
    pictures: Float[Tensor, "P N 4 h h"]
    owner: list[int]
    """Exercise of each start."""
    places: range
    """Places of the exercises in the whole batch."""


def generalize(data: list[Path], out: Path, config: GeneralizeConfig, *, resume: bool, overwrite: bool, read: Sequence[Path] = ()) -> None:
    """Prepare the data where needed, train, and measure on people held out.

    Args:
        data: folders of photos, which are prepared into `out`/shards, or folders of shards.
        out: run folder.
        config: recipe.
        resume: continue an interrupted run.
        overwrite: replace the run that the folder holds, once the new one is whole; prepared shards are kept.
        read: further files that the command reads.

    Raises:
        OutputError: `out` holds what no run wrote, or a run and neither flag is given; it is in use, or cannot be written.
        ConfigError: the run to resume was started with another recipe, or the batch does not divide among the processes.
        InputError: the data cannot be used.
    """
    processes = Processes(config.precision)
    if config.batch % processes.count:
        raise ConfigError(f"A batch of {config.batch} people cannot be shared by {processes.count} processes. Choose a multiple.")
    with ExitStack() as stack:
        if processes.lead:
            run = stack.enter_context(open_run(out, STAGE, inputs=[*data, *read], resume=resume, overwrite=overwrite))
            if resume:
                refuse_other_recipe(run.folder, config)
            run.note()
            if not (resume and (run.folder / "config.yaml").is_file()):
                dump_config(config, run.folder / "config.yaml")
            if photos := [folder for folder in data if not is_shards(folder)]:
                prepare(photos, out / "shards", config.prepare)
        processes.wait()
        learn(data, out, config, processes, resume=resume)
    processes.close()


def learn(data: list[Path], out: Path, config: GeneralizeConfig, processes: Processes, *, resume: bool) -> None:
    """Train and measure in the open run of the leading process; see `generalize`."""
    folder = working_folder(out)
    shards = ShardSet(gathered(data, out))
    if shards.head_name != config.prior.head or not shards.part("train"):
        raise InputError(f"The shards hold {len(shards.part('train'))} portraits to train on, of head '{shards.head_name}'.")
    torch.manual_seed(config.seed)
    prior, averaged = train(shards, config, folder, processes, resume=resume)
    if processes.lead:
        facts = {
            "commit": commit(),
            "machine": machine(),
            "steps": str(sum(phase.steps for phase in config.phases)),
            "seed": str(config.seed),
        }
        save_prior(averaged, folder / "prior.safetensors", facts)
        scores = PriorScores(head_makers({"network": averaged}))
        score_photos(scores, shards, shards.part("test"), config.phases[-1].resolution)
        size = sum(parameter.numel() for parameter in prior.parameters())
        write_json(folder / "metrics.json", {"parameters": size, **facts, "validation": scores.rows(), "config": asdict(config)})
        print(prior_table(scores.rows()))


def gathered(data: list[Path], out: Path) -> list[Path]:
    """Folders of shards: those that are given, and the one that photos were prepared into."""
    shards = [folder for folder in data if is_shards(folder)]
    return shards if len(shards) == len(data) else [*shards, out / "shards"]


def train(shards: ShardSet, config: GeneralizeConfig, run: Path, processes: Processes, *, resume: bool) -> tuple[HeadPrior, HeadPrior]:
    """Run all phases; an interrupt leaves a checkpoint from which the same numbers follow.

    Args:
        shards: prepared portraits.
        config: recipe.
        run: folder for curves and the checkpoint.
        processes: this process and the others.
        resume: continue from the run's checkpoint.

    Returns:
        The network and its average.

    Raises:
        DivergedError: a term is not finite.
    """
    prior = build_prior(config.prior).to(processes.device)
    averaged = AveragedModel(prior, config.average).to(processes.device)
    optimizer = torch.optim.Adam([{"params": list(prior.parameters()), "lr": 0.0, "relative": 1.0}], betas=(0.9, 0.99))
    optimizer.register_step_post_hook(lambda *_: averaged.follow(prior))
    both, checkpoint = nn.ModuleList([prior, averaged]), run / "checkpoint.pt"
    done = load_checkpoint(checkpoint, both, optimizer)[0] if resume and checkpoint.is_file() else 0
    wrapped = processes.wrap(prior)
    wanted = config.loss.perceptual > 0 and any(phase.perceptual_every for phase in config.phases)
    objective = Objective(config.loss, PerceptualDistance.load().to(processes.device) if wanted else None)
    masks = HeadMasks(prior.atlas.head)
    with ExitStack() as stack:
        logger = stack.enter_context(RunLogger(run, resume_step=done + 1 if resume else None)) if processes.lead else None
        begin = 0
        for phase in config.phases:
            start, end = max(done, begin), begin + phase.steps
            if start < end:
                people = People(
                    *(shards, shards.part("train"), prior.atlas, lambda params, camera, side: masks.render(params, camera, side)[1]),
                    *(config.people, phase.resolution),
                )
                stretch = Stretch(
                    *(f"generalize {phase.resolution}²", begin, start, phase.steps, phase.learning_rate, phase.final_rate),
                    *(config.seed, config.log_every, config.picture_every),
                )
                compute = Compute(wrapped, prior, config, phase, objective, processes)
                show = partial(show_grid, logger, averaged, shards, phase.resolution, config.grid_people)
                descend(both, optimizer, drawn(people, prior, config, (start, end), processes), stretch, compute, logger, checkpoint, show)
            begin = end
    assert isinstance(averaged.model, HeadPrior)
    return prior.eval(), averaged.model


def drawn(people: People, prior: HeadPrior, config: GeneralizeConfig, span: tuple[int, int], processes: Processes) -> Iterator[Exercises]:
    """This process' share of every step from span[0] to span[1], drawn by threads ahead of time."""
    with ThreadPoolExecutor(config.loaders) as pool:
        waiting: deque[Future[Exercises]] = deque()
        for step in range(*span):
            waiting.append(pool.submit(draw, people, prior, config, step, processes))
            if len(waiting) > 2 * config.loaders:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def draw(people: People, prior: HeadPrior, config: GeneralizeConfig, step: int, processes: Processes) -> Exercises:
    """This process' exercises of one step, lifted."""
    common = np.random.default_rng([config.seed, step])
    count = 1 + int(common.choice(len(config.photo_counts), p=np.array(config.photo_counts) / sum(config.photo_counts)))
    apart = count > 1 and common.random() < config.apart
    mine = range(processes.rank, config.batch, processes.count)
    exercises = [people.exercise(count, np.random.default_rng([config.seed, step, place])) for place in mine]
    starts, pictures, owner = [], [], []
    for place, exercise in enumerate(exercises):
        photos = exercise.photos
        for group in [photos.frame(number) for number in range(count)] if apart else [photos]:
            starts.append(prior.lift(group))
            pictures.append(prior.prepare_photos(group))
            owner.append(place)
    return Exercises(torch.tensor([e.entry for e in exercises]), exercises, starts, torch.stack(pictures), owner, mine)


class Compute:
    """Terms and loss of one step."""

    def __init__(
        self, wrapped: nn.Module, prior: HeadPrior, config: GeneralizeConfig, phase: Phase, objective: Objective, processes: Processes
    ) -> None:
        self.wrapped, self.prior, self.config, self.phase, self.objective, self.processes = (
            wrapped,
            prior,
            config,
            phase,
            objective,
            processes,
        )

    def __call__(self, drawn: Exercises, step: int, generator: torch.Generator) -> Step:
        """Correct, render, compare.

        Args:
            drawn: this process' exercises.
            step: number of the step.
            generator: source of the background, the same in every process.
        """
        config, device = self.config, self.processes.device
        grey = torch.rand((), generator=generator)
        background = (grey.expand(3) if torch.rand((), generator=generator) < config.random_background else WHITE).to(device)
        every = self.phase.perceptual_every
        perceptual = every > 0 and step % every == 0
        with self.processes.autocast():
            corrections = self.wrapped(drawn.starts, drawn.pictures.to(device)).float().cpu()
        rows: list[dict[str, Tensor]] = []
        images = 0
        for start, correction, owner in zip(drawn.starts, corrections, drawn.owner, strict=True):
            target = drawn.exercises[owner].targets.to(device)
            gaussians = self.prior.atlas.gaussians(start, correction, drawn.exercises[owner].targets.params).to(device)
            out = rasterize(gaussians, target.camera, background.expand(len(target.params), 3))
            chance = torch.Generator().manual_seed((config.seed * 1_000_003 + step) * config.batch + drawn.places[owner])
            window = head_window(target.head, config.perceptual_window, chance) if perceptual else None
            terms = self.objective.terms(out, target, background, window=window)
            rows.append(terms | self._held(correction) | {"psnr": _psnr(out.rgb.detach(), target, background)})
            images += len(target.params)
        terms = {name: torch.stack([row[name].cpu() for row in rows]).mean() for name in rows[0]}
        psnr = terms.pop("psnr")
        weighted = {name: value * (every if name == "perceptual" else 1) for name, value in terms.items()}
        loss = self.objective.total(weighted)
        if len(drawn.owner) > len(drawn.exercises):
            terms["consistency"] = self._disagreement(drawn, corrections)
            loss = loss + config.consistency * terms["consistency"]
        shown = self.processes.mean(terms | {"psnr": psnr})
        return Step(loss, shown, float(shown.pop("psnr")), images * self.processes.count)

    def _held(self, correction: Float[Tensor, "M 13"]) -> dict[str, Tensor]:
        """How far a correction goes; hair may travel."""
        free = torch.where(self.prior.atlas.scalp, 0.05, 1.0)
        return {
            "position": (correction[:, CHANNELS["position"]].square().sum(-1) * free).mean(),
            "scale": correction[:, CHANNELS["log_scale"]].square().sum(-1).mean(),
            "opacity": correction[:, CHANNELS["opacity_logit"]].square().mean(),
        }

    def _disagreement(self, drawn: Exercises, corrections: Float[Tensor, "P M 13"]) -> Float[Tensor, ""]:
        """Mean squared difference of one person's maps from their mean, in units of `GAINS`."""
        maps = torch.stack([start.base for start in drawn.starts]) / self.prior.atlas.gains + corrections
        by_person = maps.unflatten(0, (len(drawn.exercises), -1))
        return (by_person - by_person.mean(1, keepdim=True)).square().mean()


def _psnr(rgb: Tensor, target: Batch, background: Tensor) -> Tensor:
    """Of one person's views over the background, dB."""
    wanted = over(target.image, target.head, background)
    return -10 * ((rgb - wanted).square() * target.loss_mask).mean().clamp_min(1e-10).log10()


@torch.no_grad()
def show_grid(logger: RunLogger | None, averaged: AveragedModel, shards: ShardSet, resolution: int, count: int, step: int) -> None:
    """Held-out people, the same every time: photo, lifted, corrected, and the corrected head's sides and expressions."""
    numbers = shards.part("test") or shards.part("train")
    chosen = [numbers[place] for place in np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)]
    assert logger is not None
    assert isinstance(averaged.model, HeadPrior)
    logger.image(step, "held_out/photo_lifted_network_looks", portrait_grid(averaged.model, shards, chosen, resolution))
