"""Temporary folders for filmed faces: private, removed at their end, or by the next process if one was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deja_vu.core.errors import OutputError
from deja_vu.io.files import LOCK, hold

PREFIX = "deja-vu-"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A private temporary folder that is there while the block runs.

    Raises:
        OutputError: it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            place = Path(tempfile.gettempdir())
            with _alone(place):
                _remove_left(place)
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, dir=place)))
                stack.enter_context(hold(folder))
        except OSError as error:
            raise OutputError(f"No temporary folder can be made ({error.strerror or error}). Set TMPDIR to a folder with room.") from error
        yield folder


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let no other process look for what was left while this one makes a folder that it does not hold yet."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_left(place: Path) -> None:
    """Remove temporary folders of this user's that nobody holds any more."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and (folder / LOCK).is_file() and _is_abandoned(folder / LOCK):
                shutil.rmtree(folder)


def _is_abandoned(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
