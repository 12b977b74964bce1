"""Run work in threads: results in order, computed ahead of their use, and jobs in the background of a block."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
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


@contextmanager
def run_in_background(job: Callable[[Event], None]) -> Iterator[None]:
    """Do a job in a thread while the block runs. The block's end waits for it, and raises what it raised.

    Args:
        job: is given an event that is set when the block fails, or is interrupted: then it is to end soon, and to leave nothing behind.
    """
    stopped = Event()
    pool = ThreadPoolExecutor(1)
    done = pool.submit(job, stopped)
    try:
        yield
        done.result()
    finally:
        stopped.set()
        pool.shutdown()
