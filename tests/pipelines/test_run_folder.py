"""Folders of runs: what may be written there, what is kept, and what a run that fails or is killed leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from deja_vu.core.errors import InputError, OutputError
from deja_vu.io.files import LOCK
from deja_vu.pipelines.own_files import NAMES, STAGE, own_files
from deja_vu.pipelines.run_folder import find_avatar, open_run
from tests.pipelines.runs import FILES, make_older_run, make_run, refused, tree, write


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


def test_private_folders_of_the_new_run_stay_private_in_its_place(tmp_path) -> None:
    """Where the old run had them open, and where it had none."""
    for old in ((), FILES):
        make_run(tmp_path / str(len(old)), names=["avatar.safetensors", *old])
        with open_run(tmp_path / str(len(old)), "personalize", overwrite=True) as run:
            run.note()
            (run.folder / "track").mkdir()
            (run.folder / "track" / "frames").mkdir(mode=0o700)
            write(run.folder, FILES, "new")
        track = tmp_path / str(len(old)) / "track"
        assert (track / "frames").stat().st_mode & 0o777 == 0o700
        assert track.stat().st_mode & 0o777 == 0o777 & ~0o022


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


@pytest.mark.parametrize("kind", ["prepare", "compare-starts", "benchmark"])
@pytest.mark.parametrize("error", [InputError("no face"), KeyboardInterrupt()])
def test_half_of_what_was_to_replace_a_collection_does_not(error, kind, tmp_path) -> None:
    names = {"prepare": ["000000.tar", "000000.json"], "compare-starts": ["a.svg", "b.svg"], "benchmark": ["table.md", "a-curves.svg"]}[
        kind
    ]
    make_run(tmp_path, names=names, kind=kind)
    before = tree(tmp_path)
    with pytest.raises(type(error)):
        fail(tmp_path, error, names[:1], kind)
    assert {name: text for name, text in tree(tmp_path).items() if not name.startswith(STAGE)} == before
    with open_run(tmp_path, kind, add=True) as run:  # goes on with the new one
        run.note()
        write(run.folder, names[1:], "newer")
    assert {name: text for name, text in tree(tmp_path).items() if name != "run.json"} == {names[0]: "new", names[1]: "newer"}


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
from deja_vu.io.files import hold

with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_is_told_who_holds_the_folder_and_changes_nothing(tmp_path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        (tmp_path / "run" / "run.json").write_text('{"program": "deja-vu", "kind": "drive"}')  # of another kind, which has just begun
        before = tree(tmp_path)
        for folder in (tmp_path / "run", tmp_path / "run" / "track"):
            said = refused(folder, "track", rf"in use by process {process.pid} on .* since 20.*: -c")
            assert "--overwrite" not in said
        assert tree(tmp_path) == before
    finally:
        process.kill()
        process.wait()
    (tmp_path / "run" / "run.json").unlink()
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
