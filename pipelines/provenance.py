"""What a result says of its origin: which code, on which machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from deja_vu import __version__

BUILT_FROM = "built_from.txt"
"""Beside the package's files, where it was installed from a source tree of ours: that tree's commit."""


def commit() -> str:
    """Git commit of our source tree, with `-dirty` where it was changed since; of an installed package the one it was built from.

    Without either the package's version. A repository that the package happens to be installed in is not ours.
    """
    root = Path(__file__).resolve().parent.parent
    note = root / BUILT_FROM
    return commit_of(root) or (note.read_text().strip() if note.is_file() else "") or __version__


def commit_of(root: Path) -> str | None:
    """Git commit of a source tree, with `-dirty` where it was changed since; None where the folder is no repository's top."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def machine() -> str:
    """Processor and core count."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def version_line() -> str:
    """Program, version and commit."""
    return f"deja-vu {__version__} (commit {commit()})"
