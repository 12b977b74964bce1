"""Let Ctrl-C, or another request to end, take effect between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let a Ctrl-C that arrives inside the block take effect at its end, so that what the block changes stays in agreement.

    So do other requests to end, where they have a handler: without one they end the process at once, as a kill does.
    """
    if threading.current_thread() is not threading.main_thread():  # others are never interrupted
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in REQUESTS}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])
