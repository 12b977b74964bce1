from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deja_vu import __version__
from deja_vu.io.provenance import BUILT_FROM, commit, machine


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    return subprocess.run(["git", "-C", str(folder), *author, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def repository(folder: Path, project: str, package: str = "deja_vu") -> Path:
    """A repository with one commit, laid out as a source tree of some project."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text("")
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_a_checkout_tells_its_commit_and_whether_it_was_changed(tmp_path) -> None:
    tree = repository(tmp_path / "tree", "deja-vu")
    head = git(tree, "rev-parse", "--short=12", "HEAD")
    assert commit(tree) == head
    (tree / "notes.txt").write_text("of nobody's concern")
    assert commit(tree) == head
    (tree / "deja_vu" / "__init__.py").write_text("changed = True\n")
    assert commit(tree) == f"{head}+dirty"


@pytest.mark.parametrize("inside", [".venv/lib/python3/site-packages", "vendor/deja-vu"])
def test_a_copy_inside_somebodys_repository_has_no_commit(inside, tmp_path) -> None:
    theirs = repository(tmp_path / "theirs", "their-app", "their_app")
    copy = theirs / inside
    (copy / "deja_vu").mkdir(parents=True)
    (copy / "deja_vu" / "__init__.py").write_text("")
    (copy / "pyproject.toml").write_text('[project]\nname = "deja-vu"\n')
    assert commit(copy) == __version__
    (copy / "deja_vu" / BUILT_FROM).write_text("0123456789ab\n")
    assert commit(copy) == "0123456789ab"


def test_a_repository_of_another_project_is_not_ours(tmp_path) -> None:
    assert commit(repository(tmp_path, "their-app")) == __version__


def test_the_environment_cannot_point_at_another_repository(tmp_path, monkeypatch) -> None:
    """As it does while git runs a hook."""
    tree, other = repository(tmp_path / "tree", "deja-vu"), repository(tmp_path / "other", "other")
    (other / "more").write_text("")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "--message", "second")
    head = git(tree, "rev-parse", "--short=12", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert commit(tree) == head


def test_without_git_the_version_stands(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == __version__


def test_the_machine_says_how_many_cores_it_has() -> None:
    assert "cores" in machine()
