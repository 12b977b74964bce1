"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with one line for each row.

    Args:
        header: names of the columns.
        rows: as many cells each; a line break or bar in one is escaped.
    """
    lines = [header, ["---"] * len(header), *rows]
    assert all(len(line) == len(header) for line in lines), header
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
