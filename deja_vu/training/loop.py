"""The loop of every path: seeded steps, named terms, a rate that decays, curves, pictures, checkpoints, resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from deja_vu.core.errors import DivergedError
from deja_vu.training.checkpoint import save_checkpoint
from deja_vu.training.interrupt import interrupts_wait
from deja_vu.training.logging import RunLogger

REMEDY = "Lower the learning rate, or track the video again if its frames' parameters are to blame."


class Work(Protocol):
    """What one step is computed from."""

    @property
    def positions(self) -> Tensor:
        """Frames or portraits that a message about this step names."""


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Step:
    """What one step computed."""

    loss: Tensor
    """To be minimised."""
    terms: dict[str, Tensor]
    """Unweighted."""
    psnr: float
    """Of the training frames, dB."""
    images: int | None = None
    """Pictures rendered, over all processes; None stands for one for each position."""


@dataclass(frozen=True)
class Stretch:
    """Which steps a call of the loop does, and at which rate."""

    label: str
    """Shown before the progress bar."""
    begin: int
    """First step of the phase."""
    start: int
    """Step to start or resume from."""
    steps: int
    """Length of the phase."""
    rate: float
    """Learning rate at its begin; every parameter group has its own factor, `relative`."""
    final_rate: float
    """Fraction of the rate left at its end; the decay is exponential."""
    seed: int = 0
    log_every: int = 20
    picture_every: int = 250
    """Steps between pictures, and between checkpoints."""


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[AnyWork],
    stretch: Stretch,
    compute: Callable[[AnyWork, int, torch.Generator], Step],
    logger: RunLogger | None,
    checkpoint: Path,
    picture: Callable[[int], None],
    observe: Callable[[int], None] = lambda step: None,
) -> None:
    """One phase of an optimisation; an interrupt leaves a checkpoint from which the same numbers follow.

    Args:
        model: saved in checkpoints.
        optimizer: its groups' learning rates are set before every step.
        batches: one a step, from step `start` on.
        stretch: which steps.
        compute: terms and loss of one step; all of its random numbers must come from torch's default generator, which is given.
        logger: of the run; None where this process, one of several, writes nothing.
        checkpoint: file.
        picture: draws something to look at.
        observe: called after every step with the number of steps done.

    Raises:
        DivergedError: a term is not finite.
    """
    step = stretch.start
    bar = tqdm(batches, total=stretch.steps, initial=step - stretch.begin, desc=stretch.label, unit="it", disable=logger is None)
    try:
        for batch in bar:
            # All of a step's random numbers follow from its number, so that a step cut short by Ctrl-C can be repeated.
            generator = torch.manual_seed(stretch.seed * 1_000_003 + step)
            progress = (step - stretch.begin) / stretch.steps
            for group in optimizer.param_groups:
                group["lr"] = stretch.rate * group["relative"] * stretch.final_rate**progress
            done = compute(batch, step, generator)
            refuse_divergence(done.terms, batch.positions, step)
            optimizer.zero_grad(set_to_none=True)
            done.loss.backward()
            with interrupts_wait():
                optimizer.step()
                step += 1
            if logger is not None and step % stretch.log_every == 0:
                log_step(logger, bar, done, optimizer, step, len(batch.positions) if done.images is None else done.images)
            if logger is not None and step % stretch.picture_every == 0:
                picture(step)
                save_checkpoint(checkpoint, step, model, optimizer)
            observe(step)
    except KeyboardInterrupt:
        if logger is not None:
            save_checkpoint(checkpoint, step, model, optimizer)
        raise
    if logger is not None:
        save_checkpoint(checkpoint, step, model, optimizer)


def refuse_divergence(terms: dict[str, Tensor], positions: Tensor, step: int) -> None:
    """Stop at the first value that is not finite, naming the term and the frames."""
    for name, value in terms.items():
        number = float(value.detach())
        if not math.isfinite(number):
            raise DivergedError(f"The term '{name}' became {number} at step {step} on frames {positions.tolist()}. {REMEDY}")


def log_step(logger: RunLogger, bar: tqdm, done: Step, optimizer: torch.optim.Optimizer, step: int, images: int) -> None:
    """Scalars of one step on some images, and the bar's postfix."""
    scalars = {f"loss/{name}": float(value.detach()) for name, value in done.terms.items()}
    rate = bar.format_dict["rate"] or 0.0
    scalars |= {"loss/total": float(done.loss.detach()), "metric/psnr": done.psnr}
    scalars |= {"lr": optimizer.param_groups[0]["lr"], "time/it_per_s": rate, "time/images_per_s": rate * images}
    logger.scalars(step, scalars)
    bar.set_postfix(loss=f"{float(done.loss.detach()):.4f}", psnr=f"{done.psnr:.1f}")
