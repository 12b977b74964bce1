"""Results in order, computed in threads ahead of whoever uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def compute_ahead(compute: Callable[[Item], Result], items: Iterable[Item], workers: int = 1) -> Iterator[Result]:
    """The same as `map(compute, items)`, while the results that follow the present one are computed already.

    An error comes where its result would have come, and ends all; whoever leaves early waits for what has begun, and no more begins.

    Args:
        compute: what is done with an item; may run in `workers` threads at once.
        items: drawn by the caller's thread, `workers` of them ahead.
        workers: threads.
    """
    pool, ahead = ThreadPoolExecutor(workers), deque[Future[Result]]()
    try:
        for item in items:
            ahead.append(pool.submit(compute, item))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
