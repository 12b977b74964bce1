"""The training loop of every path. A path is a `Task`: its parameters, its batches, and `compute`, which is one training step."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from deja_vu.core.config import config_text
from deja_vu.io.provenance import commit
from deja_vu.training.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from deja_vu.training.config import Phase, TrainConfig
from deja_vu.training.divergence import refuse_divergence
from deja_vu.training.interrupt import interrupts_wait
from deja_vu.training.logging import RunLogger, RunningMeans
from deja_vu.training.optimizer import make_adam
from deja_vu.training.schedule import AnyPhase, begins

CHECKPOINT = "checkpoint.pt"


@runtime_checkable
class Positioned(Protocol):
    """The data of one step."""

    @property
    def positions(self) -> Int[Tensor, " B"]:
        """Frames or portraits, which messages about this step name."""


AnyBatch = TypeVar("AnyBatch", bound=Positioned)


def step_seed(config: TrainConfig, step: int) -> int:
    """Of all random numbers of a step."""
    return config.seed * 1_000_003 + step


@dataclass(frozen=True)
class StepResult:
    """What one step computed."""

    terms: Mapping[str, Float[Tensor, ""]]
    """Unweighted; only those that this step has."""
    weights: Mapping[str, float]
    """Weight of every term as it acts in this step: a term that comes every fourth step weighs four times as much then."""
    psnr: Float[Tensor, ""]
    """Of the training frames, dB."""
    images: int = 1
    """Pictures rendered, over all processes."""

    def total(self) -> Float[Tensor, ""]:
        """What is minimized."""
        return sum((self.weights[name] * value for name, value in self.terms.items()), torch.zeros(()))


class Task(ABC, Generic[AnyPhase, AnyBatch]):
    """What the loop needs from a path."""

    label: str
    """Shown before the progress bar."""
    model: nn.Module
    """All that is trained, as checkpoints hold it."""
    phase: AnyPhase
    """The current phase, set by `batches`."""
    learned_from: str
    """Fingerprint of the video or the photos."""
    rates: Any
    """Dataclass with a field for every parameter group, see `make_adam`."""

    @property
    def on_host(self) -> bool:
        """Whether a step's values can be looked at without waiting for a device."""
        return next(self.model.parameters()).is_cpu

    @abstractmethod
    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by name of their group."""

    @abstractmethod
    def batches(self, phase: AnyPhase, begin: int, start: int) -> Iterator[AnyBatch]:
        """Enter a phase that begins at step `begin` of the run; the batches of its steps, from step `start` of the run on."""

    @abstractmethod
    def compute(self, batch: AnyBatch, step: int, generator: torch.Generator) -> StepResult:
        """One training step up to its terms; all of its random numbers come from the generator, which is torch's own."""

    @abstractmethod
    def validate(self, logger: RunLogger, step: int) -> None:
        """Pictures, and scores on what is not trained on."""

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Means over the processes that work on one step."""
        return values

    def after_step(self) -> None:
        """Do what must follow every update of the parameters."""

    def end_phase(self, phase: AnyPhase, number: int) -> None:
        """Do what must follow a phase; `number` is its place in the schedule, from one."""


@dataclass(frozen=True)
class StepValues:
    """The values of a step, on the device that computed them."""

    number: int
    positions: Int[Tensor, " B"]
    values: Mapping[str, Float[Tensor, ""]]
    """Terms, and `psnr`."""
    weights: Mapping[str, float]


class Trainer:
    """One run of a task: its optimizer, its progress, its folder."""

    def __init__(
        self, task: Task, config: TrainConfig, run: Path, *, resume: bool, lead: bool = True, started: float | None = None
    ) -> None:
        """Begin, or continue from the run's checkpoint.

        Args:
            task: path, trained in place.
            config: phases, optimizer, how often to log and save.
            run: folder for curves and the checkpoint.
            resume: continue from the run's checkpoint, if there is one.
            lead: this process, one of several perhaps, writes into the run.
            started: `time.monotonic()` when the work on this path began; now, if it is left out.

        Raises:
            FormatError: the checkpoint cannot be used.
        """
        self.task, self.config, self.run, self.resume, self.lead = task, config, run, resume, lead
        self.started = time.monotonic() if started is None else started
        self.whose = {"recipe": fingerprint(config), "source": task.learned_from}
        self.optimizer = make_adam(task.param_groups(), task.rates, config.adam)
        self.step, self.earlier, self.means = 0, 0.0, RunningMeans()
        self.unread: list[StepValues] = []
        """Steps that a GPU has run since anybody looked at their values, for which the host has to wait."""
        if resume and (run / CHECKPOINT).is_file():
            expected = {"seconds": float, "means": dict}
            self.step, kept = load_checkpoint(run / CHECKPOINT, task.model, self.optimizer, whose=self.whose, expected=expected)
            self.earlier, self.means = kept["seconds"], RunningMeans(kept["means"])

    def fit(self, on_step: Callable[[int], None] | None = None) -> float:
        """Train through all phases; an interrupt leaves a checkpoint from which the same numbers follow.

        Args:
            on_step: called after every step with the number of steps done.

        Returns:
            Seconds since the start, and those of the attempts that this one continues.

        Raises:
            DivergedError: a value is not finite.
        """
        task, config, optimizer, done = self.task, self.config, self.optimizer, self.step
        task.model.train()
        with self._logger() as logger, self._saved_on_interrupt():
            if logger is not None:
                logger.text(done, "config", config_text(config))
                logger.text(done, "commit", commit())
            for number, (phase, begin) in enumerate(begins(config.phases), 1):
                end = begin + phase.steps
                for batch in self._batches(phase, begin, number):
                    # All of a step's random numbers follow from its number, so that one cut short by Ctrl-C can be repeated.
                    generator = torch.manual_seed(step_seed(config, self.step))
                    for group in optimizer.param_groups:
                        group["lr"] = phase.rate(self.step - begin, group["relative"])
                    result = task.compute(batch, self.step, generator)
                    values = {name: value.detach() for name, value in {**result.terms, "psnr": result.psnr}.items()}
                    self.unread.append(StepValues(self.step, batch.positions, values, result.weights))
                    read = self._read() if task.on_host else []
                    optimizer.zero_grad(set_to_none=True)
                    result.total().backward()
                    with interrupts_wait():
                        optimizer.step()
                        task.after_step()
                        self.step += 1
                        logs = self.step % config.log_every == 0
                        saves = self.step % config.picture_every == 0 or self.step == end
                        for numbers, weights in read or (self._read() if logs or saves else []):
                            self.means.add(numbers, weights)
                        if logs:
                            self._log(logger, result.images)
                    if saves:
                        if logger is not None:
                            task.validate(logger, self.step)
                        self._save()
                    if on_step is not None:
                        on_step(self.step)
                if done <= end:
                    task.end_phase(phase, number)
        task.model.eval()
        return self._seconds()

    def _read(self, *, alone: bool = False) -> list[tuple[dict[str, float], Mapping[str, float]]]:
        """Values and weights of the unread steps: on a CPU of each before the parameters move, on a GPU at every log.

        Args:
            alone: of this process, without the others' share, which may not be at this step.

        Raises:
            DivergedError: a value is not finite.
        """
        steps, self.unread = self.unread, []
        if not steps:
            return []
        values = torch.stack([step.values[name] for step in steps for name in step.values])
        numbers = iter((values if alone else self.task.mean(values)).tolist())
        found = [({name: next(numbers) for name in step.values}, step.weights) for step in steps]
        for step, (read, _) in zip(steps, found, strict=True):
            refuse_divergence({name: value for name, value in read.items() if name != "psnr"}, step.positions, step.number)
        return found

    def _batches(self, phase: Phase, begin: int, number: int) -> Iterator[Positioned]:
        """Batches of the remaining steps of a phase, behind a progress bar."""
        if self.step < begin + phase.steps:
            batches = self.task.batches(phase, begin, self.step)
            label = f"{self.task.label} {number}/{len(self.config.phases)}, {phase.resolution}²"
            with tqdm(batches, label, phase.steps, unit="it", initial=self.step - begin, disable=not self.lead) as self.bar:
                yield from self.bar

    def _log(self, logger: RunLogger | None, images: int) -> None:
        """Write means since the last log, every group's learning rate and the speed; show total and PSNR behind the bar."""
        means, rate = self.means.drain(), self.bar.format_dict["rate"] or 0.0
        rates = {f"lr/{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        if logger is not None:
            logger.scalars(self.step, {**means, **rates, "time/it_per_s": rate, "time/images_per_s": rate * images})
        self.bar.set_postfix(loss=f"{means['loss/total']:.4f}", psnr=f"{means['metric/psnr']:.1f}")

    def _logger(self) -> AbstractContextManager[RunLogger | None]:
        return RunLogger(self.run, resume_step=self.step + 1 if self.resume else None) if self.lead else nullcontext()

    @contextmanager
    def _saved_on_interrupt(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.unread = [values for values in self.unread if values.number < self.step]
            for numbers, weights in self._read(alone=True):
                self.means.add(numbers, weights)
            self._save()
            raise

    def _save(self) -> None:
        if self.lead:
            extra = {"seconds": self._seconds(), "means": self.means.state}
            save_checkpoint(self.run / CHECKPOINT, self.step, self.task.model, self.optimizer, extra, whose=self.whose)

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started
