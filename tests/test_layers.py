"""Imports point down the layers, siblings know nothing of each other, and optional packages load only where they are used."""

from __future__ import annotations

import ast
import re

import pytest

from tests.helpers.import_graph import LAYERS, LEVEL, ROOT, count_imports, draw_mermaid, imported, room_of, sources

KERNELS = {"deja_vu.kernels.distance", "deja_vu.kernels.pose", "deja_vu.kernels.ssim"}
OPTIONAL = set("mediapipe ai_edge_litert av gsplat pytorch3d pymatting anny lpips pygltflib viser pyvirtualcam skimage tensorboard".split())
OPTIONAL |= {"pillow_heif", "triton"}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own = room_of(path)
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


def test_the_documents_draw_the_same_floors():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    drawn = "".join(line for line in text.splitlines() if line.startswith("    ") and "<-" in line)
    assert [set(floor.replace(" ", "").split(",")) for floor in drawn.split("<-")] == [set(rooms) for rooms in LAYERS]
    rows = re.findall(r"^\| (\d) \| ((?:`\w+`(?:, )?)+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)} == LEVEL


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


MADE_FOR_OPTIONAL = ("bake", "kernels")
"""Folders whose files are themselves loaded on use."""
ELSEWHERE = [path for path in sources() if path.parent.name not in MADE_FOR_OPTIONAL]


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_packages_load_on_use(path):
    names = imported(top_level(ast.parse(path.read_text())))
    loaded = {name.split(".")[0] for name in names} & OPTIONAL | set(names) & KERNELS
    assert not loaded, f"{sorted(loaded)}: import inside the function that needs it"


def test_every_kernel_is_known_to_load_on_use():
    assert {f"deja_vu.kernels.{path.stem}" for path in sources() if path.parent.name == "kernels"} == KERNELS | {"deja_vu.kernels.__init__"}


def test_the_walk_sees_a_violation(tmp_path):
    tree = ast.parse("from deja_vu import avatars\nif 1:\n    import av.error\n")
    assert imported(list(ast.walk(tree))) == ["deja_vu.avatars", "av.error"]
    assert "av.error" in imported(top_level(tree))
    hidden = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import av\n")
    assert "av" not in imported(top_level(hidden))


def test_the_drawing_has_every_room_and_no_arrow_up():
    drawing = draw_mermaid()
    assert all(f'{room}["{room}<br/>' in drawing for room in LEVEL)
    assert ("pipelines", "avatars") in count_imports()
    assert "linkStyle" not in drawing
