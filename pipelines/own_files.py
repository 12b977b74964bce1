"""Which files a run has written, and may therefore replace or remove.

A finished run lists its files with their digests in run.json; ours is what stands there and has not changed since. A run that did not
finish, or that an older version made, has no such list; it began in an empty folder, so there ours is what has a name that its command
writes. Links are never ours, and what lies behind them is not looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deja_vu.core.documents import read_json
from deja_vu.core.errors import FormatError, OutputError
from deja_vu.io.files import LOCK, PART, digest, hold_file

RECORD = "run.json"
STAGE = ".deja-vu-new"
AMENDED = "amended"
"""Entry of run.json while a file of a finished run is being written anew: its name."""
PROGRAM = "deja-vu"
LITTER = frozenset({LOCK, STAGE, "lost+found", ".DS_Store", "Thumbs.db", "desktop.ini"})
"""What makes no folder the user's: the first two are ours, the others are put there by file systems and desktops."""

_WINDOWS = r"(frames|masks|person|person_masks)|(frames|person)/\d{6,}\.jpg|(masks|person_masks)/\d{6,}\.png"
_TRACKED = rf"track\.json|params\.safetensors|overlay\.mp4|faces\.png|{_WINDOWS}"
_TRAINED = r"(avatar|global_only|prior)\.safetensors|checkpoint\.pt|metrics\.jsonl?|preview\.png|events\.out\.tfevents\.[^/]+|config\.yaml"
_SEEN = r"report\.html|turntable\.mp4|(compare|expressions)\.png"
_AVATAR = rf"{_TRAINED}|{_SEEN}|track(/({_TRACKED}))?|teacher(/({_TRAINED}))?"
_MOTION = r"motion\.mp4|motion\.truth\.safetensors"
_RESULT = r"result\.json|(test_(frames|truth)|driver_\d+|driven_\d+|sweep)_\d+\.png"
NAMES = {
    "track": _TRACKED,
    "personalize": _AVATAR,
    "reconstruct": _AVATAR,
    "demo": rf"{_AVATAR}|driven\.mp4|samples(/(subject\.mp4|subject\.truth\.safetensors|{_MOTION}|motion(/({_TRACKED}))?))?",
    "generalize": _TRAINED,
    "prepare": r"shards\.json|report\.json|\d{6}\.(tar|json)",
    "benchmark": rf"table\.md|[^/]+-(pareto|curves)\.svg|[^/]+-(test|driven|sweep)\.png|sample_person(/({_MOTION}))?",
    "benchmark path": rf"{_RESULT}|{_TRAINED}|teacher(/({_RESULT}|{_TRAINED}))?",
    "compare-starts": rf"curves\.json|[^/]+\.svg|[^/]+/[^/]+/(curves\.json|{_TRAINED})",
    "drive": r"\d{6}\.png",
    "evaluate": r"around\.png|(person/)?(frames\.json|(render|target|head|person|valid)_\d{6,}\.png)|person",
    "export": r"index\.html|NOTICES\.txt|deja-vu\.js|(avatar|webcam)\.bin|frame_\d{5,}\.(ply|spz)",
}
"""What each command writes into its folder, as patterns of names below it; folders that it makes stand alone."""
OLDER = (
    ("track.json", "track", ('"source_sha256"', '"head_name"', '"crop"'), ("params.safetensors",)),
    ("shards.json", "prepare", ('"head_name"', '"per_shard"', '"sources"'), ("shards.json",)),
    ("config.yaml", "generalize", ("photo_counts:", "people:", "prior:", "prepare:"), ("checkpoint.pt", "prior.safetensors")),
)
"""How folders are known that were written before all had a run.json: a file, its command, words in it, and files of which one is there."""


def own_files(folder: Path) -> set[str]:
    """Names of the files below a folder that a run of ours is known to have written."""
    kind, record = kind_of(folder), read_record(folder)
    listed, amended = record.get("files"), record.get(AMENDED)
    if kind is None:
        return set()
    names = [name for name in walk(folder) if not (folder / name).is_symlink() and (folder / name).is_file()]
    if listed is None:
        return {name for name in names if by_name(folder, name, NAMES[kind])}
    ours = {name for name in names if name in listed and digest(folder / name) == listed[name]}
    return ours | {name for name in names if leavings(name, kind) or name == amended}


def by_name(folder: Path, name: str, pattern: str) -> bool:
    """Whether something is a plain file whose name follows a pattern, such as one of `NAMES`."""
    path = folder / name
    return path.is_file() and not path.is_symlink() and bool(re.fullmatch(pattern, name))


def leavings(name: str, kind: str) -> bool:
    """Whether a file was being written by a command when its process was killed."""
    part = PART.fullmatch(name)
    return part is not None and re.fullmatch(rf"{NAMES[kind]}|{re.escape(RECORD)}", "".join(part.group(1, 2, 3))) is not None


def walk(folder: Path) -> Iterator[str]:
    """Names below a folder of all that is no plain folder: files, links, and runs of their own; less what this module keeps there."""
    for root, folders, files in os.walk(folder):
        base = Path(root).relative_to(folder)
        for name in [*folders]:
            path = Path(root) / name
            if path.is_symlink() or read_record(path):
                folders.remove(name)
                files.append(name)
        if Path(root) == folder:
            files = [name for name in files if name not in (LOCK, RECORD, STAGE)]
            folders[:] = [name for name in folders if name != STAGE]
        yield from ((base / name).as_posix() for name in files)


def name_in(folder: Path, path: Path) -> str:
    """Name of a path below a folder, '.' for the folder itself; empty where it lies elsewhere."""
    whole, place = folder.resolve(), path.resolve()
    return place.relative_to(whole).as_posix() if place.is_relative_to(whole) else ""


def among(name: str, places: Iterable[str]) -> bool:
    """Whether a name is one of some places, or below one."""
    return any(name == place or name.startswith(f"{place}/") for place in places)


def read_record(folder: Path) -> dict[str, Any]:
    """What run.json says; empty where there is none of ours."""
    try:
        record = read_json(folder / RECORD)
    except FormatError:
        return {}
    ours = isinstance(record, dict) and (record.get("program") == PROGRAM or {"tracked", "commit", "command", "machine"} <= record.keys())
    return record if ours else {}


def kind_of(folder: Path) -> str | None:
    """The command whose run a folder holds, by its run.json, or by what versions without `kind` wrote; None where it holds none."""
    record = read_record(folder)
    if "kind" in record:
        return record["kind"] if isinstance(record["kind"], str) and record["kind"] in NAMES else None
    if record:
        return "demo" if "demo" in str(record.get("command", "")).split()[:2] else "personalize"
    for name, kind, marks, beside in OLDER:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = (folder / name).read_text()
            if all(mark in text for mark in marks) and any((folder / other).is_file() for other in beside):
                return kind
    return None


def claim(path: Path, *, overwrite: bool, inputs: Iterable[Path] = (), suffix: str = "") -> None:
    """Refuse, before anything long, to write a file where one is that must stay, or that another process is about to write.

    Args:
        path: file to be written.
        overwrite: the user allows it to be replaced.
        inputs: files and folders that the command reads.
        suffix: of files that may be replaced; any where the command has looked at it already.

    Raises:
        OutputError: a folder, an input, a run's file, any other without the flag, one of another suffix, or one that is in use.
    """
    with hold_output(path, overwrite=overwrite, inputs=inputs, suffix=suffix):
        return


@contextlib.contextmanager
def hold_output(path: Path, *, overwrite: bool, inputs: Iterable[Path] = (), suffix: str = "") -> Iterator[None]:
    """Hold a file that a command will write while the block runs; see `claim`.

    Raises:
        OutputError: it must stay, or another process is about to write it.
    """
    with hold_file(path):
        _refuse_taken(path, overwrite=overwrite, inputs=inputs, suffix=suffix)
        yield


def _refuse_taken(path: Path, *, overwrite: bool, inputs: Iterable[Path], suffix: str) -> None:
    """Refuse to write a file where one is that must stay; see `claim`."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Expected a file to write.")
    if not os.path.lexists(path) or (path.exists() and not path.is_file()):  # a device may be written
        return
    if path.exists() and any(given.is_file() and given.samefile(path) for given in inputs):
        raise OutputError(f"{path} is an input of this command. Choose another name to write to.")
    for place in (path.parent.resolve() / path.name, path.resolve()):
        for folder in place.parents:
            if _is_written(folder, place.relative_to(folder).as_posix()):
                raise OutputError(f"{path} belongs to the run in {folder}. Choose another name to write to.")
    if not overwrite:
        raise OutputError(f"{path} exists already. Add --overwrite to replace it, or choose another name.")
    if suffix and path.suffix.lower() != suffix:
        raise OutputError(f"{path} exists, and is no {suffix} file, as this command writes. Choose another name to write to.")


def _is_written(folder: Path, name: str) -> bool:
    """Whether a folder's run wrote something of this name."""
    kind = kind_of(folder)
    return kind is not None and (name == RECORD or name in read_record(folder).get("files", ()) or by_name(folder, name, NAMES[kind]))
