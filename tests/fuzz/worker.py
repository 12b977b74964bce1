"""Reads damaged files in a process of its own, which may hang, die or ask for all memory without harm."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from deja_vu.core.errors import DejaVuError
from tests.fuzz.mutate import mutate

SECONDS = 10.0
"""That one file may take."""
MEMORY = 3 << 30
"""That a reader may ask for beyond what it has when it begins, bytes."""
LONGEST = 500
"""Characters of an error."""
SEED = 20261128


@dataclass(frozen=True)
class Reader:
    """Something that reads files."""

    seeds: Callable[[Path], list[Path]]
    """Write whole files into a folder; each may be damaged in turn."""
    read: Callable[[Path], object]
    """Read one of them, in the folder in which it was written."""


@dataclass
class Tally:
    """How files were answered."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Reader, number, kind and what was seen; a number makes the same file again."""


class Hung(BaseException):
    """The file took longer than it may."""


def run(name: str, reader: Reader, numbers: range, folder: Path, tally: Tally, seconds: float = SECONDS) -> None:
    """Read damaged files by one reader; what kills the process is noted, and the next file is read by another one.

    Args:
        name: of the reader.
        reader: what reads them.
        numbers: of the files.
        folder: to write them into.
        tally: is told how each was answered.
        seconds: that one file may take.
    """
    next_number = numbers.start
    while next_number < numbers.stop:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=_work, args=(reader, name, range(next_number, numbers.stop), folder, theirs, seconds), daemon=True
        )
        child.start()
        theirs.close()
        while next_number < numbers.stop:
            try:
                answer = ours.recv() if ours.poll(2 * seconds + 60) else ("hang", "no answer")
            except EOFError:
                child.join()
                answer = ("crash", f"the process ended with {child.exitcode}")
            kind, text = answer
            tally.counts[kind] += 1
            if kind not in ("fine", "refused"):
                tally.faults.append(f"{name} {next_number} {kind}: {text}")
            next_number += 1
            if (kind in ("hang", "crash") and text in ("no answer",)) or kind == "crash":
                break
        child.kill()
        child.join()


def _work(reader: Reader, name: str, numbers: range, folder: Path, answers: Connection, seconds: float) -> None:
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGALRM, _hung)
    place = folder / str(os.getpid())
    place.mkdir(parents=True)
    seeds = reader.seeds(place)
    whole = {path: path.read_bytes() for path in seeds}
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, resource.RLIM_INFINITY))
    for number in numbers:
        rng = random.Random(f"{SEED}/{name}/{number}")
        path = seeds[rng.randrange(len(seeds))]
        path.write_bytes(mutate(whole[path], rng))
        answers.send(judge(reader.read, path, seconds))
        path.write_bytes(whole[path])


def judge(read: Callable[[Path], object], path: Path, seconds: float = SECONDS) -> tuple[str, str]:
    """How a reader answers a file: fine, refused, or what is wrong with the answer."""
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        read(path)
        answer = ("fine", "")
    except DejaVuError as error:
        answer = ("refused", "") if len(str(error)) < LONGEST else ("long", f"{len(str(error))} characters: {str(error)[:120]!r}")
    except Hung:
        answer = ("hang", traceback.format_exc().splitlines()[-3].strip())
    except MemoryError as error:
        answer = ("memory", _where(error))
    except Exception as error:  # everything else is a fault of the reader, and what this looks for
        answer = ("traceback", f"{type(error).__name__}: {str(error)[:160]} at {_where(error)}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if answer[0] == "fine" and time.monotonic() - begun > seconds:
        answer = ("hang", "slow")
    return answer


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "deja_vu" in frame.filename or "pipelines" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _hung(*_: object) -> None:
    raise Hung


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
