"""What the check of shapes and types at run time (`make shapes`) can read; it takes minutes to fail for a whole file otherwise."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "deja_vu").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])


def words(node: ast.AST) -> set[str]:
    """Names in an expression."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return names | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def unreadable(source: str) -> list[str]:
    """Protocols without runtime_checkable, and uses of `Self`, which a function on its own cannot resolve."""
    tree = ast.parse(source)
    protocols = [
        node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and "Protocol" in set().union(*map(words, node.bases), ())
    ]
    found = [node.name for node in protocols if "runtime_checkable" not in set().union(*map(words, node.decorator_list), ())]
    return found + ["Self"] * ("Self" in words(tree))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_types_can_be_checked_at_run_time(path: Path) -> None:
    assert unreadable(path.read_text()) == []


def test_what_cannot_be_checked_is_found() -> None:
    assert unreadable("class A(Protocol): ...\n@runtime_checkable\nclass B(Protocol): ...\nclass C(Protocol[T]): ...") == ["A", "C"]
    assert unreadable("class A:\n    def to(self) -> Self: ...") == ["Self"]
