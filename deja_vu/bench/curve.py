"""Quality over training time."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence

import torch

from deja_vu.avatars import Avatar
from deja_vu.bench.evaluate import Evaluator, means
from deja_vu.bench.metrics import METRICS
from deja_vu.bench.predictors import avatar_predictor
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import CPU

MARKS = (5, 10, 20, 40, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 2700, 3600, 7200, 14400)
"""Seconds of training at which an avatar is scored on a few held-out frames."""
CURVE_FRAMES = 8
CACHE_BYTES = 50_000_000
"""Enough for the decoded frames."""


class Curve:
    """Scores on a few held-out frames at marked times of training; measuring does not count as training."""

    def __init__(self, sequence: TrackedSequence, head_start: float = 0.0, device: torch.device = CPU) -> None:
        """Start the clocks.

        Args:
            sequence: tracked video with its split.
            head_start: seconds that were spent before, such as on a teacher.
            device: where pictures are compared.
        """
        self._evaluator = Evaluator(sequence, CURVE_FRAMES, cache_bytes=CACHE_BYTES, device=device)
        self._head_start, self._paused, self._cpu_paused = head_start, 0.0, 0.0
        self._step, self._marks = 0, iter(MARKS)
        self._mark: float = next(self._marks)
        self.points: list[dict[str, float]] = []
        self._begun, self._cpu_begun = time.monotonic(), time.process_time()

    def seconds(self) -> float:
        """Time since the start, without that of measuring."""
        return time.monotonic() - self._begun - self._paused

    def cpu_seconds(self) -> float:
        """Processor time of all threads since the start, without that of measuring: on a shared machine the steadier figure."""
        return time.process_time() - self._cpu_begun - self._cpu_paused

    def __call__(self, avatar: Avatar, step: int) -> None:
        """Score after a step if a mark has passed since the last one."""
        self._step = step
        if self.seconds() >= self._mark:
            self.score(avatar)
        while self._mark <= self.seconds():
            self._mark = next(self._marks, math.inf)

    def score_every(self, avatar: Avatar, step: int, every: int, last: int) -> None:
        """Score after a step if its number is a multiple of `every`, or the last one."""
        self._step = step
        if step % every == 0 or step == last:
            self.score(avatar)

    def score(self, avatar: Avatar) -> None:
        """Add a point for the avatar as it is now."""
        now, cpu_now = time.monotonic(), time.process_time()
        point = {"seconds": round(self.seconds() + self._head_start, 1), "cpu_seconds": round(self.cpu_seconds(), 1), "step": self._step}
        training = avatar.training
        avatar.eval()
        found = means(self._evaluator.evaluate([avatar_predictor("", avatar)], quiet=True)[""])
        avatar.train(training)
        self.points.append(point | {name: round(found[name], 4) for name in METRICS})
        self._paused += time.monotonic() - now
        self._cpu_paused += time.process_time() - cpu_now


def crossing_times(points: Sequence[dict[str, float]], wanted: float, metric: str = "psnr") -> tuple[float, float] | None:
    """When a curve first reaches a value, and when it is there to stay, processor seconds; straight lines lie between its points.

    Args:
        points: of the curve, in order.
        wanted: value.
        metric: `psnr`, where more is better, or `st_lpips`, where less is.
    """
    sign = -1 if metric == "st_lpips" else 1
    gaps = [(point["cpu_seconds"], sign * (point[metric] - wanted)) for point in points]
    crossings = []
    for (before, short), (after, beyond) in itertools.pairwise(gaps):
        if (short < 0) != (beyond < 0):
            crossings.append(before + short / (short - beyond) * (after - before))
    if gaps[-1][1] < 0:
        return None
    return (crossings[0], crossings[-1]) if crossings else (gaps[0][0], gaps[0][0])
