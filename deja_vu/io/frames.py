"""Batches of frames from a tracked video, decoded ahead of the step that needs them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from deja_vu.core.ahead import compute_ahead
from deja_vu.core.batch import Batch, stack_frames
from deja_vu.core.sequence import Frame, TrackedSequence

CPU = torch.device("cpu")
CACHE_BYTES = 700_000_000
"""Memory for decoded frames."""
CACHE_SHARE = 0.3
"""The same on a GPU: share of its memory that is free."""


class FrameSource:
    """Reads a sequence at one resolution; keeps decoded frames as 8-bit in the memory of a device, up to a limit."""

    def __init__(self, sequence: TrackedSequence, resolution: int, cache_bytes: int | None = None, device: torch.device = CPU) -> None:
        """Begin without frames.

        Args:
            sequence: to be read.
            resolution: side of the pictures, pixels.
            cache_bytes: limit; by default `CACHE_BYTES`, or on a GPU `CACHE_SHARE` of what is free.
            device: where pictures and masks of a batch lie; their parameters and camera stay on the CPU.
        """
        self.sequence, self.resolution, self.device = sequence, resolution, device
        self.camera = sequence.camera.resize(resolution, resolution)
        if cache_bytes is None:
            cache_bytes = int(CACHE_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else CACHE_BYTES
        self.room = cache_bytes // (7 * resolution * resolution)
        self.kept: dict[int, Frame] = {}

    def read(self, position: int) -> Frame:
        """One frame, from memory where it is kept."""
        frame = self.kept.get(position)
        if frame is None:
            frame = self.sequence.frame(position, self.resolution).to(self.device)
            if len(self.kept) < self.room:
                self.kept[position] = frame
        return frame

    def batch(self, positions: Int[Tensor, " B"]) -> Batch:
        """The frames at some positions."""
        frames = [self.read(int(position)) for position in positions]
        return stack_frames(frames, positions, self.sequence.params[positions], self.camera)

    def stream(self, order: Iterator[Int[Tensor, " B"]]) -> Iterator[Batch]:
        """Batches in the given order, the next one decoded while the present one is used."""
        return compute_ahead(self.batch, order)


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
