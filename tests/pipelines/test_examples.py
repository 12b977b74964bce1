"""Every script in `examples` runs as its first lines say, and writes what they name."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deja_vu.io.video import read_frames
from deja_vu.render.base import RASTERIZERS

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Run an example in an empty folder as `python` would."""

    def run(number: int, *arguments: object) -> dict[str, object]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [str(EXAMPLES[number - 1]), *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES[number - 1]), run_name="__main__")

    return run


@pytest.fixture(scope="session")
def short_run(film, tmp_path_factory) -> Path:
    """What the example that trains leaves, of the toy head's video."""
    folder = tmp_path_factory.mktemp("examples")
    video = film(folder / "tracked")
    torch.manual_seed(0)
    runpy.run_path(str(EXAMPLES[4]))["main"](str(video.folder), str(folder / "short"))
    return folder / "short"


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def test_they_are_short_and_say_what_they_write() -> None:
    assert [path.name[:2] for path in EXAMPLES] == [f"0{number}" for number in range(1, 7)]
    for path in EXAMPLES:
        text = path.read_text()
        assert len(text.splitlines()) <= 42, path.name
        assert f"python examples/{path.name}" in text, path.name
        assert re.search(r"Writes\s[a-z]+", text.split('"""')[1]), path.name


def test_views_are_of_three_sides(start, short_run, tmp_path) -> None:
    start(1, short_run)
    views = np.split(picture(tmp_path / "views.png"), 3, axis=1)
    eyes = [np.nonzero(view.max(-1) < 60)[1].mean() for view in views]
    assert eyes[0] + 10 < eyes[1] < eyes[2] - 10, "the dark eyes move to the picture's right with the yaw"


def test_stronger_expressions_change_more(start, short_run, tmp_path) -> None:
    start(2, short_run)
    jaw = np.split(picture(tmp_path / "expressions.png")[:256], 4, axis=1)
    change = [np.abs(step - jaw[0]).mean() for step in jaw[1:]]
    assert 0 < change[0] < change[1] < change[2]


def test_gradients_recolor_gaussians(start, tmp_path) -> None:
    start(3)
    before, after = np.split(picture(tmp_path / "gaussians.png"), 2, axis=1)
    inked = before.min(-1) < 128
    assert inked.sum() > 2000
    orange = np.abs(after[inked] - (255, 128, 26)).mean(-1)
    assert np.median(orange) < 25 < np.median(np.abs(before[inked] - (255, 128, 26)).mean(-1))


def test_arrays_become_a_video(start, short_run, tmp_path) -> None:
    start(4, short_run)
    frames = [frame for _, _, frame in read_frames(tmp_path / "driven.mp4")]
    assert len(frames) == 50
    assert np.abs(frames[0].astype(float) - frames[25]).mean() > 1


def test_training_leaves_an_avatar_with_its_person(short_run, capsys) -> None:
    import deja_vu

    me = deja_vu.load(short_run / "avatar.safetensors")
    assert me.subject.name == "toy"
    assert np.asarray(me.render(size=64)).std() > 20
    assert (short_run / "metrics.jsonl").is_file()


def test_a_rasterizer_is_added_by_name(start, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("deja_vu.render.base.RASTERIZERS", dict(RASTERIZERS))
    added = start(6)
    assert callable(added["draw_dots"])
    dots, ours = np.split(picture(tmp_path / "rasterizers.png"), 2, axis=1)
    face = np.zeros(dots.shape[:2], bool)
    face[120:200, 130:190] = True
    assert (dots[face] < 250).any(-1).mean() > 0.2, "dots cover the face thinly"
    assert (ours[face] < 250).any(-1).mean() > 0.99, "Gaussians cover it wholly"


def test_the_lines_of_the_readme_run_as_they_stand(short_run, tmp_path, monkeypatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(short_run)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert Image.open("me.png").size == (512, 512)
    smiles = sorted(tmp_path.glob("smile*.png"))
    assert [path.name for path in smiles] == sorted(f"smile{degree:+d}.png" for degree in range(-30, 31, 5))
    covered = np.asarray(Image.open(smiles[0]))[..., 3]
    assert covered.min() == 0, "transparent"
    assert covered.max() == 255
