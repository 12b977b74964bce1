"""Batches of frames from a tracked video, decoded ahead of the step that needs them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Int
from torch import Tensor

from deja_vu.core.batch import Batch, stack_frames
from deja_vu.core.sequence import Frame, TrackedSequence


class FrameSource:
    """Reads a sequence at one resolution; keeps decoded frames in memory up to a limit."""

    def __init__(self, sequence: TrackedSequence, resolution: int, cache_bytes: int = 700_000_000) -> None:
        self.sequence, self.resolution = sequence, resolution
        self.camera = sequence.camera.resize(resolution, resolution)
        self.room = cache_bytes // (7 * resolution * resolution)
        self.kept: dict[int, Frame] = {}

    def read(self, position: int) -> Frame:
        """One frame, from memory where it is kept."""
        frame = self.kept.get(position)
        if frame is None:
            frame = self.sequence.frame(position, self.resolution)
            if len(self.kept) < self.room:
                self.kept[position] = frame
        return frame

    def batch(self, positions: Int[Tensor, " B"]) -> Batch:
        """The frames at some positions."""
        frames = [self.read(int(position)) for position in positions]
        return stack_frames(frames, positions, self.sequence.params[positions], self.camera)

    def stream(self, order: Iterator[Int[Tensor, " B"]]) -> Iterator[Batch]:
        """Batches in the given order, the next one decoded while the present one is used."""
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for positions in order:
                following = reader.submit(self.batch, positions)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()


def shuffle_positions(
    count: int, size: int, steps: int, seed: int, start: int = 0, again: Int[Tensor, " n"] | None = None
) -> Iterator[Int[Tensor, " B"]]:
    """Batches of positions in which every position comes once before any comes again; the same for the same seed.

    Args:
        count: positions to draw from.
        size: batch size.
        steps: batches in all.
        seed: of the shuffle.
        start: batches to skip, to resume where a run stopped.
        again: positions that come twice more in every round.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = torch.empty(0, dtype=torch.long)
    once = torch.arange(count) if again is None else torch.cat([torch.arange(count), again, again])
    for step in range(steps):
        while len(pool) < size:
            pool = torch.cat([pool, once[torch.randperm(len(once), generator=generator)]])
        taken, pool = pool[:size], pool[size:]
        if step >= start:
            yield taken
