"""How a command ends when something stops it: one line that says what was missing and what to do, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from deja_vu.core.errors import DejaVuError, OutputError, one_line

REFUSED = 2
"""Exit code of everything that the user can put right."""
UNREAD = 141
"""Exit code where nobody reads the output any more, as in `deja-vu --help | head -1`."""
NO_MEMORY = ("allocate memory", "enough memory", "out of memory", "bad_alloc", "insufficient memory", "failed to alloc", "map segment from")
"""What libraries say for want of memory, in lower case, by errors that are none of Python's own for it."""
LOWER = {
    **dict.fromkeys(("personalize", "demo"), "--resolution, --max-frames, or the recipe (--config quick, tiny)"),
    "track": "--resolution or --max-frames",
    "reconstruct": "--side, --uv-size or --turntable-side",
    "prepare": "--photo.resolution or --per-shard",
    "generalize": "--batch, the resolution of its phases or --prior.uv-size",
    "drive": "--size, or give a shorter film",
    "evaluate": "--frames",
    "sample": "--frames",
}
"""Which settings of a command decide on its memory."""
LEAST_SPACE = 2 * 1024**3
"""Bytes of addresses that the program needs to be loaded, 1.4 GB, and to draw something: with less, a library waits for ever."""
NO_FILES = (errno.EMFILE, errno.ENFILE)


class Stopped(KeyboardInterrupt):
    """Somebody ends the process in another way than by Ctrl-C: all that holds for an interrupt holds for it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def files_fail_once() -> Iterator[None]:
    """While the block runs, a file that a library's thread cannot write is not told of by a traceback: the command ends by it anyway."""
    before = threading.excepthook
    threading.excepthook = lambda failed: None if isinstance(failed.exc_value, OSError) else before(failed)
    try:
        yield
    finally:
        threading.excepthook = before


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """While the block runs, a request to end (SIGTERM, SIGHUP) is an interrupt: what can be gone on with is kept, nothing half-written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] == signal.SIG_DFL:  # `nohup` ignores one of them
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse_too_little_space() -> None:
    """Refuse to start where the process may have too little memory for what it loads.

    Raises:
        OutputError: its limit is too low.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_SPACE:
        raise OutputError(
            f"A process may have {limit >> 20} MB of memory here (ulimit -v). Expected at least {LEAST_SPACE >> 20}: raise it."
        )


def refuse_gone_folder() -> None:
    """Refuse to start in a folder that was removed: libraries find nothing from there, and say so in words of their own.

    Raises:
        OutputError: it is gone.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise OutputError("The folder in which this was started is gone. Change to another one (cd) and start it again.") from error


def ending(error: BaseException, command: str) -> tuple[str, int] | None:
    """What to say at the end of a command, and its exit code; None for an error of the program's own.

    Args:
        error: that ended it.
        command: its name.
    """
    kept = " ".join(getattr(error, "__notes__", ()))
    if isinstance(error, DejaVuError) and not any(wants_memory(cause) for cause in _causes(error) if not isinstance(cause, MemoryError)):
        return f"{error} {kept}".rstrip(), REFUSED  # a reader may take an absurd size for damage, and says so
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Stopped) else int(signal.SIGINT)
        if command == "view":  # which ends in no other way
            return "", 128 + number
        return f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}. {kept or NOTHING_KEPT}", 128 + number
    if isinstance(error, BrokenPipeError):
        return f"nobody reads the output any more, so this ends. {kept}" if kept else "", UNREAD
    if any(wants_memory(cause) for cause in _causes(error)):
        remedy = f"Lower {LOWER[command]}, or close" if command in LOWER else "Close"
        return f"there was not enough memory. {remedy} other programs. {kept}".rstrip(), REFUSED
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in NO_FILES:
            return "this process may not open more files. Raise the limit (ulimit -n 1024) and start it again.", REFUSED
    if isinstance(error, OSError):  # a full disk, a folder that cannot be written
        reason = error.strerror or str(error)[:200]
        return one_line(f"{error.filename or 'A file'} cannot be used: {reason}. Make room or choose another place."), REFUSED
    return None


NOTHING_KEPT = "Nothing was written; the same command begins anew."


def wants_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, whatever library says so."""
    said = str(error).lower()
    if isinstance(error, DejaVuError):
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN)):
        return True  # EAGAIN: a thread without room for its stack
    return any(words in said for words in NO_MEMORY) or "can't start new thread" in said


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
