"""What a command says when the system stops it: one line and a code, nothing half-written, the old result whole."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.core.errors import FormatError, MissingAssetError
from deja_vu.io.files import LOCK
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.endings import Stopped, ending, signals_stop
from tests.pipelines.test_cli import snapshot
from tests.pipelines.test_kills import run
from tests.robustness.children import Child, Moment
from tests.robustness.children import run as start

__all__ = ["run"]


@pytest.fixture(autouse=True)
def _as_from_a_terminal() -> Iterator[None]:
    """Signals as a shell's foreground leaves them; `nohup` and the background ignore some, and processes inherit that."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raised(call: Callable[[], object]) -> Exception:
    """What a call raises."""
    with pytest.raises(Exception) as error:  # noqa: PT011  (whatever a library raises)
        call()
    return error.value


def test_want_of_memory_names_what_to_lower_whatever_library_says_so() -> None:
    huge = 1 << 50
    for error in (
        raised(lambda: bytearray(huge)),
        raised(lambda: torch.empty(huge)),
        raised(lambda: np.empty(huge)),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ):
        said, code = ending(error, "track") or ("", 0)
        assert "not enough memory. Lower --resolution or --max-frames" in said, error
        assert code == 2
    wrapped = MissingAssetError("LiteRT cannot be loaded.")
    wrapped.__cause__ = ImportError("lib.so: failed to map segment from shared object")
    assert "not enough memory" in (ending(wrapped, "track") or ("", 0))[0]
    hostile = FormatError("The file says it holds 10^18 numbers.")
    hostile.__cause__ = MemoryError()
    assert (ending(hostile, "track") or ("", 0))[0].startswith("The file says"), "a file's lie is the file's fault"


def test_files_that_may_not_be_opened_name_the_limit() -> None:
    assert "ulimit -n" in (ending(OSError(errno.EMFILE, "Too many open files"), "track") or ("", 0))[0]
    assert ending(ValueError("of the program's own"), "track") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_an_interrupt(number) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, signals_stop():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
    assert isinstance(stopped.value, KeyboardInterrupt)
    said, code = ending(stopped.value, "track") or ("", 0)
    assert said == f"stopped by {signal.Signals(number).name}. Nothing was written; the same command begins anew."
    assert code == 128 + number


@pytest.mark.forks
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_command_leaves_the_old_result_and_nothing_else(number, run, tmp_path) -> None:
    command = ["drive", str(run), "--motion", str(tmp_path / "script.yaml"), "--out", str(tmp_path / "driven"), "--fps", "60"]
    assert start(command, tmp_path.parent / "log").code == 0
    before = snapshot(tmp_path)
    stopped = Child([*command, "--overwrite"], tmp_path.parent / "log").signal_at(Moment(80), number)
    assert stopped.code == 128 + number
    assert stopped.said.strip().splitlines()[-1].startswith("deja-vu: stopped by ")
    assert "Traceback" not in stopped.said
    assert snapshot(tmp_path) == before


@pytest.mark.forks
@pytest.mark.parametrize("limit", [50, 700, 3000])
def test_a_disk_that_fills_up_costs_nothing(limit, run, tmp_path) -> None:
    """The limit on a file's size is met as a full disk is: in the lock, in the record, in a picture."""
    command = ["drive", str(run), "--motion", str(tmp_path / "script.yaml"), "--out", str(tmp_path / "driven")]
    assert start(command, tmp_path.parent / "log").code == 0
    before = snapshot(tmp_path)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    for words in (command, [*command[:-1], str(tmp_path / "other")]):
        failed = start([*words, "--overwrite"], Path(os.devnull), prepare=limited)
        assert failed.code == 2
        assert snapshot(tmp_path) == before


def test_a_name_with_line_breaks_and_commands_to_the_terminal_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words in (["report", "a\nb\x1b[31m\x07\x9b"], ["track", "a\nb\x1b[31m\x07\x9b.mp4", "--out", str(tmp_path / "o")]):
        with pytest.raises(SystemExit):
            main(words)
        said = capsys.readouterr().err
        assert "a\\nb\\x1b[31m\\x07\\x9b" in said
        assert said.removesuffix("\n").isprintable()


def test_a_folder_that_was_removed_is_said_to_be_gone(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    command = f"cd {place} && rmdir {place} && exec {sys.executable} -m deja_vu.pipelines.entry track {tmp_path}/a.mp4 --out {tmp_path}/out"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "deja-vu: The folder in which this was started is gone. Change to another one (cd) and start it again.\n"


def test_too_little_room_for_the_program_is_said_at_once() -> None:
    """With less, OpenBLAS asks for its buffer again and again."""
    command = f"ulimit -v 1000000; exec {sys.executable} -m deja_vu.pipelines.entry track none.mp4 --out none"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "A process may have 976 MB of memory here (ulimit -v)" in done.stderr


@pytest.mark.forks
def test_a_lock_of_a_killed_process_beside_a_whole_file_goes_with_the_refusal(run, tmp_path) -> None:
    out = tmp_path / "page.html"
    out.write_text("whole")
    (tmp_path / f".{out.name}{LOCK}").write_text('{"process": 1}')
    refused = start(["report", str(run), "--out", str(out)], tmp_path.parent / "log")
    assert refused.code == 2
    assert "exists already. Add --overwrite" in refused.said
    assert not (tmp_path / f".{out.name}{LOCK}").exists()


@pytest.mark.forks
def test_a_run_whose_path_is_not_utf8_is_shown_driven_and_exported(run, tmp_path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xfcr\n"))
    folder.mkdir()
    named = folder / os.fsdecode(b"m\xea")
    run.rename(named)
    (named / "metrics.json").write_text("{}")
    for words in (
        ["drive", str(named), "--motion", str(tmp_path / "script.yaml"), "--out", str(folder / "a.mp4"), "--frames", "1"],
        ["export", str(named), "--format", "ply", "--out", str(folder / "a.ply")],
        ["export", str(named), "--format", "web", "--out", str(folder / "page")],
        ["report", str(named), "--out", str(folder / "a.html")],
    ):
        done = start(words, tmp_path / "log")
        assert done.code == 0, done.said
    assert {"a.mp4", "a.ply", "page", "a.html", named.name} <= {path.name for path in folder.iterdir()}
    assert "m?" in (folder / "page" / "index.html").read_text(encoding="utf-8"), "shown as far as it can be"
