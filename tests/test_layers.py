"""Imports point down the layers, siblings know nothing of each other, and optional packages load only where they are used."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    {"core"},
    {"native", "io"},
    {"heads", "uv", "render", "nets", "losses"},
    {"avatars", "motion"},
    {"tracking", "datasets", "training", "export", "viewer", "bench"},
    {"report"},
    {"pipelines"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
OPTIONAL = set("mediapipe av gsplat pytorch3d pymatting anny lpips pygltflib viser pyvirtualcam skimage tensorboard".split())


def sources() -> list[Path]:
    """Every Python file of the package and the pipelines."""
    return sorted([*(ROOT / "deja_vu").rglob("*.py"), *(ROOT / "pipelines").glob("*.py"), *(ROOT / "pipelines" / "commands").glob("*.py")])


def layer_of(path: Path) -> str | None:
    """The subpackage that a file belongs to; None for the top of the package."""
    parts = path.relative_to(ROOT).parts
    return "pipelines" if parts[0] == "pipelines" else parts[1] if len(parts) > 2 else None


def imported(nodes: list[ast.stmt] | list[ast.AST]) -> list[str]:
    """Full names of the modules imported by some statements."""
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            module = node.module or ""
            # `from deja_vu import avatars` names the layer in the alias.
            names += [f"{module}.{alias.name}" for alias in node.names] if module == "deja_vu" else [module]
    return names


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own = layer_of(path)
    if own is None:
        return
    assert own in LEVEL, f"{own} is not a subpackage that the layers know"
    for name in imported(list(ast.walk(ast.parse(path.read_text())))):
        parts = name.split(".")
        if parts[0] == "pipelines":
            pytest.fail(f"{name}: the pipelines are imported as deja_vu.pipelines")
        if parts[0] != "deja_vu" or len(parts) < 2 or parts[1] == own:
            continue
        assert parts[1] in LEVEL or parts[1] == "__version__", name
        assert LEVEL.get(parts[1], -1) < LEVEL[own], f"{own} imports {name}, which is not below it"


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import; blocks under `if TYPE_CHECKING` do not."""
    statements: list[ast.stmt] = []
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        statements.append(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            pending += [*node.body, *node.orelse]
        elif isinstance(node, ast.Try):
            pending += [*node.body, *node.orelse, *node.finalbody, *(child for handler in node.handlers for child in handler.body)]
        elif isinstance(node, ast.With):
            pending += node.body
    return statements


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_packages_load_on_use(path):
    loaded = {name.split(".")[0] for name in imported(top_level(ast.parse(path.read_text())))}
    assert not loaded & OPTIONAL, f"{sorted(loaded & OPTIONAL)}: import inside the function that needs it"


def test_the_walk_sees_a_violation(tmp_path):
    tree = ast.parse("from deja_vu import avatars\nif 1:\n    import av.error\n")
    assert imported(list(ast.walk(tree))) == ["deja_vu.avatars", "av.error"]
    assert "av.error" in imported(top_level(tree))
    hidden = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import av\n")
    assert "av" not in imported(top_level(hidden))
