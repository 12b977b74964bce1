"""The generalize stage: from many people's photos to a network that turns one photo of another person into a head.

People are drawn (`deja_vu.datasets.prior_examples`), varied and lifted ahead of the step that needs them; what a step makes of them is
`deja_vu.training.prior`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deja_vu.avatars.prior.network import HeadPrior, save_prior
from deja_vu.core.config import config_text
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.datasets.prior_examples import PriorSampler
from deja_vu.datasets.shards import ShardSet, is_shards
from deja_vu.io.files import write_atomic
from deja_vu.pipelines.ahead import draw_ahead
from deja_vu.pipelines.configs import STAGE, GeneralizeConfig
from deja_vu.pipelines.generalize_field import learn_field
from deja_vu.pipelines.generalize_report import origin, report_scores, spread
from deja_vu.pipelines.identity import refuse_other_recipe
from deja_vu.pipelines.own_files import kind_of
from deja_vu.pipelines.prepare import prepare
from deja_vu.pipelines.run_folder import open_run, working_folder
from deja_vu.report.prior_report import portrait_rows, portrait_scores
from deja_vu.tracking.masks import HeadMasks
from deja_vu.training.checkpoint import fingerprint
from deja_vu.training.devices import device_name
from deja_vu.training.logging import RunLogger
from deja_vu.training.prior import PriorBatch, PriorTask
from deja_vu.training.prior_config import PriorPhase
from deja_vu.training.processes import Processes
from deja_vu.training.trainer import Trainer
from deja_vu.training.validation import VALIDATION_PICTURE, VALIDATION_PSNR


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
    processes = Processes(config.precision, config.device)
    if config.path == "nerf" and processes.count > 1:
        raise ConfigError(f"--path nerf trains in one process, not in {processes.count}. Start it without torchrun.")
    if config.batch % processes.count:
        raise ConfigError(f"A batch of {config.batch} people cannot be shared by {processes.count} processes. Choose a multiple.")
    with ExitStack() as stack:
        if processes.lead:
            run = stack.enter_context(open_run(out, STAGE, inputs=[*data, *read], resume=resume, overwrite=overwrite))
            if resume:
                refuse_other_recipe(run.folder, config)
            run.note(source=" ".join(map(str, data)), recipe_sha256=fingerprint(config))
            if not (resume and (run.folder / "config.yaml").is_file()):
                write_atomic(run.folder / "config.yaml", config_text(config))
            if photos := [folder for folder in data if not is_shards(folder)]:
                prepare(photos, out / "shards", config.prepare, resume=kind_of(out / "shards") is not None)
        processes.wait()
        folder, shards = working_folder(out), ShardSet(gather_shards(data, out))
        if config.path == "nerf":
            learn_field(shards, folder, config, processes.device, resume=resume)
        else:
            learn(shards, folder, config, processes, resume=resume)
    processes.close()


def learn(shards: ShardSet, folder: Path, config: GeneralizeConfig, processes: Processes, *, resume: bool) -> None:
    """Train and measure the Gaussian prior in the open run of the leading process; see `generalize`."""
    if shards.head_name != config.prior.head or not shards.part("train"):
        raise InputError(f"The shards hold {len(shards.part('train'))} portraits to train on, of head '{shards.head_name}'.")
    torch.manual_seed(config.seed)
    prior = train(shards, config, folder, processes, resume=resume)
    if processes.lead:
        facts = {**origin(config), "device": device_name(processes.device), "steps": str(sum(phase.steps for phase in config.phases))}
        save_prior(prior, folder / "prior.safetensors", facts)
        report_scores(shards, prior, folder, config, facts, processes.device)


def gather_shards(data: list[Path], out: Path) -> list[Path]:
    """Folders of shards: those that are given, and the one that photos were prepared into."""
    shards = [folder for folder in data if is_shards(folder)]
    return shards if len(shards) == len(data) else [*shards, out / "shards"]


def train(shards: ShardSet, config: GeneralizeConfig, run: Path, processes: Processes, *, resume: bool) -> HeadPrior:
    """Run all phases; an interrupt leaves a checkpoint from which the same numbers follow.

    Args:
        shards: prepared portraits.
        config: recipe.
        run: folder for curves and the checkpoint.
        processes: this process and the others.
        resume: continue from the run's checkpoint.

    Returns:
        The average of the network's weights as it was when it did best on watched people.

    Raises:
        DivergedError: a term is not finite.
    """
    task = GeneralizeTask(config, processes, shards)
    Trainer(task, config, run, resume=resume, lead=processes.lead).fit()
    assert isinstance(task.best.model, HeadPrior)
    return task.best.model


class GeneralizeTask(PriorTask):
    """The training of the prior on people from shards."""

    def __init__(self, config: GeneralizeConfig, processes: Processes, shards: ShardSet) -> None:
        super().__init__(config, processes)
        self.recipe, self.shards = config, shards
        self.learned_from = fingerprint([(entry.key, entry.split, sorted(entry.places.items())) for entry in shards.entries])
        self.masks = HeadMasks(self.prior.atlas.head)
        self.learned, self.watched = shards.watch(config.watched_share)

    def batches(self, phase: PriorPhase, begin: int, start: int) -> Iterator[PriorBatch]:
        """This process' share of every step, drawn by threads ahead of time."""
        self.phase = phase
        people = PriorSampler(
            self.shards,
            self.learned,
            self.prior.atlas,
            lambda params, camera, side: self.masks.render(params, camera, side)[1],
            self.recipe.people,
            phase.resolution,
        )
        return draw_ahead(partial(self.draw, people), range(start, begin + phase.steps), self.recipe.loaders)

    def draw(self, people: PriorSampler, step: int) -> PriorBatch:
        """This process' examples of one step, lifted."""
        recipe, prior = self.recipe, self.prior
        common = np.random.default_rng([recipe.seed, step])
        count = 1 + int(common.choice(len(recipe.photo_counts), p=np.array(recipe.photo_counts) / sum(recipe.photo_counts)))
        apart = count > 1 and common.random() < recipe.apart
        mine = range(self.processes.rank, recipe.batch, self.processes.count)
        examples = [people.draw(count, np.random.default_rng([recipe.seed, step, place])) for place in mine]
        starts, pictures, owner = [], [], []
        for person, example in enumerate(examples):
            photos = example.photos
            for group in [photos.frame(number) for number in range(count)] if apart else [photos]:
                starts.append(prior.lift(group))
                pictures.append(prior.prepare_photos(group))
                owner.append(person)
        return PriorBatch(
            positions=torch.tensor([example.index for example in examples]),
            targets=[example.targets for example in examples],
            starts=starts,
            pictures=torch.stack(pictures),
            owner=owner,
            places=mine,
        )

    def validate(self, logger: RunLogger, step: int) -> None:
        """Watched people, the same every time, decide which state is kept; where none are watched the last one is."""
        averaged, numbers, side = self.averaged.model, self.watched or self.learned, self.phase.resolution
        assert isinstance(averaged, HeadPrior)
        rows = portrait_rows(averaged, self.shards, spread(numbers, self.recipe.grid_people), side)
        logger.image(step, VALIDATION_PICTURE, torch.cat([row.beside for row in rows]))
        logger.image(step, "validation/photo_lifted_prior_looks", torch.cat([row.drawn for row in rows]))
        scores = portrait_scores(averaged, self.shards, spread(numbers, self.recipe.watched_people), side)
        score = sum(scores) / len(scores)
        logger.scalars(step, {VALIDATION_PSNR: score})
        self.best.offer(averaged, score if self.watched else step)
