from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deja_vu.avatars import GaussianAvatar, save_avatar
from deja_vu.core.config import config_text
from deja_vu.heads import load_head
from deja_vu.io.assets import find
from deja_vu.io.files import write_atomic
from deja_vu.io.video import probe, write_video
from deja_vu.pipelines.cli import load_command, main
from deja_vu.pipelines.configs import ReconstructConfig
from deja_vu.pipelines.flags import keywords_of, options_of, sort_words
from deja_vu.pipelines.recipes import Recipe, named_recipe
from deja_vu.pipelines.run_folder import open_run
from tests.helpers.videos import write_sound

needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")
needs_landmarker = pytest.mark.skipif(find("face_landmarker") is None, reason="the landmarker is not here: python -m deja_vu.io.assets")


@pytest.fixture
def refused(capfd):
    """Call the command line and return its one message, after checking that it ends with exit code 2 and no traceback."""

    def call(*arguments: object) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        message = capfd.readouterr().err
        assert ended.value.code == 2, message
        assert message.count("deja-vu: ") == 1, message
        assert "Traceback" not in message
        return message[message.index("deja-vu: ") :]

    return call


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, and every file's content."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def write_noise(path: Path, frames: int = 6) -> Path:
    """A video in which nobody is."""
    rng = np.random.default_rng(0)
    write_video(path, (rng.integers(0, 255, (128, 128, 3), dtype=np.uint8) for _ in range(frames)), 25)
    return path


def bad_video(kind: str, folder: Path) -> Path:
    """A file that no avatar can be made of."""
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("not a video\n" * 100)
    elif kind == "empty":
        path.touch()
    elif kind == "sound":
        path = folder / "sound.m4a"
        write_sound(path)
    elif kind == "truncated":
        whole = write_noise(folder / "whole.mp4")
        # Its index comes first; what is left of the frames is not enough for one.
        path.write_bytes(whole.read_bytes()[:600])
    elif kind == "noise":
        write_noise(path)
    return path


def old_run(folder: Path, kind: str) -> None:
    """What a finished run of a command looks like to one that would write into its folder."""
    with open_run(folder, kind) as run:
        run.note()
        (folder / "track" / "frames").mkdir(parents=True)
        for name in ("avatar.safetensors", "metrics.json", "track/track.json", "track/frames/000000.jpg", "track.json"):
            (run.folder / name).write_text(f"old {name}")


BAD_VIDEOS = {
    "absent": "There is no file",
    "text": "is not a video",
    "empty": "is empty",
    "sound": "only sound",
    "truncated": "cut off",
    "noise": "no face was found",
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs_landmarker) if kind == "noise" else kind for kind in BAD_VIDEOS])
def test_a_bad_video_writes_nothing_and_harms_no_old_run(refused, tmp_path, kind) -> None:
    video, out = bad_video(kind, tmp_path), tmp_path / "runs" / "me"
    for command in ("personalize", "track"):
        assert BAD_VIDEOS[kind] in refused(command, video, "--out", out)
        assert not (tmp_path / "runs").exists()
    for folder, command in ((out, "personalize"), (out.with_name("tracked"), "track")):
        old_run(folder, command)
        before = snapshot(folder)
        assert BAD_VIDEOS[kind] in refused(command, video, "--out", folder, "--overwrite")
        assert snapshot(folder) == before


def test_a_run_in_the_way_is_kept(refused, tmp_path) -> None:
    for command in ("personalize", "track"):
        old_run(tmp_path / command, command)
    before = snapshot(tmp_path)
    for command in ("personalize", "track"):
        message = refused(command, tmp_path / "none.mp4", "--out", tmp_path / command)
        assert ("--resume" in message) == (command == "personalize")
        assert "--overwrite" in message
    assert "no run to resume" in refused("personalize", tmp_path / "none.mp4", "--out", tmp_path / "new", "--resume")
    assert snapshot(tmp_path) == before


def test_places_that_cannot_be_written_are_refused_before_any_work(refused, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for command in ("personalize", "track"):
        assert "is a file" in refused(command, tmp_path / "none.mp4", "--out", tmp_path / "file")
        assert "is a file" in refused(command, tmp_path / "none.mp4", "--out", tmp_path / "file" / "run")
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o555)
        assert "read-only" in refused("personalize", tmp_path / "none.mp4", "--out", tmp_path / "locked" / "run")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gausian: {}", "Did you mean 'gaussian'"),
        ("gaussian: {phases: [{stepz: 5}]}", "Did you mean 'steps'"),
        ("track: {split: middle}", "split"),
    ],
)
def test_a_config_with_a_mistake_is_refused(refused, tmp_path, text, expected) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(text)
    for flag in (["--config", config], [f"--config={config}"]):
        assert expected in refused("personalize", tmp_path / "none.mp4", "--out", tmp_path / "run", *flag)
    assert set(snapshot(tmp_path)) == {"mine.yaml"}


@pytest.mark.parametrize("command", ["reconstruct", "benchmark", "compare-starts", "prepare"])
def test_nothing_to_work_on_is_refused(refused, command, tmp_path) -> None:
    assert re.search("Nothing is given to work on|No folder is given", refused(command, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_config_that_does_not_exist_is_refused(refused, tmp_path) -> None:
    assert "Shipped: cpu, full, gpavatar, gpu, lightavatar, paper, paper-cpu, paper-v1.1, quick, tiny" in refused(
        "personalize", "x.mp4", "--out", tmp_path / "run", "--config", "papr"
    )
    assert "no config file" in refused("track", "x.mp4", "--out", tmp_path / "run", "--config", tmp_path / "none.yaml")


def test_shipped_recipes_load(refused, tmp_path) -> None:
    assert "There is no file" in refused("personalize", tmp_path / "none.mp4", "--out", tmp_path / "run", "--config", "paper")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("personalize", "needs VIDEO. Example: deja-vu personalize me.mp4"),
        ("personalize x.mp4", "needs --out"),
        ("personaliz x.mp4", "Did you mean personalize?"),
        ("track x.mp4 --out y --nonsense", "has no flag --nonsense"),
        ("track x.mp4 --out y --max-frmes 3", "Did you mean --max-frames?"),
        ("personalize x.mp4 --out y --stpes 3", "steps?"),
        ("track x.mp4 z.mp4 --out y", "'z.mp4' is one argument too many"),
        ("track x.mp4 --out y --max-frames", "--max-frames needs a value: a whole number"),
        ("track x.mp4 --out y --max-frames ten", "--max-frames ten: expected a whole number"),
        ("track x.mp4 --out y --split middle", "--split middle: expected tail or blocks"),
        ("track x.mp4 --out y --fit.focal-ratio nan", "--fit.focal-ratio nan"),
        ("personalize x.mp4 --out y --nerf.log-every 3", "Add --path nerf"),
        ("personalize x.mp4 --out y --config gpavatar --path gaussian", "sets values of nerf only"),
    ],
)
def test_a_mistyped_command_line_is_answered_and_does_nothing(refused, arguments, expected, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(*arguments.split())
    assert expected in message
    assert len(message.splitlines()) == 1
    assert len(message) < 250
    assert snapshot(tmp_path) == {}


@pytest.fixture
def run(film, painted, tmp_path) -> Path:
    """A finished run of the toy head, as far as evaluate and drive look at it."""
    film(tmp_path / "run" / "track")
    save_avatar(painted, tmp_path / "run" / "avatar.safetensors", {})
    return tmp_path / "run"


def change_header(path: Path, **fields: str) -> None:
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(load_file(path), path, metadata=header | fields)


def test_an_avatar_that_does_not_fit_is_refused(refused, run, painted, small_recipe) -> None:
    path, motion = run / "avatar.safetensors", run / "track"

    def says(expected: str) -> None:
        before = snapshot(run)
        assert expected in refused("evaluate", run, "--json", run / "m.json", "--save-frames", run / "frames")
        assert expected in refused("drive", run, "--motion", motion, "--out", run / "driven.mp4")
        assert snapshot(run) == before

    anny = load_head("anny")
    save_avatar(GaussianAvatar(anny, torch.zeros(anny.spec.num_shape), small_recipe.gaussian.avatar), path, {})
    says("the avatar has head 'anny', but the video was tracked with head 'toy'")
    save_avatar(painted, path, {})
    change_header(path, version="7")
    says("avatar format 7, expected 1")
    save_avatar(painted, path, {})
    change_header(path, head="anny")
    says("the identity has shape (6,)")
    with safe_open(path, framework="pt") as file:
        header = file.metadata() | {"head": "toy"}
    save_file(load_file(path) | {"rectification": torch.zeros(5, 13)}, path, metadata=header)
    says("rectification is (5, 13)")
    save_avatar(painted, path, {})
    tensors = load_file(path)
    tensors["base"][7, 2] = torch.nan
    save_file(tensors, path, metadata=header)
    says("base hold values that are not finite")
    path.write_bytes(path.read_bytes()[:1000])
    says("is damaged")
    path.unlink()
    says("holds no avatar.safetensors")


def test_a_motion_that_cannot_be_used_is_refused(refused, run, film, tmp_path) -> None:
    other = film(tmp_path / "other")
    (tmp_path / "other" / "track.json").write_text((tmp_path / "other" / "track.json").read_text().replace('"toy"', '"anny"'))
    before = snapshot(tmp_path)
    assert "tracked with head 'anny'" in refused("drive", run, "--motion", other.folder, "--out", tmp_path / "driven.mp4")
    assert "holds no tracked video" in refused("drive", run, "--motion", run / "track" / "frames", "--out", tmp_path / "driven.mp4")
    assert "There is no file" in refused("drive", run, "--motion", tmp_path / "none.mp4", "--out", tmp_path / "driven.mp4")
    assert "does not exist" in refused("drive", run, "--motion", run, "--out", tmp_path / "absent" / "driven.mp4")
    assert snapshot(tmp_path) == before


def test_drive_writes_a_frame_for_each_of_the_motion(run, film, tmp_path) -> None:
    film(tmp_path / "motion", frames=9)
    main(["drive", str(run), "--motion", str(tmp_path / "motion"), "--out", str(tmp_path / "driven.mp4")])
    info = probe(tmp_path / "driven.mp4")
    assert (info.frames, info.fps, info.width, info.height) == (9, 25.0, 96, 96)


@needs_perceptual
def test_a_full_disk_is_said(refused, run, tmp_path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    assert "No space left" in refused("evaluate", run, "--json", "/dev/full")
    assert "is a file" in refused("evaluate", run, "--save-frames", run / "avatar.safetensors" / "frames")


@needs_perceptual
def test_from_a_tracked_folder_to_scores_and_a_driven_video(film, small_recipe: Recipe, tmp_path, capfd) -> None:
    """Personalize with a recipe file and a flag over it, then evaluate and drive, all from the command line."""
    film(tmp_path / "tracked")
    write_atomic(tmp_path / "recipe.yaml", config_text(small_recipe))
    run, saved = tmp_path / "run", tmp_path / "saved"
    options = ["--config", str(tmp_path / "recipe.yaml"), "--gaussian.avatar.blendmaps", "3"]
    main(["personalize", str(tmp_path / "tracked"), "--out", str(run), *options])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["config"]["gaussian"]["avatar"]["blendmaps"] == 3
    assert metrics["config"]["gaussian"]["phases"][0]["steps"] == 16
    assert metrics["test"]["psnr"] > metrics["baselines"]["mean_image"]["psnr"] + 3
    capfd.readouterr()
    main(["evaluate", str(run), "--json", str(tmp_path / "again.json"), "--save-frames", str(saved)])
    again = json.loads((tmp_path / "again.json").read_text())
    assert again == json.loads(capfd.readouterr().out)
    assert again == metrics
    assert len(list(saved.glob("render_*.png"))) == 3
    main(["drive", str(run), "--motion", str(tmp_path / "tracked"), "--out", str(tmp_path / "driven.mp4")])
    assert probe(tmp_path / "driven.mp4").frames == 15
    assert probe(run / "turntable.mp4").frames == 150


def test_the_installed_command_ends_with_2_and_one_message(tmp_path) -> None:
    """Once in a process of its own, as a shell sees it."""
    command = [sys.executable, "-m", "deja_vu.pipelines.entry", "personalize", str(tmp_path / "none.mp4"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    message = done.stderr.splitlines()[-1]
    assert message == f"deja-vu: There is no file {tmp_path / 'none.mp4'}. Expected the path of a video."
    assert snapshot(tmp_path) == {}


def test_a_dumped_recipe_is_a_complete_config(tmp_path, small_recipe) -> None:
    """The command line turns it back into the same values."""
    recipe = replace(small_recipe, track=replace(small_recipe.track, max_frames=7))
    write_atomic(tmp_path / "all.yaml", config_text(recipe))
    assert named_recipe(str(tmp_path / "all.yaml")) == recipe
    assert named_recipe(None) == Recipe()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--start", "network"], "prior"),
        (["--start", "lifted"], "lifted"),
        (["--start=none"], "gray"),
        (["--personalize.start", "network"], "prior"),
        (["--init", "gray"], "gray"),
        (["--gaussian.init", "gray"], "gray"),
    ],
)
def test_flags_of_older_versions_mean_what_they_meant(flags, expected) -> None:
    command = load_command("personalize")
    given = sort_words(flags, options_of(command.run), {short: long for long, short in command.main.items()}, "personalize")
    assert keywords_of(command.run, given, command.defaults(given))["recipe"].gaussian.init == expected


@pytest.mark.parametrize(("flags", "expected"), [(["--start", "network"], "prior"), (["--start=lifted"], "lifted"), ([], "prior")])
def test_an_older_flag_of_a_photo_means_what_it_meant(flags, expected) -> None:
    command = load_command("reconstruct")
    given = sort_words(flags, options_of(command.run), {short: long for long, short in command.main.items()}, "reconstruct")
    config = keywords_of(command.run, given, command.defaults(given)).get("config", ReconstructConfig())
    assert config.init == expected


def test_an_older_flag_of_an_item_reaches_that_item() -> None:
    command = load_command("personalize")
    given = sort_words(["--personalize.phases.1.steps", "7"], options_of(command.run), {}, "personalize")
    phases = keywords_of(command.run, given, command.defaults(given))["recipe"].gaussian.phases
    assert [phase.steps for phase in phases] == [150, 7, 350, 700]


COMPUTING = {
    "personalize": ["{video}", "--out", "{out}"],
    "demo": ["--video", "{video}", "--out", "{out}"],
    "benchmark": ["{video}", "--out", "{out}"],
    "reconstruct": ["{video}", "--out", "{out}"],
    "generalize": ["--data", "{tracked}", "--out", "{out}"],
    "compare-starts": ["{tracked}", "--out", "{out}"],
    "evaluate": ["{run}"],
    "evaluate-prior": ["--clips", "{tracked}", "--out", "{out}"],
    "drive": ["{run}", "--motion", "{tracked}", "--out", "{out}.mp4"],
    "view": ["{run}"],
    "report": ["{run}"],
    "track": ["{video}", "--out", "{out}"],
    "prepare": ["{tracked}", "--out", "{out}"],
    "export": ["{run}", "--format", "ply", "--out", "{out}.ply"],
}


@pytest.mark.parametrize("command", COMPUTING)
@pytest.mark.parametrize(("device", "says"), [("gpu", "no device 'gpu'"), ("cuda:9", "cuda:9")])
def test_a_device_that_is_not_there_is_refused_before_anything_else(refused, painted, tracked, tmp_path, command, device, says) -> None:
    (tmp_path / "a.mp4").write_text("not looked into")
    save_avatar(painted, tmp_path / "avatar.safetensors", {})
    places = {"video": tmp_path / "a.mp4", "out": tmp_path / "out", "tracked": tracked.folder, "run": tmp_path / "avatar.safetensors"}
    before = snapshot(tmp_path)
    assert says in refused(command, *(word.format(**places) for word in COMPUTING[command]), "--device", device)
    assert snapshot(tmp_path) == before
