from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deja_vu.avatars import GaussianAvatar, save_avatar
from deja_vu.core.config import config_text
from deja_vu.core.errors import ConfigError, FormatError, InputError, OutputError
from deja_vu.heads.toy import load as load_toy
from deja_vu.io.files import LOCK, write_atomic
from deja_vu.io.provenance import commit, machine
from deja_vu.pipelines.identity import refuse_other_recipe
from deja_vu.pipelines.own_files import NAMES, STAGE, claim, own_files
from deja_vu.pipelines.person import load_pair
from deja_vu.pipelines.recipes import Recipe
from deja_vu.pipelines.run_folder import amend_run, find_avatar, find_track, open_run


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, and what it says."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


FILES = ("avatar.safetensors", "config.yaml", "metrics.json", "track/track.json", "track/frames/000000.jpg")


def write(folder: Path, names: Iterable[str], content: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def make_run(folder: Path, content: str = "old", names: Iterable[str] = FILES, kind: str = "personalize", **flags: Any) -> None:
    """A run that writes some files."""
    with open_run(folder, kind, **flags) as run:
        run.note()
        write(run.folder, names, content)


def refused(folder: Path, kind: str, expected: str, **flags: Any) -> str:
    """What is said when a folder is not opened."""
    with pytest.raises(OutputError, match=expected) as error, open_run(folder, kind, **flags):
        pass
    return str(error.value)


def make_older_run(folder: Path) -> None:
    """As versions left it that kept no list of a run's files."""
    write(folder, FILES, "old")
    facts = {"tracked": str(folder / "track"), "commit": "758e324", "command": "deja-vu personalize me.mp4", "machine": "a laptop"}
    (folder / "run.json").write_text(json.dumps(facts))


def test_a_folder_is_made_with_the_run_and_goes_with_a_run_that_never_began(tmp_path) -> None:
    with open_run(tmp_path / "a" / "b", "personalize"):
        assert (tmp_path / "a" / "b" / LOCK).is_file()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with open_run(tmp_path / "empty", "personalize"):
        pass
    assert list((tmp_path / "empty").iterdir()) == []
    make_run(tmp_path / "run")
    assert set(tree(tmp_path / "run")) == {*FILES, "run.json"}


def test_a_run_needs_a_word_from_the_user(tmp_path) -> None:
    make_run(tmp_path)
    before = tree(tmp_path)
    refused(tmp_path, "personalize", r"--resume .* --overwrite")
    refused(tmp_path, "personalize", "exclude each other", resume=True, overwrite=True)
    assert tree(tmp_path) == before


def test_a_folder_that_holds_no_run_is_never_written_and_overwriting_is_not_offered(tmp_path) -> None:
    write(tmp_path, ["me.mp4", "letter.txt", "frames/000000.jpg", "compare.png", "config.yaml", "checkpoint.pt"], "mine")
    (tmp_path / "run.json").write_text('{"kind": "personalize"}')
    before = tree(tmp_path)
    for kind in NAMES:
        for flags in ({}, {"overwrite": True}, {"resume": True}, {"add": True}):
            said = refused(tmp_path, kind, "no run of this program", **flags)
            assert "--overwrite" not in said
    assert tree(tmp_path) == before


def test_a_run_of_another_kind_is_not_replaced(tmp_path) -> None:
    make_run(tmp_path)
    before = tree(tmp_path)
    for kind in sorted(set(NAMES) - {"personalize", "reconstruct", "demo"}):
        for flags in ({}, {"overwrite": True}, {"resume": True}, {"add": True}):
            refused(tmp_path, kind, "holds a run of `personalize`", **flags)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("make", [make_run, make_older_run])
def test_overwriting_replaces_the_runs_files_and_keeps_the_users(make, tmp_path, capsys) -> None:
    make(tmp_path)
    mine = ("me.mp4", "notes.txt", "frames/holiday.jpg", "track/notes.txt", "track/frames/old 000000.jpg", "teacher/me.png")
    write(tmp_path, mine, "mine")
    (tmp_path / "link").symlink_to(tmp_path / "notes.txt")
    make_run(tmp_path, "new", ["avatar.safetensors", "compare.png"], overwrite=True)
    expected = dict.fromkeys(mine, "mine") | {"avatar.safetensors": "new", "compare.png": "new", "link": "mine"}
    found = tree(tmp_path)
    assert json.loads(found.pop("run.json"))["files"].keys() == {"avatar.safetensors", "compare.png"}
    assert found == expected
    said = capsys.readouterr().out
    assert "that stays: " in said
    assert "me.mp4" in said or "..." in said


@pytest.mark.parametrize("name", ["turntable.mp4", "avatar.safetensors", "track/frames/000007.jpg", "track/frames/000000.jpg"])
def test_a_file_of_the_users_with_a_name_of_ours_is_never_replaced(name, tmp_path) -> None:
    """Put there, or changed, after the run had written its own."""
    make_run(tmp_path)
    write(tmp_path, [name], "mine now")
    before = tree(tmp_path)
    for flags in ({"overwrite": True}, {"resume": True}):
        refused(tmp_path, "personalize", "was not written by the run there, or changed since", **flags)
    assert tree(tmp_path) == before


def test_what_lies_behind_a_link_is_the_users(tmp_path) -> None:
    """A folder of the run that was moved to another disk, or to another run, and linked back."""
    run, disk = tmp_path / "run", tmp_path / "disk"
    make_run(run)
    (run / "track").rename(disk)
    (run / "track").symlink_to(disk)
    before = tree(tmp_path)
    refused(run, "personalize", "track was not written by the run", overwrite=True)
    assert tree(tmp_path) == before


def test_a_linked_run_folder_is_a_run_folder(tmp_path) -> None:
    make_run(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make_run(tmp_path / "link", "new", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real")["avatar.safetensors"] == "new"


def test_a_file_that_comes_into_the_way_while_the_new_run_is_made_stays_and_both_runs_are_kept(tmp_path) -> None:
    make_run(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(OutputError, match="Move it away"))
        run = stack.enter_context(open_run(tmp_path, "personalize", overwrite=True))
        run.note()
        write(run.folder, ["avatar.safetensors", "compare.png"], "new")
        write(tmp_path, ["compare.png"], "mine")
    assert {name: text for name, text in tree(tmp_path).items() if "/" not in name and name != "run.json"} == {
        **dict.fromkeys(["avatar.safetensors", "config.yaml", "metrics.json"], "old"),
        "compare.png": "mine",
    }
    (tmp_path / "compare.png").unlink()
    assert find_avatar(tmp_path).read_text() == "new"  # now it could take its place
    assert tree(tmp_path).keys() == {"avatar.safetensors", "compare.png", "run.json"}


def test_inputs_of_a_command_outlive_it(tmp_path) -> None:
    make_run(tmp_path, names=[*FILES, "turntable.mp4"])
    (tmp_path / "me.mp4").write_text("mine")
    (tmp_path.parent / "linked.mp4").unlink(missing_ok=True)
    (tmp_path.parent / "linked.mp4").symlink_to(tmp_path / "turntable.mp4")
    before = tree(tmp_path)
    for path in (tmp_path, tmp_path / "turntable.mp4", tmp_path.parent / "linked.mp4", tmp_path / "config.yaml"):
        refused(tmp_path, "personalize", "is an input of this command", inputs=[path], overwrite=True)
    assert tree(tmp_path) == before
    # The video beside the run is nobody's but the user's, and the tracked folder is read, not made anew.
    make_run(tmp_path, "new", ["avatar.safetensors"], inputs=[tmp_path / "me.mp4", tmp_path / "track"], overwrite=True)
    kept = {name: "old" for name in FILES if name.startswith("track/")}
    found = tree(tmp_path)
    assert json.loads(found.pop("run.json"))["files"].keys() == {"avatar.safetensors", *kept}
    assert found == kept | {"avatar.safetensors": "new", "me.mp4": "mine"}


@pytest.mark.parametrize("error", [InputError("no face"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("make", [make_run, make_older_run])
def test_a_run_that_fails_leaves_the_old_one_as_it_was(make, error, tmp_path) -> None:
    make(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(type(error)):
        fail(tmp_path, error, ["track/frames/000000.jpg"])
    left = tree(tmp_path)
    assert {name: text for name, text in left.items() if not name.startswith(STAGE)} == before
    assert (len(left) > len(before)) == isinstance(error, KeyboardInterrupt), "only what can be resumed is kept"
    make_run(tmp_path, "newest", overwrite=True)
    assert {text for name, text in tree(tmp_path).items() if name != "run.json"} == {"newest"}


def fail(folder: Path, error: BaseException, names: Iterable[str], kind: str = "personalize") -> None:
    with open_run(folder, kind, overwrite=True) as run:
        run.note()
        write(run.folder, names, "new")
        raise error


def test_an_interrupted_replacement_is_resumed_and_not_the_old_run(tmp_path) -> None:
    make_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path, KeyboardInterrupt(), ["checkpoint.pt"])
    assert find_avatar(tmp_path).read_text() == "old"
    with open_run(tmp_path, "personalize", resume=True) as run:
        run.note()
        assert (run.folder / "checkpoint.pt").read_text() == "new"
        write(run.folder, ["avatar.safetensors"], "new")
    assert tree(tmp_path).keys() == {"avatar.safetensors", "checkpoint.pt", "run.json"}
    assert find_avatar(tmp_path).read_text() == "new"


def test_a_failed_first_run_leaves_nothing(tmp_path) -> None:
    with pytest.raises(InputError):
        fail(tmp_path / "a" / "run", InputError("no face"), ["frames/000000.jpg"], "track")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from deja_vu.pipelines.run_folder import open_run

folder, moves, moved = Path(sys.argv[1]), int(sys.argv[2]), 0
whole = Path.replace, Path.unlink

def counted(call):
    def step(path, *rest, **named):
        global moved
        if (".deja-vu-new" in str(path) or call is whole[1]) and not str(path).endswith(".part.json") and ".deja-vu-lock" not in str(path):
            moved += 1
            if moved > moves:
                os.kill(os.getpid(), 9)
        return call(path, *rest, **named)
    return step

with open_run(folder, "personalize", overwrite=True) as run:
    run.note()
    for name in ("avatar.safetensors", "compare.png", "track/frames/000000.jpg", "track/frames/000001.jpg"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text("new")
    Path.replace, Path.unlink = counted(whole[0]), counted(whole[1])
"""


@pytest.mark.parametrize("moves", [0, 1, 2, 4, 5, 6, 7, 99])
def test_a_process_killed_while_a_new_run_takes_its_place_leaves_a_whole_one(moves, tmp_path) -> None:
    make_run(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(moves)], check=False, capture_output=True, text=True)
    assert done.returncode == (0 if moves == 99 else -9), done.stderr
    assert find_avatar(tmp_path).read_text() in ("old", "new")
    found = tree(tmp_path)
    assert found.pop("notes.txt") == "mine"
    del found["run.json"]
    assert found == dict.fromkeys(("avatar.safetensors", "compare.png", "track/frames/000000.jpg", "track/frames/000001.jpg"), "new")


HELD = """
import sys, time
from pathlib import Path
from deja_vu.io.files import held

with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_is_told_who_holds_the_folder_and_changes_nothing(tmp_path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        before = tree(tmp_path)
        for folder in (tmp_path / "run", tmp_path / "run" / "track"):
            said = refused(folder, "track", rf"in use by process {process.pid} on .* since 20.*: -c")
            assert "--overwrite" not in said
        assert tree(tmp_path) == before
    finally:
        process.kill()
        process.wait()
    make_run(tmp_path / "run")  # the lock ended with its process


def test_nothing_to_resume_is_said(tmp_path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        refused(folder, "personalize", "no run to resume", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        refused(folder, "personalize", r"cannot be made: .*file is a file")


def test_a_read_only_place_is_refused(tmp_path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write into read-only folders")
    tmp_path.chmod(0o555)
    try:
        refused(tmp_path / "run", "personalize", "cannot be written")
    finally:
        tmp_path.chmod(0o755)


def test_runs_lie_in_the_folder_of_a_command_that_adds_and_stand_alone(tmp_path) -> None:
    make_run(tmp_path / "me")
    make_run(tmp_path, names=["table.md"], kind="benchmark")
    make_run(tmp_path, "new", names=["table.md"], kind="benchmark", add=True)
    assert json.loads((tmp_path / "run.json").read_text())["files"].keys() == {"table.md"}
    assert tree(tmp_path)["table.md"] == "new"
    (tmp_path / "table.md").write_text("mine")
    with pytest.raises(OutputError, match="changed since"):
        make_run(tmp_path, names=["table.md"], kind="benchmark", add=True)
    assert set(own_files(tmp_path / "me")) == set(FILES)


def test_an_output_file_replaces_neither_an_input_nor_a_runs_file_nor_anything_unasked(tmp_path) -> None:
    make_run(tmp_path / "run")
    video, linked, dangling = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4"
    video.write_text("mine")
    linked.hardlink_to(video)
    dangling.symlink_to(tmp_path / "absent")
    claim(tmp_path / "new.mp4", overwrite=False, inputs=[video])
    claim(Path("/dev/null"), overwrite=False)
    for path in (video, dangling):
        with pytest.raises(OutputError, match=r"exists already\. Add --overwrite"):
            claim(path, overwrite=False)
        claim(path, overwrite=True)
    for path in (video, linked):
        with pytest.raises(OutputError, match="is an input"):
            claim(path, overwrite=True, inputs=[tmp_path / "no file", video])
    for name in ("avatar.safetensors", "track/frames/000000.jpg", "run.json"):
        with pytest.raises(OutputError, match="belongs to the run in"):
            claim(tmp_path / "run" / name, overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        claim(tmp_path / "run", overwrite=True)


def test_a_further_file_of_a_run_is_the_runs_unless_the_user_has_one_of_that_name(tmp_path) -> None:
    make_run(tmp_path)
    for content in ("page", "newer page"):
        with amend_run(tmp_path, "report.html") as path:
            path.write_text(content)
    assert "report.html" in own_files(tmp_path)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="changed since"), amend_run(tmp_path, "report.html"):
        pass


def test_a_run_records_where_it_comes_from(tmp_path) -> None:
    with open_run(tmp_path / "run", "personalize") as run:
        provenance = run.note(tracked=str(tmp_path / "tracked"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["program"], facts["format"], facts["kind"], facts["files"]) == ("deja-vu", 1, "personalize", {})
    assert facts["commit"] == provenance["commit"] == commit()
    assert facts["machine"] == machine()
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert "cores" in machine()


def test_an_export_tells_nothing_of_the_machine_it_was_made_on(tmp_path) -> None:
    make_run(tmp_path, names=["index.html"], kind="export")
    assert json.loads((tmp_path / "run.json").read_text()).keys() == {"program", "format", "version", "kind", "files"}


def test_a_tracked_video_is_found_in_a_run_beside_it_or_where_it_was_taken_from(tmp_path) -> None:
    run, tracked = tmp_path / "run", tmp_path / "tracked"
    tracked.mkdir()
    with open_run(run, "personalize") as opened:
        opened.note(tracked=str(tracked))
    with pytest.raises(InputError, match="holds no tracked video"):
        find_track(run)
    (tracked / "track.json").write_text("{}")
    assert find_track(run) == tracked
    assert find_track(tracked) == tracked
    (run / "track").mkdir()
    (run / "track" / "track.json").write_text("{}")
    assert find_track(run) == run / "track"


def test_an_avatar_is_found_in_its_run_or_by_its_name(tmp_path) -> None:
    with pytest.raises(InputError, match=r"holds no avatar.safetensors"):
        find_avatar(tmp_path)
    path = tmp_path / "avatar.safetensors"
    path.write_text("")
    assert find_avatar(tmp_path) == find_avatar(path) == path


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tracked": 5}'])
def test_a_damaged_record_of_the_video_is_refused(content, tmp_path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(FormatError, match=r"run\.json is damaged"):
        find_track(tmp_path)


def test_another_recipe_cannot_be_resumed(tmp_path) -> None:
    refuse_other_recipe(tmp_path, Recipe())  # interrupted before it was written
    write_atomic(tmp_path / "config.yaml", config_text(Recipe()))
    refuse_other_recipe(tmp_path, Recipe())
    other = replace(Recipe(), gaussian=replace(Recipe().gaussian, code_noise=0.123))
    with pytest.raises(ConfigError, match=r"--config .*config.yaml"):
        refuse_other_recipe(tmp_path, other)


def test_an_avatar_and_its_video_must_have_the_same_head(film, small_recipe, tmp_path) -> None:
    sequence = film(tmp_path / "run" / "track", frames=5)
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), small_recipe.gaussian.avatar)
    save_avatar(avatar, tmp_path / "run" / "avatar.safetensors", {})
    found, video = load_pair(tmp_path / "run")
    assert found.head.spec.name == "toy"
    assert video.info == sequence.info
    path = tmp_path / "run" / "track" / "track.json"
    path.write_text(path.read_text().replace('"head_name": "toy"', '"head_name": "anny"'))
    with pytest.raises(FormatError, match="avatar has head 'toy', but the video was tracked with head 'anny'"):
        load_pair(tmp_path / "run")
