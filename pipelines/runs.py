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

from deja_vu.core.errors import InputError, OutputError

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
    if resume and not (folder / "run.json").is_file():
        raise OutputError(f"{folder} holds no run to resume (no run.json). Leave --resume out.")
    ancestor = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    if not os.access(ancestor, os.W_OK):
        raise OutputError(f"{folder} cannot be written: {ancestor} is read-only. Choose another --out.")


def clear_run(folder: Path) -> None:
    """Delete what an earlier run left, but for its tracked folder."""
    for item in folder.iterdir():
        if item.name == "track":
            continue
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()


def record(folder: Path, config: object) -> dict[str, str]:
    """Write run.json: version, commit, command line, machine; returns what an avatar's header repeats of it."""
    facts = {"commit": commit(), "command": " ".join(sys.argv), "python": platform.python_version(), "machine": machine()}
    facts |= {name: metadata.version(name) for name in RECORDED_PACKAGES}
    (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
    return {"commit": facts["commit"], "command": facts["command"]}


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
    """The tracked folder of a run, or the folder itself.

    Raises:
        InputError: neither is tracked.
    """
    for candidate in (folder / "track", folder):
        if (candidate / "track.json").is_file():
            return candidate
    raise InputError(f"{folder} holds no tracked video: expected track.json in it or in its track/ folder.")
