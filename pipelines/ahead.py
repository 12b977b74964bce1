"""Training examples of later steps, drawn by threads while a step is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Drawn = TypeVar("Drawn")


def draw_ahead(draw: Callable[[int], Drawn], steps: range, threads: int) -> Iterator[Drawn]:
    """What is drawn for every step, in order.

    Args:
        draw: of one step; called by threads.
        steps: numbers of the steps.
        threads: how many draw at once; each is two steps ahead at most.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Drawn]] = deque()
        for step in steps:
            waiting.append(pool.submit(draw, step))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
