"""The loop on the smallest of tasks: a line through points."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deja_vu.core.errors import DivergedError, FormatError
from deja_vu.training.checkpoint import spent_seconds
from deja_vu.training.config import Phase, TrainConfig
from deja_vu.training.logging import RunLogger
from deja_vu.training.trainer import CHECKPOINT, StepResult, Task, Trainer


@dataclass(frozen=True)
class Points:
    positions: Int[Tensor, " B"]
    x: Float[Tensor, "n 1"]


@dataclass(frozen=True)
class Rates:
    line: float = 0.1


class LineTask(Task[Phase, Points]):
    """y = 3 x + 1 from random x."""

    label = "line"
    learned_from = "nothing"
    rates = Rates()

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1)
        self.validated: list[int] = []

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"line": list(self.model.parameters())}

    def batches(self, phase: Phase, begin: int, start: int) -> Iterator[Points]:
        self.phase = phase
        for step in range(start, begin + phase.steps):
            yield Points(torch.tensor([step]), torch.linspace(-1, 1, 5)[:, None])

    def compute(self, batch: Points, step: int, generator: torch.Generator) -> StepResult:
        loss = (self.model(batch.x) - 3 * batch.x - 1).square().mean()
        return StepResult({"l2": loss}, {"l2": 2.0}, -10 * loss.detach().log10())

    def validate(self, logger: RunLogger, step: int) -> None:
        self.validated.append(step)


CONFIG = TrainConfig(phases=(Phase(steps=12, resolution=8, learning_rate=0.1),), log_every=5, picture_every=50)


def test_every_phase_ends_with_a_look_at_what_it_learned(tmp_path: Path) -> None:
    task, phase = LineTask(), CONFIG.phases[0]
    Trainer(task, replace(CONFIG, phases=(replace(phase, steps=6), replace(phase, steps=5)), picture_every=4), tmp_path, resume=False).fit()
    assert task.validated == [4, 6, 8, 11]


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content["extra"])
    torch.save(content, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda extra: extra.pop("seconds"),
        lambda extra: extra.update(seconds="1"),
        lambda extra: extra.pop("means"),
        lambda extra: extra.update(means=[1.0]),
        lambda extra: extra["means"].pop("counts"),
        lambda extra: extra["means"].update(sums={"l2": "much"}),
        lambda extra: extra["means"].update(weighted={"unheard": 1.0}),
    ],
)
def test_a_checkpoint_without_what_the_loop_left_in_it_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    Trainer(LineTask(), CONFIG, tmp_path, resume=False).fit()
    Trainer(LineTask(), CONFIG, tmp_path, resume=True)
    rewrite(tmp_path / CHECKPOINT, change)
    with pytest.raises(FormatError, match="--overwrite"):
        Trainer(LineTask(), CONFIG, tmp_path, resume=True)


def test_time_that_a_checkpoint_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    seconds = Trainer(LineTask(), CONFIG, tmp_path, resume=False).fit()
    assert 0 < spent_seconds(tmp_path / CHECKPOINT) <= seconds
    rewrite(tmp_path / CHECKPOINT, lambda extra: extra.pop("seconds"))
    with pytest.raises(FormatError, match="--overwrite"):
        spent_seconds(tmp_path / CHECKPOINT)


class AwayTask(LineTask):
    """As if it ran on a device for which the host would have to wait."""

    on_host = False


@pytest.mark.parametrize("steps", [11, 12])
def test_values_that_are_looked_at_late_make_the_same_curves_and_checkpoint(tmp_path: Path, steps: int) -> None:
    config = replace(CONFIG, phases=(replace(CONFIG.phases[0], steps=steps),), picture_every=4)
    curves, means = [], []
    for name, kind in (("host", LineTask), ("away", AwayTask)):
        torch.manual_seed(0)
        Trainer(kind(), config, tmp_path / name, resume=False).fit()
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        curves.append([{key: value for key, value in line.items() if key.startswith(("loss", "metric"))} for line in lines])
        means.append(torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["extra"]["means"])
    assert len(curves[0]) == 2
    assert curves[0] == curves[1]
    assert means[0] == means[1]


class BreakingTask(AwayTask):
    """Its loss is no number from the eighth step on."""

    def compute(self, batch: Points, step: int, generator: torch.Generator) -> StepResult:
        result = super().compute(batch, step, generator)
        return result if step < 7 else replace(result, terms={"l2": result.terms["l2"] * torch.nan})


def test_a_value_that_is_looked_at_late_is_refused_by_its_own_step(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(DivergedError, match=r"'l2' became nan at step 7 on frames \[7\]"):
        Trainer(BreakingTask(), CONFIG, tmp_path / "run", resume=False).fit()


class InterruptedTask(AwayTask):
    """Ctrl-C comes in the middle of the eighth step."""

    def compute(self, batch: Points, step: int, generator: torch.Generator) -> StepResult:
        if step == 7:
            raise KeyboardInterrupt
        return super().compute(batch, step, generator)


def test_an_interrupt_before_a_look_loses_no_step_of_the_curves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(InterruptedTask(), CONFIG, tmp_path / "cut", resume=False).fit()
    assert torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)["extra"]["means"]["counts"] == {"l2": 2, "psnr": 2}
    Trainer(AwayTask(), CONFIG, tmp_path / "cut", resume=True).fit()
    torch.manual_seed(0)
    Trainer(AwayTask(), CONFIG, tmp_path / "whole", resume=False).fit()
    cut, whole = (
        [json.loads(line)["loss/total"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("cut", "whole")
    )
    assert cut == whole
