"""Where the time of a command goes: every moment from its start belongs to one stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_BEGUN: ContextVar[float | None] = ContextVar("begun", default=None)


@contextmanager
def command_begins() -> Iterator[None]:
    """While the block runs, a command of the user's is carried out that begins now, its imports included."""
    token = _BEGUN.set(time.monotonic())
    try:
        yield
    finally:
        _BEGUN.reset(token)


def command_begun() -> float | None:
    """`time.monotonic()` when the command that is being carried out began; None in a program of somebody's own."""
    return _BEGUN.get()


class Stopwatch:
    """Seconds by stage, without gaps: they add up to the time since the watch was started.

    Attributes:
        stages: seconds by name, in the order in which the stages came first.
    """

    def __init__(self, begun: float | None = None) -> None:
        """Start.

        Args:
            begun: `time.monotonic()` from which time counts; now, if it is left out.
        """
        self.begun = self._since = time.monotonic() if begun is None else begun
        self.stages: dict[str, float] = {}

    def end(self, stage: str) -> None:
        """Count the time since the end of the stage before to this one, whose name may come again."""
        now = time.monotonic()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._since
        self._since = now

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.begun
