"""Which code a result says it is from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deja_vu.pipelines.provenance import commit_of


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    return subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_a_tree_names_its_commit_and_whether_it_was_changed_since(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    git(tmp_path, "tag", "v9")
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert commit_of(tmp_path) == head
    (tmp_path / "code.py").write_text("2")
    assert commit_of(tmp_path) == f"{head}-dirty"


def test_a_repository_around_an_installed_package_is_not_its_source(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    installed = tmp_path / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert commit_of(installed) is None
