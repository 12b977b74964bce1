"""A source of motion: head parameters frame by frame, and the moving person's neutral face."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from deja_vu.core.head import HeadParams


class MotionSource(ABC):
    """Somebody moving. A camera's motion is live and never ends; all others have `len`."""

    head_name: str
    """Head model in whose parameters the motion is given."""
    fps: float
    """Frames a second."""
    live: bool = False
    """Whether frames come as they happen, so that late ones are worth nothing."""
    acted: bool = False
    """Whether it is the synthetic actor's, whose head turns in place, without a neck."""
    has_torso: bool = False
    """Whether the mover's torso was tracked, too."""
    notes: tuple[str, ...] = ()
    """Remarks on the input for the user: parts left out or bridged."""
    begins: float = 0.0
    """Moment of the first frame in the film that the motion was taken from, seconds."""
    film: Path | None = None
    """That film, where it is at hand: its sound goes with the motion."""
    shortened: bool = False
    """Whether long pauses were taken out, so that the film's sound does not go with the motion."""
    neutral: HeadParams
    """The mover's neutral face [1]; a motion is retargeted relative to it."""

    @abstractmethod
    def frames(self) -> Iterator[HeadParams]:
        """Head parameters of one frame after the other, each a batch of one."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames; 0 where nobody knows."""
