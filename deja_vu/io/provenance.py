"""Where a result comes from: which code, on which machine. Only imports the standard library, as installation runs it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from deja_vu import __version__

BUILT_FROM = "built_from.txt"
"""Beside the package's files, where it was installed from a source tree of ours: that tree's commit."""
NAMED = re.compile(r'^\s*name\s*=\s*"deja-vu"', re.MULTILINE)
"""How a source tree's pyproject.toml says that it is ours."""


def commit(root: Path = Path(__file__).resolve().parents[2]) -> str:
    """Git commit of our source tree, with `+dirty` where it was changed since; of an installed package the one it was built from.

    Without either the package's version. A repository that the package happens to be installed or unpacked in is not ours.

    Args:
        root: folder that holds the package.
    """
    note = root / "deja_vu" / BUILT_FROM
    return commit_of(root) or (note.read_text().strip() if note.is_file() else "") or __version__


def commit_of(root: Path) -> str | None:
    """Git commit of a source tree of ours, with `+dirty` where its tracked files were changed since; None of any other folder."""
    project = root / "pyproject.toml"
    if not (project.is_file() and NAMED.search(project.read_text(encoding="utf-8", errors="replace"))):
        return None
    if not (root / "deja_vu" / "__init__.py").is_file():
        return None
    try:
        if not Path(_git(root, "rev-parse", "--show-toplevel")).samefile(root):
            return None
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        return _git(root, "rev-parse", "--short=12", "HEAD") + ("+dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *words: str) -> str:
    """Answer of git about one folder, whatever repository the environment points at."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, env=environment).stdout.strip()


def machine() -> str:
    """Processor and core count."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def version_line() -> str:
    """Program, version and, where it is known, commit."""
    known = commit()
    return f"deja-vu {__version__}" + (f" (commit {known})" if known != __version__ else "")
