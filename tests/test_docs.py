"""What the documents point at is there, and the site builds from them."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageSequence

from deja_vu.pipelines.import_data import Kind

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)|<img src=\"([^\"]+)")
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"?([^\"> ]+)|<link\b[^>]*\bhref=\"?([^\"> ]+)|url\(([^)]+)\)|@import \"([^\"]+)"
)
"""What a browser fetches for a page or a style sheet, besides what its scripts ask for."""
IN_REPOSITORY = re.compile(r"`((?:deja_vu|pipelines|tests|configs|docs|data|examples)/[\w./-]+)`")
"""Paths in backquotes, from the root."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link for found in LINK.findall(text) for link in found if link and not link.startswith(("http://", "https://", "mailto:"))]
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in IN_REPOSITORY.findall(text) if not (ROOT / path).exists()] == []


def test_the_architecture_names_files_that_exist() -> None:
    """Its tables name files from inside the package, as `uv/lift.py`."""
    text = (ROOT / "docs" / "architecture.md").read_text() + (ROOT / "docs" / "glossary.md").read_text()
    named = {path for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text) if "/x.py" not in path}
    missing = {path for path in named if not (ROOT / "deja_vu" / path).exists() and not (ROOT / path).exists()}
    assert missing == set()
    assert len(named) > 20, "the pattern still finds them"


def test_what_can_be_added_is_registered_where_the_architecture_says() -> None:
    """Names in backquotes stand in the file that is named after them."""
    rows = (ROOT / "docs" / "architecture.md").read_text().partition("## Where things plug in")[2].partition("\n## ")[0]
    named = [(names, file) for names, file in re.findall(r"((?:`\w+`[^`|]*)+)`([\w/]+\.py)`", rows) if "x.py" not in file]
    for names, file in named:
        text = ((ROOT / file) if (ROOT / file).exists() else ROOT / "deja_vu" / file).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(?:def |class )?{name}\b", text, re.MULTILINE), (name, file)
    assert len(named) >= 10, "the pattern still finds them"


def test_every_kind_of_data_set_stands_in_the_readme_with_its_terms() -> None:
    """What `deja-vu import` takes, where it comes from, under which terms, and a command that names it; and nothing else."""
    text = (ROOT / "data" / "README.md").read_text().partition("## Data sets of others")[2].partition("\n## ")[0]
    rows = {cells[0].strip("` "): cells for line in re.findall(r"^\| (`.*) \|$", text, re.MULTILINE) for cells in [line.split(" | ")]}
    assert set(rows) == set(get_args(Kind))
    for kind, (_, source, terms, layout, command) in rows.items():
        assert source.strip(), kind
        assert re.search("research|commercial|CC BY", terms), kind
        assert layout.strip(), kind
        assert command.startswith(f"`deja-vu import {kind} "), kind


def length_of(path: Path, name: str) -> int:
    """Lines of a function, a class, or a method as `Class.method`, decorators and docstring included."""
    found: ast.AST = ast.parse(path.read_text())
    for part in name.split("."):
        (found,) = [node for node in getattr(found, "body", []) if getattr(node, "name", None) == part]
    assert isinstance(found, ast.FunctionDef | ast.ClassDef)
    return (found.end_lineno or 0) - found.lineno + 1 + len(found.decorator_list)


def test_the_path_from_video_to_picture_is_read_in_600_lines() -> None:
    """The list names what exists, in at most 600 lines; what it says of lengths may be off by a few lines."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| \d+ \| `([\w/]+\.py)`: ([^|]+) \| (\d+) \|", text, re.MULTILINE)
    lengths = []
    for file, names, said in rows:
        path = ROOT / file if (ROOT / file).exists() else ROOT / "deja_vu" / file
        lengths.append(sum(length_of(path, name) for name in re.findall(r"`([\w.]+)`", names)))
        assert lengths[-1] == pytest.approx(int(said), abs=5, rel=0.1), file
    assert len(lengths) >= 10, "the pattern still finds them"
    assert sum(lengths) <= 600


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="needs mkdocs-material and mkdocstrings: pip install '.[docs]' in the source folder")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_without_a_warning(site: Path) -> None:
    page = (site / "api" / "core" / "index.html").read_text()
    assert "camera_from_world" in page, "API pages are made from the docstrings"


def test_the_site_needs_no_network(site: Path) -> None:
    """Readers behind a firewall see all of it, and nobody learns what they read."""
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    fetched = {target for file in files for found in LOADED.findall(file.read_text()) for target in found if target}
    assert len(fetched) > 5, "the pattern still finds them"
    assert [target for target in fetched if re.match(r"[\"']?(?:https?:)?//", target)] == []
    # The theme's script would fetch its drawing library for these.
    assert [file for file in files if 'class="mermaid"' in file.read_text()] == []


def test_the_moving_picture_is_small_and_has_no_seam() -> None:
    """From its last frame to its first it moves no more than it does elsewhere."""
    path = ROOT / "docs" / "images" / "avatar.webp"
    assert path.stat().st_size < 1.5e6
    with Image.open(path) as picture:
        frames = [np.asarray(frame.convert("RGB")).astype(float) for frame in ImageSequence.Iterator(picture)]
    assert len(frames) > 30
    steps = [np.abs(after - before).mean() for before, after in itertools.pairwise(frames)]
    assert np.abs(frames[0] - frames[-1]).mean() <= max(steps)
    assert frames[0][-4:].min() > 250, "white below the words"
