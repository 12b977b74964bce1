"""A run folder: who uses it, which of its files a run wrote, and how a new run replaces an old one.

  run.json        program, version, command, machine, and where the run comes from; of a finished run also `files`: every file that it
                  wrote, with its digest
  .deja-vu-lock   while a process works here: who it is
  .deja-vu-new    the run that is to replace the one in the folder, while it is being made

The rules, for every command that fills a folder:
  * Only what a run is known to have written (`own_files`) is ever replaced or removed; everything else in a folder stays.
  * A folder that holds files but no run is refused. A folder with a run needs a flag: --resume (or --reuse), or --overwrite.
  * With --overwrite the new run is made in `.deja-vu-new`. When it is whole, its files take the place of ours, one rename each, and
    what is left of ours is removed. A process killed before that leaves the old run as it was; --resume continues the new one. One
    that is killed in between is completed by the next command that reads or writes the folder.
  * A run that was killed and that nothing can go on from is begun anew by the same command, in the same way.
  * An input of the command is never replaced: a folder of ours that is read (track/) is kept, a file refused.
  * A run that fails leaves nothing behind, unless it can be resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from deja_vu.core.errors import DejaVuError, FormatError, InputError, OutputError
from deja_vu.io.files import LOCK, PART, digest, hold, refuse_held, write_json
from deja_vu.io.provenance import commit, machine
from deja_vu.pipelines.own_files import (
    AMENDED,
    LITTER,
    NAMES,
    PROGRAM,
    RECORD,
    STAGE,
    among,
    by_name,
    kind_of,
    leavings,
    name_in,
    own_files,
    read_record,
    walk,
)

FORMAT_VERSION = 1
"""Of run.json."""
RECORDED_PACKAGES = ("torch", "numpy", "ai-edge-litert", "av")

RESUMED = frozenset({"personalize", "demo", "generalize"})
"""Commands whose interrupted runs can be continued."""
ADDING = frozenset({"prepare", "benchmark", "compare-starts"})
"""Commands that add to a folder of their own kind; runs may lie in it."""
ALIKE = frozenset({"personalize", "reconstruct", "demo"})
"""Commands that may replace each other's runs; any other replaces its own kind alone."""
FLAGS = {
    **dict.fromkeys(("personalize", "demo", "generalize", "prepare"), "--resume to continue it, "),
    **dict.fromkeys(("benchmark", "compare-starts"), "--reuse to keep what is there, "),
}
"""What a command offers besides replacing."""


@dataclass
class Run:
    """A folder that is open for a command."""

    out: Path
    """The folder that the user named."""
    folder: Path
    """Where to write now: `out`, or the stage of a run that is to replace the one there."""
    kind: str
    """Command, of `NAMES`."""
    fresh: bool = True
    """Begun now, not continued."""
    kept: frozenset[str] = frozenset()
    """Files of the old run that the command reads, and that stay."""
    facts: dict[str, Any] = field(default_factory=dict)

    def note(self, **facts: str) -> dict[str, str]:
        """Write run.json, now or with more facts; returns what an avatar's header repeats of it.

        The first call begins the run: until it ends, nothing in its folder counts as whole.
        """
        if not self.facts:
            self.facts = {"program": PROGRAM, "format": FORMAT_VERSION, "version": metadata.version("deja-vu"), "kind": self.kind}
            if self.kind != "export":  # which is given away, and tells nothing of its maker's machine
                self.facts |= {"commit": commit(), "command": " ".join(sys.argv), "python": platform.python_version(), "machine": machine()}
                self.facts |= {name: metadata.version(name) for name in RECORDED_PACKAGES}
        self.facts |= facts
        write_json(self.folder / RECORD, self.facts)
        return {name: self.facts[name] for name in ("commit", "command") if name in self.facts}

    def clear(self, name: str) -> None:
        """Remove what an interrupted run left in a folder of the run."""
        _remove(self.folder, [own for own in own_files(self.folder) if among(own, [name])])

    def place(self, path: Path) -> Path:
        """Where a file or folder of the run is to be found when the run is whole."""
        return self.out / path.relative_to(self.folder) if path.is_relative_to(self.folder) else path


@contextlib.contextmanager
def open_run(
    out: Path, kind: str, *, inputs: Iterable[Path] = (), resume: bool = False, overwrite: bool = False, add: bool = False
) -> Iterator[Run]:
    """Open a folder for a command, hold it while the block runs, and put the run in its place at the end; see the top of the module.

    Args:
        out: folder that the user named.
        kind: command, of `NAMES`.
        inputs: files and folders that the command reads.
        resume: continue the run in the folder.
        overwrite: replace the run in the folder.
        add: add to a folder of this kind.

    Raises:
        OutputError: the folder holds what is not ours, or a run and no flag is given; another process holds it; it cannot be written.
    """
    if resume and overwrite:
        raise OutputError("--resume and --overwrite exclude each other: continue the run, or start it anew.")
    refuse_held(out / LOCK, out)  # says more than that a run is there which has just begun
    refuse_strange(out, kind)
    with hold(out):
        settle(out)
        run = _open(out, kind, list(inputs), resume=resume, overwrite=overwrite, add=add)
        try:
            yield run
        except BaseException as error:
            if run.facts and run.fresh and not _worth_keeping(run, error):
                _discard(run.folder, run.kind)
            elif run.facts:
                if kind in FLAGS and (isinstance(error, OutputError) or not isinstance(error, DejaVuError)):
                    error.add_note(f"{out} is kept: add {FLAGS[kind].split()[0]} to go on from there.")
                if run.kind in ADDING and run.folder == run.out:
                    _finish(run)  # each thing that was added is whole; what is to replace all of them is not
            raise
        if run.facts:
            _finish(run)


def refuse_strange(out: Path, kind: str) -> None:
    """Refuse a folder that a command has no business in: with files but no run, or with the run of a command of another kind.

    Raises:
        OutputError: it is such a folder, or none.
    """
    found = out if out.exists() else next((parent for parent in out.absolute().parents if parent.exists()), out)
    if found.exists() and not found.is_dir():
        raise OutputError(f"{out} cannot be made: {found} is a file. Choose another --out.")
    if (out / STAGE).is_symlink():
        raise OutputError(f"{out / STAGE} is a link. Remove it, or choose another --out.")
    held_kind = kind_of(out)
    if held_kind is None and out.is_dir():
        others = [item for item in out.iterdir() if item.name not in LITTER and not leavings(item.name, kind)]
        strange = [item.name for item in others if not (kind in ADDING and kind_of(item))]
        if strange:
            shown = ", ".join(sorted(strange)[:3]) + (" ..." if len(strange) > 3 else "")
            raise OutputError(f"{out} holds files, but no run of this program ({shown}). They are not touched: choose another --out.")
    elif held_kind not in (None, kind) and not {held_kind, kind} <= ALIKE:
        raise OutputError(f"{out} holds a run of `{held_kind}`, which `{kind}` does not replace. Choose another --out.")


def settle(out: Path) -> None:
    """Put a whole new run in the place of the old one, where a process was killed while it did so."""
    if "files" in read_record(out / STAGE):
        _take_place(out)


def _settle_at_rest(folder: Path) -> None:
    """The same before a run is read, which needs no lock."""
    if "files" in read_record(folder / STAGE):
        with hold(folder):
            settle(folder)


def working_folder(out: Path) -> Path:
    """Where the process that opened a run writes, for the others that work with it."""
    return out / STAGE if kind_of(out / STAGE) else out


def _open(out: Path, kind: str, inputs: list[Path], *, resume: bool, overwrite: bool, add: bool) -> Run:
    """Choose where to write; nothing changes but that the leavings of an older `--overwrite` go where this one begins anew."""
    stage = out / STAGE
    staged, found = kind_of(stage), kind_of(out)
    if not (staged or found):
        if resume:
            raise OutputError(f"{out} holds no run to resume. Leave --resume out.")
        return Run(out, out, kind)
    given_up = not staged and not is_whole(out) and found == kind and kind not in RESUMED | ADDING
    if not (resume or overwrite or add or given_up):
        offer = f"{FLAGS.get(kind, '')}--overwrite to replace it, or choose another --out."
        raise OutputError(f"{out} holds a run of `{staged or found}` already. Add {offer}")
    own, places = own_files(out), [place for place in (name_in(out, path) for path in inputs) if place]
    kept = _find_kept(out, own, inputs, kind)
    for name in walk(out):
        if name not in own and re.fullmatch(NAMES[kind], name) and not among(name, places):
            raise OutputError(f"{out / name} was not written by the run there, or changed since. Move it away, or choose another --out.")
    if overwrite or given_up:
        _discard(stage, staged)
        if stage.exists():
            raise OutputError(f"{stage} holds files that no run wrote, where the new run is to be made. Move them away.")
        return Run(out, stage, kind, kept=kept)
    return Run(out, stage if staged else out, staged or found or kind, fresh=False, kept=kept)


def _find_kept(out: Path, own: Collection[str], inputs: list[Path], kind: str) -> frozenset[str]:
    """Files of a run that a command reads, and would not write itself.

    Raises:
        OutputError: it would write one, or reads the very folder.
    """
    kept: set[str] = set()
    for path in inputs:
        if not path.exists():
            continue
        place = name_in(out, path)
        files = [name for name in own if (out / name).samefile(path)] if path.is_file() else []
        if place == "." or among(place, [STAGE]) or any(re.fullmatch(NAMES[kind], name) for name in files):
            raise OutputError(f"{path} is an input of this command, and {out} is where it writes. Choose another --out.")
        kept |= {*files, *(name for name in own if place and among(name, [place]))}
    return frozenset(kept)


def _finish(run: Run) -> None:
    """List the files of a run, which makes it whole, and let it take its place."""
    staged = run.folder != run.out  # where nobody else writes
    names = [name for name in walk(run.folder) if by_name(run.folder, name, r".*" if staged else NAMES[run.kind])]
    files = {name: digest(run.folder / name) for name in names if not PART.fullmatch(name)}
    files |= {name: digest(run.out / name) for name in sorted(run.kept)}
    write_json(run.folder / RECORD, run.facts | {"files": files})
    if staged:
        _take_place(run.out)


def _take_place(out: Path) -> None:
    """Move a whole new run over the old one, file by file, and remove what is left of the old one; can be done again at any point.

    Raises:
        OutputError: a file that no run wrote is in the way.
    """
    stage = out / STAGE
    files, old = read_record(stage)["files"], own_files(out)
    moving = [name for name in files if (stage / name).is_file()]
    for name in moving:
        folders = [out / parent for parent in Path(name).parents]
        if any(place.is_symlink() or (place.exists() and not place.is_dir()) for place in folders[:-1]) or (
            os.path.lexists(out / name) and name not in old
        ):
            raise OutputError(f"{out / name} is not of the old run, so the new one cannot take its place. Move it away and use --resume.")
    for name in moving:
        for parent in reversed(Path(name).parents[:-1]):
            (out / parent).mkdir(exist_ok=True)
            (out / parent).chmod((out / parent).stat().st_mode & (stage / parent).stat().st_mode)  # what is private stays so
        (stage / name).replace(out / name)
    _remove(out, old - files.keys())
    (stage / RECORD).replace(out / RECORD)
    _discard(stage, None)
    others = sorted({name.split("/")[0] for name in walk(out) if name not in files and not kind_of(out / name)})
    if others:
        shown = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
        print(f"note: {out} also holds what the run did not write, and that stays: {shown}")


def _worth_keeping(run: Run, error: BaseException) -> bool:
    """Whether something can go on from what a failed run wrote."""
    written = [name for name in walk(run.folder) if by_name(run.folder, name, NAMES[run.kind])]
    if run.kind in ADDING:
        return bool(written)
    begun = any(name.endswith(("checkpoint.pt", "track.json")) for name in written)
    return run.kind in RESUMED and (begun or isinstance(error, KeyboardInterrupt))


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files, and the folders that are empty then."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for parent in sorted({parent for name in names for parent in Path(name).parents if parent.name}, key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):
            (folder / parent).rmdir()


def _discard(folder: Path, kind: str | None) -> None:
    """Remove a run that nobody can go on from, and its folder if that is empty then."""
    _remove(folder, [name for name in walk(folder) if kind and (by_name(folder, name, NAMES[kind]) or leavings(name, kind))])
    (folder / RECORD).unlink(missing_ok=True)
    for place in [*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder]:
        with contextlib.suppress(OSError):
            place.rmdir()


@contextlib.contextmanager
def amend_run(run: Path, name: str) -> Iterator[Path]:
    """Write a further file of a run, or one of its own anew; gives its path.

    Raises:
        OutputError: a file of this name is there that the run did not write.
    """
    with hold(run):
        settle(run)
        path, record = run / name, read_record(run)
        if os.path.lexists(path) and name not in own_files(run):
            raise OutputError(f"{path} was not written by the run there, or changed since. Move it away first.")
        if "files" not in record:
            yield path
            return
        write_json(run / RECORD, record | {AMENDED: name})  # whoever comes after a kill in between finds the old file or the new one
        try:
            yield path
        finally:
            listed = {name: digest(path)} if path.is_file() else {}
            kept = {given: value for given, value in record.items() if given != AMENDED}
            write_json(run / RECORD, kept | {"files": record["files"] | listed})


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a run that ended well; of older versions, which did not say so, any run."""
    record = read_record(folder)
    return "files" in record or ("kind" not in record and kind_of(folder) is not None)


def list_drawing_inputs(run: Path) -> list[Path]:
    """Files of a run that the commands read which show or score it."""
    names = ("avatar.safetensors", "global_only.safetensors", "metrics.json", "metrics.jsonl", "compare.png", "turntable.mp4", RECORD)
    return [find_avatar(run), *(run / name for name in names if run.is_dir())]


def find_avatar(run: Path) -> Path:
    """The avatar file of a run folder, or the file itself.

    Raises:
        InputError: there is none.
    """
    _settle_at_rest(run)
    path = run / "avatar.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{run} holds no avatar.safetensors. Expected a finished run of `deja-vu personalize`.")
    return path


def find_track(folder: Path) -> Path:
    """The tracked folder of a run, wherever the run took it from, or the folder itself.

    Raises:
        InputError: neither is tracked.
        FormatError: the run's record of it is damaged.
    """
    _settle_at_rest(folder)
    for candidate in (folder / "track", folder, recorded_track(folder)):
        if candidate is not None and (candidate / "track.json").is_file():
            return candidate
    raise InputError(f"{folder} holds no tracked video: expected track.json in it or in its track/ folder.")


def recorded_track(folder: Path) -> Path | None:
    """Where a run's tracked video was when it was made; None where nothing is recorded."""
    note = folder / RECORD
    if not note.is_file() or ("kind" in (record := read_record(folder)) and "tracked" not in record):
        return None
    try:
        return Path(json.loads(note.read_text())["tracked"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{note} is damaged ({type(error).__name__}: {error}). Personalize again.") from error
