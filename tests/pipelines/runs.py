"""Runs that hold some made-up files, and what is in a folder, for the tests of run folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from deja_vu.core.errors import OutputError
from deja_vu.pipelines.run_folder import open_run


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, and what it says."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


FILES = ("avatar.safetensors", "config.yaml", "metrics.json", "track/track.json", "track/frames/000000.jpg")


def write(folder: Path, names: Iterable[str], content: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def make_run(folder: Path, content: str = "old", names: Iterable[str] = FILES, kind: str = "personalize", **flags: Any) -> None:
    """A run that writes some files."""
    with open_run(folder, kind, **flags) as run:
        run.note()
        write(run.folder, names, content)


def refused(folder: Path, kind: str, expected: str, **flags: Any) -> str:
    """What is said when a folder is not opened."""
    with pytest.raises(OutputError, match=expected) as error, open_run(folder, kind, **flags):
        pass
    return str(error.value)


def make_older_run(folder: Path) -> None:
    """As versions left it that kept no list of a run's files."""
    write(folder, FILES, "old")
    facts = {"tracked": str(folder / "track"), "commit": "758e324", "command": "deja-vu personalize me.mp4", "machine": "a laptop"}
    (folder / "run.json").write_text(json.dumps(facts))
