"""The schedule of a run: phases in order, each with its resolution and a decaying learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from deja_vu.training.config import Phase

AnyPhase = TypeVar("AnyPhase", bound=Phase)


def begins(phases: Sequence[AnyPhase]) -> Iterator[tuple[AnyPhase, int]]:
    """Every phase with the number of the run's first step in it."""
    begin = 0
    for phase in phases:
        yield phase, begin
        begin += phase.steps
