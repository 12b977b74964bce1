"""Rooms stay small enough to be read at one sitting: files, functions, and the median file."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400
"""Lines."""
LONGEST_FUNCTION = 60
"""Lines, docstring included."""
LONGEST_MEDIAN = 120
"""Lines of the median file of the package."""
BUILT = "deja-vu.js"
"""The web player as one file, made by `make web`."""
SUFFIXES = {".py", ".cpp", ".h", ".js"}


def sources(*folders: str) -> list[Path]:
    """Source files that people write and read; what npm builds or installs does not count."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return sorted(path for path in found if "node_modules" not in path.parts and path.name != BUILT)


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length of every function of a Python file, inner ones and methods too."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        (node.name, (node.end_lineno or 0) - node.lineno + 1) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("path", sources("deja_vu", "pipelines", "tests", "examples"), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    if path.suffix == ".py":
        assert {name: length for name, length in functions(path) if length > LONGEST_FUNCTION} == {}


def test_the_median_file_is_short() -> None:
    lengths = [len(path.read_text().splitlines()) for path in sources("deja_vu", "pipelines") if path.suffix == ".py"]
    assert statistics.median(lengths) < LONGEST_MEDIAN


def test_the_walk_counts_inner_functions_and_methods(tmp_path: Path) -> None:
    path = tmp_path / "room.py"
    path.write_text("class A:\n    def b(self):\n        def c():\n            return 1\n\n        return c\n")
    assert functions(path) == [("b", 5), ("c", 2)]
