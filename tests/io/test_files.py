from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.core.errors import OutputError
from deja_vu.io.arrays import write_picture, write_tensors
from deja_vu.io.files import LOCK, PART, begin_part, finish_part, hold, whole, write_atomic, write_json
from deja_vu.io.video import write_video


def write_all(folder: Path) -> None:
    """One file by every writer."""
    write_atomic(folder / "a.txt", "é")
    write_json(folder / "a.json", {"a": 1})
    write_picture(folder / "a.png", np.zeros((4, 4, 3), np.uint8))
    write_tensors(folder / "a.safetensors", {"a": torch.zeros(2)})
    write_video(folder / "a.mp4", [np.zeros((16, 16, 3), np.uint8)], 25)
    with whole(folder / "a.bin") as part:
        part.unlink()
        os.close(os.open(part, os.O_CREAT, 0o600))  # as writers do that go through a private file of their own


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002, 0o077])
def test_files_have_the_modes_that_the_umask_asks_for(mask, tmp_path) -> None:
    former = os.umask(mask)
    try:
        write_all(tmp_path)
        write_all(tmp_path)  # replaced files, too
    finally:
        os.umask(former)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes) == {"a.txt", "a.json", "a.png", "a.safetensors", "a.mp4", "a.bin"}, "nothing else is left"
    assert set(modes.values()) == {0o666 & ~mask}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_failure_keeps_the_former_file_and_leaves_nothing(error, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OutputError if error is OSError else error):
        fail(tmp_path / "a.txt", error)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def fail(path: Path, error: type[BaseException]) -> None:
    with whole(path) as part:
        part.write_text("half")
        raise error


def test_a_full_disk_keeps_the_former_file(tmp_path) -> None:
    """The limit on a file's size is met as a full disk is: writing fails half-way."""
    write_all(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limited = f"""
import resource, signal
from pathlib import Path
import numpy as np, torch
from deja_vu.core.errors import OutputError
from deja_vu.io.arrays import write_picture, write_tensors
from deja_vu.io.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path({str(tmp_path)!r})
for write in (
    lambda: write_atomic(folder / "a.txt", "x" * 5000),
    lambda: write_picture(folder / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)),
    lambda: write_tensors(folder / "a.safetensors", {{"a": torch.zeros(5000)}}),
):
    try:
        write()
    except OutputError as error:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_killed_process_left_is_known_and_written_over(tmp_path) -> None:
    part = tmp_path / f".a.{os.getpid()}.part.txt"
    part.write_text("half")
    part.chmod(0o400)
    assert PART.fullmatch(part.name)
    write_atomic(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert "".join(PART.fullmatch(f"track/.a.b.{7}.part.txt").groups()) == "track/a.b.txt"


def test_a_device_is_written_and_a_link_replaced(tmp_path) -> None:
    write_atomic(Path("/dev/null"), "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "real").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "real").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "new"


def test_no_file_takes_the_place_of_a_device_or_pipe(tmp_path) -> None:
    """Not even where the user might do it: renaming a film over /dev/null would leave the machine without one."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="is a folder, a device or a pipe"):
        write_video(pipe, [np.zeros((32, 32, 3), np.uint8)], 25.0)
    part = begin_part(pipe)
    with pytest.raises(OSError, match="it is no file"):
        finish_part(part, pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_held_folder_says_who_holds_it_and_is_let_go(tmp_path) -> None:
    with hold(tmp_path / "a" / "b"):
        owner = json.loads((tmp_path / "a" / "b" / LOCK).read_text())
        assert owner["process"] == os.getpid()
        assert owner.keys() == {"process", "host", "since", "command"}
        with pytest.raises(OutputError, match=f"in use by process {os.getpid()}"), hold(tmp_path / "a" / "b"):
            pass
        with hold(tmp_path / "a" / "b" / "c"):  # below a folder of one's own
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_users_in_the_locks_place_is_not_written(tmp_path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "notes")
    with pytest.raises(OutputError, match="cannot be written"), hold(tmp_path):
        pass
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).write_text("mine")
    with pytest.raises(OutputError, match="was not written by this program"), hold(tmp_path):
        pass
    assert (tmp_path / "notes").read_text() == (tmp_path / LOCK).read_text() == "mine"


KILLED = """
import os, sys
from pathlib import Path
from deja_vu.io.files import hold

with hold(Path(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""


def test_the_lock_of_a_killed_process_is_nobodys(tmp_path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / LOCK).is_file()
    with hold(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
