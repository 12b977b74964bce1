"""When a run does what: phases one after another, each with its resolution and a learning rate that decays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True)
class Phase:
    """One stretch of a training; what else a path varies between phases is a field of its own phase."""

    steps: int
    """Optimizer steps."""
    resolution: int
    """Side of renders and targets, pixels."""
    learning_rate: float
    """Adam's rate at the start of the phase; every parameter group has a factor of its own."""
    final_rate: float = 0.2
    """Fraction of the rate that is left at the end; the decay is exponential."""
    perceptual_every: int = 2
    """Steps from one perceptual term to the next; its weight is multiplied accordingly. 0 leaves it out."""

    def rate(self, step: int, relative: float = 1.0) -> float:
        """Learning rate of a group with this factor, at a step counted from the start of the phase."""
        return self.learning_rate * relative * self.final_rate ** (step / self.steps)


AnyPhase = TypeVar("AnyPhase", bound=Phase)


def begins(phases: Sequence[AnyPhase]) -> Iterator[tuple[AnyPhase, int]]:
    """Every phase with the number of the run's first step in it."""
    begin = 0
    for phase in phases:
        yield phase, begin
        begin += phase.steps
