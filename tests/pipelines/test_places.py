"""Commands work where programs are started in odd ways: streams closed, no home, no locale, folders whose names are not UTF-8."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import av

from deja_vu.core.cache import cache_folder

ROOT = Path(__file__).parents[2]
NAME = b"f\xfcr mich \xe9\n"
"""As a disk of another system has it."""


def start(folder: bytes, words: str, redirected: str) -> subprocess.CompletedProcess[bytes]:
    """A command by a shell, in a folder, with nothing in its environment but what it cannot do without."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C", "LC_ALL": "C"}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "DEJA_VU_CACHE": str(cache_folder()), "OMP_NUM_THREADS": "1"}
    call = f"umask 027; exec {sys.executable} -m deja_vu.pipelines.entry {words} {redirected}"
    return subprocess.run(["/bin/sh", "-c", call], env=environment, cwd=folder, capture_output=True, timeout=120, check=False)


def test_a_command_works_anywhere_and_its_files_follow_the_umask(tmp_path):
    """Streams closed, no home, no locale, a folder whose name is not UTF-8: all at once, as the command takes seconds to load."""
    folder = os.fsencode(tmp_path) + b"/" + NAME
    os.mkdir(folder)
    assert start(folder, "sample film.mp4 --frames 2", "<&- >&- 2>&-").returncode == 0
    film = Path(os.fsdecode(folder)) / "film.mp4"
    with av.open(str(film)) as container:
        assert len(list(container.decode(video=0))) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in film.parent.iterdir()} == {0o640}


def test_a_refusal_shows_what_it_can_of_a_name_that_is_not_utf8(tmp_path):
    folder = os.fsencode(tmp_path) + b"/" + NAME
    os.mkdir(folder)
    done = start(folder, 'track "$PWD/none.mp4" --out run', "")
    assert done.returncode == 2
    assert b"There is no file" in done.stderr or b"no file" in done.stderr
    assert b"Traceback" not in done.stderr
