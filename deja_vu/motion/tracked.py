"""A tracked folder as a motion, at an even rate."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from deja_vu.core.head import HeadParams
from deja_vu.core.motion import MotionSource
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.motion.neutral import estimate_neutral, take_neutral
from deja_vu.motion.resample import play_evenly


class TrackedMotion(MotionSource):
    """The frames of a tracked person."""

    def __init__(self, sequence: TrackedSequence, neutral_at: float | None = None, neutral: HeadParams | None = None) -> None:
        """Find the neutral face.

        Args:
            sequence: the tracked video.
            neutral_at: moment at which the mover's face is neutral, seconds; None finds one.
            neutral: the neutral face [1], where it is known.

        Raises:
            InputError: there is no such moment.
        """
        even = play_evenly(sequence)
        self.head_name, self.fps, self.notes, self._params = sequence.info.head_name, even.fps, even.notes, even.params
        self.shortened = even.shortened
        self.begins = float(sequence.times[0])
        self.has_torso = not torch.equal(sequence.params.torso, torch.eye(4).expand_as(sequence.params.torso))
        if neutral is not None:
            self.neutral = neutral
        elif neutral_at is None:
            self.neutral = estimate_neutral(sequence.params, load_head(self.head_name))
        else:
            self.neutral = take_neutral(sequence.params, sequence.times - sequence.times[0], neutral_at)

    def frames(self) -> Iterator[HeadParams]:
        for position in range(len(self)):
            yield self._params[position : position + 1]

    def __len__(self) -> int:
        return len(self._params)
