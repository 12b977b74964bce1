"""A run folder: how it is opened, what it records about itself, how its parts are found."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from deja_vu.avatars import Avatar, load_avatar
from deja_vu.core.config import load_config
from deja_vu.core.errors import ConfigError, FormatError, InputError, OutputError
from deja_vu.core.sequence import TrackedSequence

RECORDED_PACKAGES = ("torch", "numpy", "mediapipe", "av")


def open_run(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make a run folder, or accept an existing one.

    Raises:
        OutputError: it holds a run already and neither flag is given, or it cannot be written.
    """
    if resume and overwrite:
        raise OutputError("--resume and --overwrite exclude each other: continue the run, or start it anew.")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file. Expected a folder to write into.")
    if folder.is_dir() and any(folder.iterdir()) and not (resume or overwrite):
        raise OutputError(f"{folder} is not empty. Add --resume to continue that run, --overwrite to start anew, or choose another --out.")
    if resume and not any((folder / name).exists() for name in ("run.json", "track", "config.yaml")):
        raise OutputError(f"{folder} holds no run to resume (neither run.json, track nor config.yaml). Leave --resume out.")
    ancestor = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not ancestor.is_dir():
        raise OutputError(f"{folder} cannot be made: {ancestor} is a file. Choose another --out.")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written: {ancestor} is read-only. Choose another --out.")


def clear_run(folder: Path, keep: Path) -> None:
    """Delete what an earlier run left, but for one tracked folder.

    Raises:
        OutputError: the tracked folder is the run folder itself, or above it.
    """
    kept = keep.resolve()
    if folder.resolve().is_relative_to(kept):
        raise OutputError(f"{folder} holds the tracked video to learn from, which --overwrite would delete. Choose another --out.")
    for item in folder.iterdir() if folder.is_dir() else ():
        if kept.is_relative_to(item.resolve()):
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()


def refuse_other_recipe(folder: Path, recipe: object) -> None:
    """Refuse to resume a run with another recipe than it was started with, which would give a mixture of both.

    Raises:
        ConfigError: a value differs.
    """
    path = folder / "config.yaml"
    if path.is_file() and load_config(type(recipe), path) != recipe:
        raise ConfigError(f"{folder} was started with another recipe. Add --config {path} to resume with it, or --overwrite to start anew.")


def record(folder: Path, tracked: Path) -> dict[str, str]:
    """Write run.json: tracked folder, commit, command line, machine; returns what an avatar's header repeats of it."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"tracked": str(tracked.resolve())}
    facts |= {"commit": commit(), "command": " ".join(sys.argv), "python": platform.python_version(), "machine": machine()}
    facts |= {name: metadata.version(name) for name in RECORDED_PACKAGES}
    (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
    return {"commit": facts["commit"], "command": facts["command"]}


def write_json(path: Path, value: dict[str, object]) -> None:
    """Write JSON in one move, so that a reader never sees half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)


def commit() -> str:
    """Git commit of the source tree, or the package version where there is none."""
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return metadata.version("deja-vu")
    return done.stdout.strip()


def machine() -> str:
    """Processor and core count."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def load_pair(run: Path) -> tuple[Avatar, TrackedSequence]:
    """The avatar of a run and the tracked video it was learned from.

    Raises:
        InputError: one of them is not there.
        FormatError: one is damaged, or they belong to different heads.
    """
    avatar, sequence = load_avatar(find_avatar(run)), TrackedSequence.load(find_track(run))
    ours, theirs = avatar.head.spec.name, sequence.info.head_name
    if ours != theirs:
        raise FormatError(f"{run}: the avatar has head '{ours}', but the video was tracked with head '{theirs}'. Personalize again.")
    return avatar, sequence


def find_avatar(run: Path) -> Path:
    """The avatar file of a run folder, or the file itself.

    Raises:
        InputError: there is none.
    """
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
    for candidate in (folder / "track", folder, recorded_track(folder)):
        if candidate is not None and (candidate / "track.json").is_file():
            return candidate
    raise InputError(f"{folder} holds no tracked video: expected track.json in it or in its track/ folder.")


def recorded_track(folder: Path) -> Path | None:
    """Where a run's tracked video was when it was made; None where nothing is recorded."""
    note = folder / "run.json"
    if not note.is_file():
        return None
    try:
        return Path(json.loads(note.read_text())["tracked"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{note} is damaged ({type(error).__name__}: {error}). Personalize again.") from error
