"""The rooms of the project and who imports whom, as a drawing: `make graph` prints it, docs/architecture.md shows it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = (
    ("core",),
    ("native", "kernels"),
    ("io",),
    ("heads", "uv", "render", "nets", "losses"),
    ("avatars", "motion"),
    ("tracking", "datasets", "training", "export", "viewer"),
    ("bench",),
    ("report",),
    ("pipelines",),
)
"""Rooms from the foundation to the roof; one imports only what lies below it."""
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def sources() -> list[Path]:
    """Every Python file of the package, pipelines included."""
    return sorted([*(ROOT / "deja_vu").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])


def room_of(path: Path) -> str | None:
    """The room that a file belongs to; None for the top of the package."""
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
            # `from deja_vu import avatars` names the room in the alias.
            names += [f"{module}.{alias.name}" for alias in node.names] if module == "deja_vu" else [module]
    return names


def count_imports() -> Counter[tuple[str, str]]:
    """How many times files of one room import from another."""
    arrows: Counter[tuple[str, str]] = Counter()
    for path in sources():
        own = room_of(path)
        for name in imported(list(ast.walk(ast.parse(path.read_text())))):
            parts = name.split(".")
            if own and parts[0] == "deja_vu" and len(parts) > 1 and parts[1] in LEVEL and parts[1] != own:
                arrows[own, parts[1]] += 1
    return arrows


def draw_mermaid() -> str:
    """Rooms on their floors with their size in files and lines; arrows down in gray, any arrow up in red."""
    sizes: dict[str, list[int]] = {room: [] for room in LEVEL}
    for path in sources():
        if (room := room_of(path)) in sizes:
            sizes[room].append(len(path.read_text().splitlines()))
    lines = ["flowchart TD"]
    for level in reversed(range(len(LAYERS))):
        lines.append(f"  subgraph floor{level}[ ]")
        lines += [f'    {room}["{room}<br/>{len(sizes[room])} files, {sum(sizes[room])} lines"]' for room in LAYERS[level]]
        lines.append("  end")
    upward = []
    for number, ((above, below), count) in enumerate(sorted(count_imports().items(), key=lambda arrow: (-LEVEL[arrow[0][0]], arrow[0]))):
        lines.append(f"  {above} -->|{count}| {below}")
        if LEVEL[below] >= LEVEL[above]:
            upward.append(number)
    lines += [f"  linkStyle {number} stroke:red,stroke-width:3px" for number in upward]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(draw_mermaid(), end="")
