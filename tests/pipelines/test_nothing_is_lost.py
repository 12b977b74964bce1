"""Every command, on folders and files that are the user's, an older run's, or its own input: nothing is deleted or replaced."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deja_vu.avatars import load_avatar, save_avatar
from deja_vu.core.config import config_text
from deja_vu.core.errors import FormatError, InputError
from deja_vu.io.assets import find
from deja_vu.io.files import write_atomic
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.compare_starts import PLAIN, compare_starts
from deja_vu.pipelines.identity import source_facts
from deja_vu.pipelines.own_files import STAGE, own_files
from deja_vu.pipelines.personalize import learn, personalize
from deja_vu.pipelines.recipes import Recipe
from deja_vu.pipelines.run_folder import open_run
from tests.pipelines.test_cli import refused, snapshot
from tests.pipelines.test_run_folder import HELD

__all__ = ["refused"]
needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")


@pytest.fixture
def run(film, painted, tmp_path) -> Path:
    """A finished run of the toy head, with files of the user's in its folder."""
    with open_run(tmp_path / "run", "personalize") as opened:
        opened.note()
        film(opened.folder / "track")
        save_avatar(painted, opened.folder / "avatar.safetensors", {})
        (opened.folder / "metrics.json").write_text("{}")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    return tmp_path / "run"


@pytest.fixture
def home(tmp_path) -> Path:
    """A folder of the user's, with names in it that runs write too."""
    folder = tmp_path / "home"
    (folder / "frames").mkdir(parents=True)
    for name in (
        "me.mp4",
        "me.jpg",
        "letter.txt",
        "frames/000000.jpg",
        "000000.png",
        "index.html",
        "config.yaml",
        "table.md",
        "report.json",
    ):
        (folder / name).write_text("mine")
    return folder


def commands(home: Path, run: Path, folder: Path) -> dict[str, list[str]]:
    """Every command that fills a folder, with the user's files and a run as inputs."""
    video, photo, tracked, out = str(home / "me.mp4"), str(home / "me.jpg"), str(run / "track"), ["--out", str(folder)]
    return {
        "personalize": ["personalize", video, *out],
        "personalize a tracked video": ["personalize", tracked, *out],
        "track": ["track", video, *out],
        "reconstruct": ["reconstruct", photo, *out],
        "generalize": ["generalize", "--data", str(home), *out],
        "prepare": ["prepare", str(home), *out],
        "demo": ["demo", *out],
        "demo of a video": ["demo", "--video", video, *out],
        "benchmark": ["benchmark", video, *out],
        "benchmark paths": ["benchmark", tracked, "--paths", "gaussian", *out],
        "compare-starts": ["compare-starts", tracked, *out],
        "drive": ["drive", str(run), "--motion", tracked, *out],
        "export a page": ["export", str(run), "--format", "web", *out],
        "export a sequence": ["export", str(run), "--format", "ply", "--motion", tracked, *out],
        "evaluate": ["evaluate", str(run), "--save-frames", str(folder)],
    }


def flags(command: list[str]) -> list[str]:
    """The flags by which a command may be told to go on in a folder."""
    known = {
        "benchmark": "--reuse",
        "compare-starts": "--reuse",
        "personalize": "--resume",
        "generalize": "--resume",
        "prepare": "--resume",
    }
    return [known[command[0]], "--overwrite"] if command[0] in known else ["--overwrite"]


def test_no_command_writes_into_a_folder_that_holds_no_run(refused, home, run, tmp_path) -> None:
    before = snapshot(tmp_path)
    for name, command in commands(home, run, home).items():
        for extra in ([], *([flag] for flag in flags(command))):
            message = refused(*command, *extra)
            assert "no run of this program" in message, (name, extra, message)
            assert "--overwrite" not in message
            assert "another --out" in message
            assert snapshot(tmp_path) == before, (name, extra)


def test_no_command_replaces_a_run_that_it_reads_or_that_another_command_made(refused, home, run, tmp_path) -> None:
    before = snapshot(tmp_path)
    for name, command in commands(home, run, run).items():
        if name in ("personalize", "reconstruct", "demo", "demo of a video", "personalize a tracked video"):
            continue  # which may replace an avatar's run, when they are asked to
        for extra in ([], *([flag] for flag in flags(command))):
            message = refused(*command, *extra)
            assert "does not replace" in message or "is an input" in message, (name, extra, message)
            assert snapshot(tmp_path) == before, (name, extra)


def test_no_command_writes_a_file_over_its_input_or_another_file(refused, run, tmp_path) -> None:
    motion, taken, avatar = tmp_path / "motion.mp4", tmp_path / "taken.ply", run / "avatar.safetensors"
    motion.write_text("mine")
    taken.write_text("mine")
    (tmp_path / "linked.mp4").hardlink_to(motion)
    (tmp_path / "truth.truth.safetensors").write_text("mine")
    before = snapshot(tmp_path)
    for command in (
        ["drive", run, "--motion", motion, "--out", motion],
        ["drive", run, "--motion", motion, "--out", tmp_path / "linked.mp4"],
        ["report", run, "--out", avatar],
        ["evaluate", run, "--json", avatar],
        ["evaluate", run, "--json", run / "metrics.json"],
        ["evaluate", run, "--json", run / "track" / "track.json"],
        ["evaluate-prior", "--clips", run, "--priors", avatar, "--out", avatar],
    ):
        assert "is an input" in (message := refused(*command, "--overwrite")) or "belongs to the run" in message
        assert snapshot(tmp_path) == before
    for command in (
        ["drive", run, "--motion", run, "--out", motion],
        ["export", run, "--format", "ply", "--out", taken],
        ["evaluate", run, "--json", taken],
        ["evaluate-prior", "--clips", run, "--out", taken],
        ["sample", motion, "--frames", "1"],
        ["sample", tmp_path / "truth.mp4", "--frames", "1"],
        ["report", run, "--out", taken],
    ):
        assert "exists already. Add --overwrite" in refused(*command)
        assert snapshot(tmp_path) == before


def test_files_of_another_kind_are_not_replaced_whatever_the_flag(refused, run, tmp_path) -> None:
    """A slip of the pen would cost a photo: what these commands write has one suffix."""
    photo = tmp_path / "me.jpg"
    photo.write_text("mine")
    before = snapshot(tmp_path)
    for command, suffix in (
        (["report", run, "--out", photo], ".html"),
        (["evaluate", run, "--json", photo], ".json"),
        (["evaluate-prior", "--clips", run, "--out", photo], ".json"),
        (["sample", photo, "--frames", "1"], ".mp4"),
    ):
        assert f"exists, and is no {suffix} file" in refused(*command, "--overwrite"), command
        assert snapshot(tmp_path) == before


def test_what_the_user_means_to_replace_is_replaced(run, tmp_path) -> None:
    script, out = tmp_path / "script.yaml", tmp_path / "out.mp4"
    script.write_text("fps: 10\nkeyframes: [{at: 0}, {at: 0.2, weights: {jawOpen: 1}}]\n")
    out.write_text("old")
    main(["drive", str(run), "--motion", str(script), "--out", str(out), "--overwrite"])
    assert out.stat().st_size > 500
    pictures = tmp_path / "pictures"
    main(["drive", str(run), "--motion", str(script), "--out", str(pictures)])
    (pictures / "notes.txt").write_text("mine")
    main(["drive", str(run), "--motion", str(script), "--out", str(pictures), "--frames", "1", "--overwrite"])
    assert {path.name for path in pictures.iterdir()} == {"000000.png", "run.json", "notes.txt"}, "the longer motion's frames are gone"


def test_another_demo_replaces_the_first_only_when_asked_to(refused, tmp_path) -> None:
    with open_run(tmp_path / "demo", "demo") as run:
        run.note()
        (run.folder / "samples").mkdir()
        for name in ("avatar.safetensors", "driven.mp4", "samples/subject.mp4"):
            (run.folder / name).write_text("old")
    (tmp_path / "demo_samples").mkdir()
    (tmp_path / "demo_samples" / "subject.mp4").write_text("mine")
    before = snapshot(tmp_path)
    assert "Add --resume to continue it, --overwrite to replace it" in refused("demo", "--out", tmp_path / "demo")
    assert snapshot(tmp_path) == before


@needs_perceptual
def test_a_run_replaces_the_old_one_when_it_is_whole_and_keeps_the_users_files(film, small_recipe: Recipe, run, tmp_path, capsys) -> None:
    """The new run learns from the old one's own tracked video, which is kept; the rest of the old run goes."""
    write_atomic(tmp_path / "recipe.yaml", config_text(with_steps(small_recipe, 4)))
    (run / "me.mp4").write_text("mine")
    old = (run / "avatar.safetensors").read_bytes()
    main(["personalize", str(run), "--out", str(run), "--config", str(tmp_path / "recipe.yaml"), "--overwrite"])
    assert (run / "avatar.safetensors").read_bytes() != old
    assert (run / "notes.txt").read_text() == (run / "me.mp4").read_text() == "mine"
    assert "that stays: me.mp4, notes.txt" in capsys.readouterr().out
    assert not (run / STAGE).exists()
    assert {"track/track.json", "track/frames/000000.jpg", "avatar.safetensors", "turntable.mp4"} <= own_files(run)
    assert "Avatar run" in (run / "report.html").read_text(), "the page names the run, not the place where it was made"


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with so many steps in each of its two phases."""
    phases = tuple(replace(phase, steps=steps) for phase in recipe.gaussian.phases)
    return replace(recipe, gaussian=replace(recipe.gaussian, phases=phases))


@needs_perceptual
def test_a_killed_replacement_leaves_the_old_run_and_goes_on_with_resume(tracked, small_recipe: Recipe, tmp_path) -> None:
    out, config = tmp_path / "run", tmp_path / "recipe.yaml"
    make_old(out, tracked.folder)
    before = snapshot(out)
    recipe = with_steps(small_recipe, 60)
    write_atomic(config, config_text(recipe))
    command = [sys.executable, "-m", "deja_vu.pipelines.entry", "personalize", str(tracked.folder), "--out", str(out)]
    process = subprocess.Popen([*command, "--config", str(config), "--overwrite"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (out / STAGE / "checkpoint.pt").is_file():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert {name: content for name, content in snapshot(out).items() if not name.startswith((STAGE, ".deja-vu-lock"))} == before
    # The new run goes on, not the old one, whose recipe was another.
    personalize(tracked.folder, out, recipe, resume=True, overwrite=False)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 120
    assert load_avatar(out / "avatar.safetensors")
    assert not (out / STAGE).exists()


@needs_perceptual
def test_a_run_goes_on_with_what_it_was_begun_with_alone(refused, film, small_recipe: Recipe, tmp_path) -> None:
    recipe, out, config = with_steps(small_recipe, 4), tmp_path / "run", tmp_path / "recipe.yaml"
    first, second = film(tmp_path / "first"), film(tmp_path / "second", frames=17)
    write_atomic(config, config_text(recipe))
    begin_run(out, first.folder)
    before = snapshot(out)
    said = refused("personalize", second.folder, "--out", out, "--config", config, "--resume")
    assert f"was begun with {first.folder}, and the content of {second.folder} differs" in said
    assert "There is no file" in refused("personalize", tmp_path / "none.mp4", "--out", out, "--config", config, "--resume")
    assert {name: content for name, content in snapshot(out).items() if name != ".deja-vu-lock"} == {"run.json": before["run.json"]}
    # A checkpoint that the model would fit, of another recipe or another video, does not pass for this run's own.
    other = replace(recipe, gaussian=replace(recipe.gaussian, seed=5))
    for kind, sequence, chosen in (("recipe", first, other), ("source", second, recipe)):
        learn(sequence.train_part(), chosen, tmp_path / kind, resume=False)
        shutil.copy(tmp_path / kind / "checkpoint.pt", out)
        with pytest.raises(FormatError, match=f"belongs to a run with another {kind}"):
            personalize(first.folder, out, recipe, resume=True, overwrite=False)
    (out / "checkpoint.pt").unlink()
    shutil.move(first.folder, tmp_path / "moved")  # the same video at another place is the same video
    personalize(tmp_path / "moved", out, recipe, resume=True, overwrite=False)
    assert "avatar.safetensors" in own_files(out)


def begin_run(out: Path, source: Path) -> None:
    """A run that was killed before its first checkpoint."""
    code = "import os; from pathlib import Path; from deja_vu.pipelines import identity, run_folder\n"
    code += f"with run_folder.open_run(Path({str(out)!r}), 'personalize') as run:\n"
    code += f"    run.note(**identity.source_facts(Path({str(source)!r})))\n    os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)


def make_old(out: Path, tracked: Path) -> None:
    """A finished run, as far as it matters to the next one."""
    with open_run(out, "personalize") as run:
        run.note(**source_facts(tracked))
        for name in ("avatar.safetensors", "metrics.json", "checkpoint.pt"):
            (run.folder / name).write_text("old")


def test_a_comparison_is_not_continued_with_another_video_of_the_same_name(film, small_recipe: Recipe, tmp_path) -> None:
    recipe = with_steps(small_recipe, 4).gaussian
    first, second = film(tmp_path / "a" / "clip"), film(tmp_path / "b" / "clip", frames=17)
    compare_starts([first.folder], tmp_path / "out", recipe, recipe.phases, [PLAIN])
    before = snapshot(tmp_path / "out")
    with pytest.raises(InputError, match="was made of another video"):
        compare_starts([second.folder], tmp_path / "out", recipe, recipe.phases, [PLAIN], reuse=True)
    assert snapshot(tmp_path / "out") == before


def test_two_runs_in_one_folder_do_not_mix(refused, run) -> None:
    """As in two terminals: the second is told and ends with 2."""
    process = subprocess.Popen([sys.executable, "-c", HELD, str(run)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        before = snapshot(run)
        said = refused("personalize", run / "track", "--out", run, "--overwrite")
        assert f"is in use by process {process.pid} on " in said
        assert snapshot(run) == before
    finally:
        process.kill()
        process.wait()


HELD_FILE = HELD.replace("import hold", "import hold_file").replace("with hold(", "with hold_file(")


def test_two_commands_do_not_write_one_file(refused, run, tmp_path) -> None:
    """The second is told before it computes anything, whether the file is there already or not; what it would write beside it is free."""
    script = tmp_path / "script.yaml"
    script.write_text("{fps: 10, keyframes: [{at: 0.0, face: neutral}, {at: 0.2, weights: {jawOpen: 1.0}}]}")
    taken = {name: tmp_path / f"out{name}" for name in (".mp4", ".ply", ".json", ".html")}
    taken[".ply"].write_text("of earlier")
    processes = [subprocess.Popen([sys.executable, "-c", HELD_FILE, str(path)], stdout=subprocess.PIPE) for path in taken.values()]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        before = snapshot(tmp_path)
        for command in (
            ["drive", run, "--motion", script, "--out", taken[".mp4"]],
            ["sample", taken[".mp4"], "--frames", "1"],
            ["export", run, "--format", "ply", "--out", taken[".ply"], "--overwrite"],
            ["evaluate", run, "--json", taken[".json"]],
            ["evaluate-prior", "--clips", run, "--out", taken[".json"]],
            ["report", run, "--out", taken[".html"]],
        ):
            assert "is in use by process" in refused(*command), command
            assert snapshot(tmp_path) == before
    finally:
        for process in processes:
            process.kill()
            process.wait()
    main(["export", str(run), "--format", "ply", "--out", str(taken[".ply"]), "--overwrite"])  # the locks ended with their processes
    assert taken[".ply"].stat().st_size > 10_000
    assert [path.name for path in tmp_path.glob(".out.ply*")] == []
