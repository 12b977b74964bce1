"""Commands as processes of their own, forked from one that has loaded the program, and killed at moments that are chosen.

A moment is a number of changes that the process has made to the file system, and a share of the time until the next one. The changes are
those that Python announces (files opened to be written, renamed, removed; folders made); what a library writes lies between two of them.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHANGES = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"})
"""Audit events of Python that change files."""
PATIENCE_S = 600.0
"""After which a command counts as hanging."""


@dataclass(frozen=True)
class Moment:
    """When to kill."""

    change: int
    """Number of the change after which, or of the start, 0."""
    delay: float = 0.0
    """Seconds after that."""


@dataclass
class Outcome:
    """What became of a process."""

    code: int
    """Exit code; of one that was killed, minus the signal's number."""
    said: str
    """Both streams."""
    seconds: float
    changes: list[tuple[float, str]] = field(default_factory=list)
    """Seconds since the start and what was changed, in order."""
    pid: int = 0


class Child:
    """A running command."""

    def __init__(
        self, words: Sequence[str], log: Path, *, prepare: Callable[[], None] | None = None, environment: dict[str, str] | None = None
    ) -> None:
        """Fork a process that does what a command line asks for.

        Args:
            words: after `deja-vu`.
            log: file for what it says.
            prepare: done in the process first: limits, another folder.
            environment: variables to set.
        """
        self._log, self._began = log, time.monotonic()
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            _work([str(word) for word in words], log, writer, prepare, environment or {})
        os.close(writer)
        self._reader, self._rest = reader, b""
        self.changes: list[tuple[float, str]] = []

    def after(self, changes: int) -> None:
        """Wait until the process has made so many changes, or ended."""
        while len(self.changes) < changes and self._follow(PATIENCE_S):
            pass

    def signal_at(self, moment: Moment, number: int) -> Outcome:
        """Wait for a moment, send a signal to the process, if it is still there then, and wait for its end."""
        self.after(moment.change)
        time.sleep(moment.delay)
        os.kill(self.pid, number)
        return self.wait()

    def kill_at(self, moment: Moment) -> Outcome:
        """The same with a kill."""
        return self.signal_at(moment, signal.SIGKILL)

    def wait(self, patience: float = PATIENCE_S) -> Outcome:
        """Wait for the process's end."""
        until = time.monotonic() + patience
        while self._follow(max(until - time.monotonic(), 0.0)):
            pass
        if time.monotonic() > until:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._reader)
        seconds = time.monotonic() - self._began
        said = self._log.read_text(errors="replace")
        return Outcome(os.waitstatus_to_exitcode(status), said, seconds, self.changes, self.pid)

    def _follow(self, patience: float) -> bool:
        """Read on in what the process announces; False at its end or when patience ends."""
        if not select.select([self._reader], [], [], patience)[0]:
            return False
        read = os.read(self._reader, 1 << 16)
        *lines, self._rest = (self._rest + read).split(b"\n")
        self.changes += [(time.monotonic() - self._began, line.decode(errors="replace")) for line in lines]
        return bool(read)


def run(words: Sequence[str], log: Path, **options: object) -> Outcome:
    """Do what a command line asks for, in a process of its own, to its end."""
    return Child(words, log, **options).wait()  # type: ignore[arg-type]


def _work(words: list[str], log: Path, writer: int, prepare: Callable[[], None] | None, environment: dict[str, str]) -> None:
    """What the forked process does; never returns."""
    code = 70
    try:
        streams = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(streams, 1)
        os.dup2(streams, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.environ.update(environment)
        sys.argv = ["deja-vu", *words]
        if prepare is not None:
            prepare()
        sys.addaudithook(_announcer(writer))
        from deja_vu.pipelines.cli import main

        main(words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _announcer(writer: int) -> Callable[[str, tuple[object, ...]], None]:
    """A hook that writes a line for every change of a file, before it is made."""

    def announce(event: str, arguments: tuple[object, ...]) -> None:
        if event not in CHANGES:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        name = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else str(arguments[0])
        os.write(writer, f"{event} {name}\n".encode(errors="replace"))

    return announce
