"""The generalize stage: from many people's photos to a network that turns one photo of another person into a head.

People are drawn (`deja_vu.datasets.prior_examples`), varied and lifted ahead of the step that needs them; what a step makes of them is
`deja_vu.training.prior`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from deja_vu.avatars.prior.network import HeadPrior, save_prior
from deja_vu.bench.metrics import METRICS
from deja_vu.bench.prior_scores import PriorScores, head_makers
from deja_vu.core.config import config_text
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.datasets.prior_examples import PriorSampler
from deja_vu.datasets.shards import ShardSet, is_shards
from deja_vu.io.files import write_atomic, write_json
from deja_vu.io.provenance import commit
from deja_vu.pipelines.configs import STAGE, GeneralizeConfig
from deja_vu.pipelines.evaluate_prior import score_photos
from deja_vu.pipelines.identity import refuse_other_recipe
from deja_vu.pipelines.own_files import kind_of
from deja_vu.pipelines.prepare import prepare
from deja_vu.pipelines.run_folder import open_run, working_folder
from deja_vu.report.prior_report import portrait_rows, prior_table
from deja_vu.tracking.masks import HeadMasks
from deja_vu.training.checkpoint import fingerprint
from deja_vu.training.devices import device_name
from deja_vu.training.logging import RunLogger, log_hparams
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
        learn(data, out, config, processes, resume=resume)
    processes.close()


def learn(data: list[Path], out: Path, config: GeneralizeConfig, processes: Processes, *, resume: bool) -> None:
    """Train and measure in the open run of the leading process; see `generalize`."""
    folder = working_folder(out)
    shards = ShardSet(gather_shards(data, out))
    if shards.head_name != config.prior.head or not shards.part("train"):
        raise InputError(f"The shards hold {len(shards.part('train'))} portraits to train on, of head '{shards.head_name}'.")
    torch.manual_seed(config.seed)
    prior, averaged = train(shards, config, folder, processes, resume=resume)
    if processes.lead:
        facts = {
            "commit": commit(),
            "machine": device_name(processes.device),
            "steps": str(sum(phase.steps for phase in config.phases)),
            "seed": str(config.seed),
        }
        save_prior(averaged, folder / "prior.safetensors", facts)
        scores = PriorScores(head_makers({"network": averaged}), processes.device)
        score_photos(scores, shards, shards.part("test"), config.phases[-1].resolution)
        size = sum(parameter.numel() for parameter in prior.parameters())
        write_json(folder / "metrics.json", {"parameters": size, **facts, "validation": scores.rows(), "config": asdict(config)})
        final = {
            f"{row['set']}/{row['task']}/{row['method']}/{name}": row[name] for row in scores.rows() for name in METRICS if name in row
        }
        log_hparams(folder, config, final)
        print(prior_table(scores.rows()))


def gather_shards(data: list[Path], out: Path) -> list[Path]:
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
    task = GeneralizeTask(config, processes, shards)
    Trainer(task, config, run, resume=resume, lead=processes.lead).fit()
    assert isinstance(task.averaged.model, HeadPrior)
    return task.prior, task.averaged.model


class GeneralizeTask(PriorTask):
    """The training of the prior on people from shards."""

    def __init__(self, config: GeneralizeConfig, processes: Processes, shards: ShardSet) -> None:
        super().__init__(config, processes)
        self.recipe, self.shards = config, shards
        self.learned_from = fingerprint([(entry.key, entry.split, sorted(entry.places.items())) for entry in shards.entries])
        self.masks = HeadMasks(self.prior.atlas.head)

    def batches(self, phase: PriorPhase, begin: int, start: int) -> Iterator[PriorBatch]:
        """This process' share of every step, drawn by threads ahead of time."""
        self.phase = phase
        people = PriorSampler(
            self.shards,
            self.shards.part("train"),
            self.prior.atlas,
            lambda params, camera, side: self.masks.render(params, camera, side)[1],
            self.recipe.people,
            phase.resolution,
        )
        with ThreadPoolExecutor(self.recipe.loaders) as pool:
            waiting: deque[Future[PriorBatch]] = deque()
            for step in range(start, begin + phase.steps):
                waiting.append(pool.submit(self.draw, people, step))
                if len(waiting) > 2 * self.recipe.loaders:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

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
        """Held-out people, the same every time; people of the training where none are held out."""
        numbers = self.shards.part("test") or self.shards.part("train")
        spread = np.linspace(0, len(numbers) - 1, min(self.recipe.grid_people, len(numbers))).round().astype(int)
        assert isinstance(self.averaged.model, HeadPrior)
        rows = portrait_rows(self.averaged.model, self.shards, [numbers[place] for place in spread], self.phase.resolution)
        logger.image(step, VALIDATION_PICTURE, torch.cat([row.beside for row in rows]))
        logger.image(step, "validation/photo_lifted_prior_looks", torch.cat([row.looks for row in rows]))
        logger.scalars(step, {VALIDATION_PSNR: sum(row.psnr for row in rows) / len(rows)})
