"""Atomic file writes, and locks so that a folder or file is written by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from deja_vu.core.errors import OutputError

LOCK = ".deja-vu-lock"
"""In a folder that a process holds, who it is; beside a file that one holds, after a dot and the file's name."""
PART = re.compile(r"((?:.*/)?)\.([^/]+)\.\d+\.part((?:\.\w+)?)")
"""A file that is being written, or was when its process was killed: folder, stem, process, suffix."""


@contextlib.contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a place to write a file to; the file takes its name when the block ends well, and leaves no trace when it does not.

    The place ends in the file's own suffix and lies beside it, so that the last step is a rename. A device or pipe is written itself.

    Args:
        path: file to write or replace; its folder is made. Its mode is what the umask asks for.
        durable: wait until it is on the disk, so that not even a power cut leaves half of it.

    Raises:
        OutputError: the system refuses; a former file is kept.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            yield path
            return
        part = begin_part(path)
        try:
            mode = stat.S_IMODE(part.stat().st_mode)
            yield part
            part.chmod(mode)  # some writers replace the file by a private one
            finish_part(part, path, durable=durable)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} could not be written ({error.strerror or error}). Make room or choose another place.") from error


def begin_part(path: Path) -> Path:
    """An empty file beside another, of the same suffix, to be written and then given its name by `finish_part`.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path, os.getpid())
    part.unlink(missing_ok=True)  # of a killed process that had this number before
    part.touch(exist_ok=False)
    return part


def _part(path: Path, process: object) -> Path:
    """Where a process writes a file before the file gets its name."""
    return path.with_name(f".{path.stem}.{process}.part{path.suffix}")


def finish_part(part: Path, path: Path, *, durable: bool = True) -> None:
    """Give a written part its name.

    Raises:
        OSError: it cannot be, or a device or pipe has that name, which a file must not replace.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EEXIST, "it is no file", str(path))
    if durable:
        with part.open("rb") as file:
            os.fsync(file.fileno())
    part.replace(path)


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a file in one step; text as UTF-8, with `?` for bytes of paths that are none. See `whole`.

    Raises:
        OutputError: it cannot be written; a former file is kept.
    """
    with whole(path, durable=durable) as part:
        part.write_bytes(content.encode(errors="replace") if isinstance(content, str) else content)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON in one step.

    Raises:
        OutputError: it cannot be written; a former file is kept.
    """
    write_atomic(path, json.dumps(value, indent=2) + "\n")


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes while the block runs. The system lets go of it when this process ends, however it ends.

    Args:
        folder: made where it is missing, and removed at the end if nothing was put into it.

    Raises:
        OutputError: another process holds it, or a folder above it; or it cannot be written.
    """
    with _hold_lock(folder, LOCK, folder):
        yield


@contextlib.contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Hold a file that is to be written against other processes while the block runs; the system lets go of it as of a folder.

    Args:
        path: file; its folder is made where it is missing, and removed at the end if nothing was put into it. A device is everybody's.

    Raises:
        OutputError: another process holds it, or a folder above it; or its folder cannot be written.
    """
    if path.exists() and not path.is_file():
        yield
        return
    with _hold_lock(path.parent, f".{path.name}{LOCK}", path):
        yield


@contextlib.contextmanager
def _hold_lock(folder: Path, name: str, shown: Path) -> Iterator[None]:
    """Hold a lock in a folder; `shown` is what the user named."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder.resolve() / name
        for above in (file.parent if name == LOCK else file).parents:
            refuse_held(above / LOCK, shown)
        lock = _lock(file, shown)
    except OutputError:
        _remove_empty(missing)
        raise
    except OSError as error:
        _remove_empty(missing)
        raise OutputError(f"{shown} cannot be written ({error.strerror}). Choose another --out.") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(lock)
        _remove_empty(missing)


def _lock(file: Path, shown: Path) -> int:
    """The descriptor of a lock, which stands as long as it is open; what its former holder was writing when it was killed is removed."""
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        if os.fstat(lock).st_size and not _owner(file):
            os.close(lock)
            raise OutputError(f"{file} was not written by this program, which needs that name for its lock on {shown}. Move it away.")
        if not _try(lock):
            os.close(lock)
            raise OutputError(_holder(file, shown))
        # Between opening and locking, the former holder may have removed the file: then it is nobody's lock any more.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(file)):
                break
        os.close(lock)
    if os.fstat(lock).st_size:  # whoever ends in order removes the file
        _remove_parts(file, _owner(file).get("process"))
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(" ", "seconds")}
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(owner | {"command": shlex.join(sys.argv)}).encode(), 0)
    except OSError:  # the disk is full to the last byte
        file.unlink()
        os.close(lock)
        raise
    return lock


def _remove_parts(file: Path, process: object) -> None:
    """Remove what a killed process was writing to what its lock was for: a folder with all that has no lock of its own, or one file."""
    if file.name == LOCK:
        places = []
        for root, folders, names in os.walk(file.parent):
            folders[:] = [name for name in folders if not (Path(root) / name / LOCK).exists()]
            places += [Path(root) / name for name in names if name.startswith(".") and f".{process}.part" in name and PART.fullmatch(name)]
    else:
        places = [_part(file.with_name(file.name[1 : -len(LOCK)]), process)]
    for part in places:
        with contextlib.suppress(OSError):  # it is in nobody's way
            part.unlink()


def refuse_held(file: Path, shown: Path) -> None:
    """Refuse what lies in a folder that another process has locked; the own process may hold both.

    Args:
        file: lock, which need not be there.
        shown: what the user named.

    Raises:
        OutputError: another process holds it.
    """
    try:
        lock = os.open(file, os.O_RDWR)
    except OSError:
        return
    try:
        if not _try(lock) and _owner(file).get("process") != os.getpid():
            raise OutputError(_holder(file, shown))
    finally:
        os.close(lock)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: Path) -> dict[str, Any]:
    """Who holds a lock, as far as that process has said so yet."""
    for _ in range(20):
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(file.read_text()))
        time.sleep(0.05)
    return {}


def _holder(file: Path, shown: Path) -> str:
    owner = {"process": "?", "host": "?", "since": "?", "command": "?"} | _owner(file)
    return (
        f"{shown} is in use by process {owner['process']} on {owner['host']} since {owner['since']}: {str(owner['command'])[:200]}. "
        "Wait for its end, or choose another --out."
    )


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
