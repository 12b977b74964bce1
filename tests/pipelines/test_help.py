"""What `--help` and `--version` say, in a process of their own where the stream matters."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import get_args

import pytest

from deja_vu import __version__
from deja_vu.pipelines.cli import COMMANDS, load_command, main
from deja_vu.pipelines.flags import options_of
from deja_vu.pipelines.help_text import document_of


def printed(capsys, *words: str) -> str:
    main(words)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys) -> None:
    text = printed(capsys, name, "--help")
    assert f"usage: deja-vu {name}" in text
    assert load_command(name).example in text
    assert COMMANDS[name].rstrip(".") in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_heading_has_a_name_and_stands_once(name, capsys) -> None:
    headings = [line for line in printed(capsys, name, "--help-all").splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert ":" not in headings
    assert len(headings) == len(set(headings)), headings


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_documented_and_every_number_has_a_range(name) -> None:
    options = options_of(load_command(name).run)
    assert [option.name for option in options if not document_of(option)] == []
    numbers = [option for option in options if (get_args(option.kind) or (option.kind,))[0] in (int, float)]
    assert [option.name for option in numbers if option.range is None] == []


def test_no_command_loads_anything_heavy_to_explain_itself_or_to_refuse() -> None:
    """What costs time is torch (1.5 s of a processor) and what comes with it; counting modules does not depend on the machine's load."""
    program = """if True:
        import sys
        from deja_vu.pipelines.cli import COMMANDS, main
        for words in [[], ["--version"], *([name, "--help-all"] for name in COMMANDS), *([name, "--nonsense"] for name in COMMANDS)]:
            try:
                main(words)
            except SystemExit:
                pass
        for line in (
            "personalize none.mp4 --out x", "track none.mp4 --out x --config tiny", "drive none --motion x", "view none",
            "export none --format ply --out x.ply", "reconstruct none.jpg --out x", "personalize none.mp4 --out x --config papr",
            "generalize --data none --out x",
        ):
            try:
                main(line.split())
            except SystemExit as ended:
                assert ended.code == 2, line
            else:
                raise AssertionError(line)
        print("heavy:", sorted({"torch", "numpy", "cv2", "ai_edge_litert", "mediapipe", "scipy", "av", "tqdm", "PIL"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_help_shows_what_matters_and_names_the_rest(capsys) -> None:
    short, whole = printed(capsys, "personalize", "--help"), printed(capsys, "personalize", "--help-all")
    assert len(short.splitlines()) < 50
    assert "--help-all" in short
    assert short.count("--split") == 1
    for text in (short, whole):
        assert "--track.split" not in text, "no flag is shown under two names"
        assert "--nerf." not in text
    assert "--track.fit." in whole
    assert "--nerf." in printed(capsys, "personalize", "--path", "nerf", "--help-all")


def test_help_shows_the_values_of_the_named_recipe(capsys, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("track: {max_frames: 77}")
    assert "default: 77" in printed(capsys, "personalize", "--config", str(tmp_path / "mine.yaml"), "--help")


def test_help_fits_a_stream_without_accents() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for words in (["--help"], ["personalize", "--help-all"], ["reconstruct", "--help"]):
        call = [sys.executable, "-m", "deja_vu.pipelines.entry", *words]
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_reader_that_leaves_is_no_error() -> None:
    call = f"{sys.executable} -m deja_vu.pipelines.entry personalize --help-all | head -1"
    done = subprocess.run(call, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: deja-vu personalize")
    assert done.stderr == ""


def test_the_version_is_printed_with_the_commit(capsys) -> None:
    assert printed(capsys, "--version").startswith(f"deja-vu {__version__} (")
