"""Commands killed at chosen moments and gone on with: the result is the one of a run that nobody killed, and nothing is left."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deja_vu.avatars import save_avatar
from deja_vu.io.scratch import scratch
from deja_vu.pipelines.commands.drive import COMMAND as DRIVE
from deja_vu.pipelines.commands.export import COMMAND as EXPORT
from deja_vu.pipelines.own_files import AMENDED
from deja_vu.pipelines.run_folder import amend_run, open_run, read_record
from tests.pipelines.test_cli import refused
from tests.robustness.children import Moment
from tests.robustness.compare import litter
from tests.robustness.kills import Killer
from tests.robustness.stages import SCRIPT, Stage

__all__ = ["refused"]


@pytest.fixture
def run(film, painted, tmp_path) -> Path:
    """A finished run of the toy head."""
    with open_run(tmp_path / "me", "personalize") as opened:
        opened.note()
        film(opened.folder / "track")
        save_avatar(painted, opened.folder / "avatar.safetensors", {})
    (tmp_path / "script.yaml").write_text(SCRIPT)
    return tmp_path / "me"


@pytest.mark.forks
@pytest.mark.parametrize("way", ["video", "pictures", "page"])
def test_what_shows_an_avatar_is_made_again_after_a_kill(way, run, tmp_path) -> None:
    """Moments: nothing written, the first record half written, the lock alone, in the middle, before the last rename."""
    assert DRIVE.run is not None
    assert EXPORT.run is not None  # loaded, as the forked processes need it
    drive = ("drive", str(run), "--motion", str(tmp_path / "script.yaml"), "--out", "OUT", "--size", "64")
    stage = {
        "video": Stage("drive video", drive, "driven.mp4"),
        "pictures": Stage("drive pictures", drive, "driven"),
        "page": Stage("export page", ("export", str(run), "--format", "web", "--out", "OUT"), "page"),
    }[way]
    killer = Killer(stage, tmp_path / "trials", seed=0)
    last = len(killer.outcome.changes)
    for number, moment in enumerate([*killer.moments(4), Moment(last // 2), Moment(last - 1)]):
        trial = killer.trial(moment, replacing=bool(number % 2))
        assert trial.faults == (), trial


KILLED_AMENDING = """
import os, sys
from pathlib import Path
from deja_vu.io.files import write_atomic
from deja_vu.pipelines.run_folder import amend_run

with amend_run(Path(sys.argv[1]), "report.html") as page:
    if sys.argv[2] == "written":
        write_atomic(page, "new")
    (page.with_name(f".report.{os.getpid()}.part.html")).write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("moment", ["written", "half written"])
def test_a_page_whose_writer_was_killed_is_still_the_runs_own(moment, tmp_path) -> None:
    with open_run(tmp_path, "personalize") as opened:
        opened.note()
        (tmp_path / "report.html").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED_AMENDING, str(tmp_path), moment], check=False)
    assert (tmp_path / "report.html").read_text() == ("new" if moment == "written" else "old")
    with amend_run(tmp_path, "report.html") as page:
        page.write_text("newest")
    assert AMENDED not in read_record(tmp_path)
    assert litter(tmp_path) == []
    with amend_run(tmp_path, "report.html"):
        pass


def test_a_killed_run_that_nothing_goes_on_from_is_begun_anew_and_a_whole_one_is_not(refused, run, tmp_path) -> None:
    drive = ["drive", run, "--motion", tmp_path / "script.yaml", "--out", tmp_path / "driven"]
    with open_run(tmp_path / "driven", "drive") as opened:
        opened.note()
    (tmp_path / "driven" / "notes.txt").write_text("mine")
    assert "Add --overwrite" in refused(*drive)
    record = json.loads((tmp_path / "driven" / "run.json").read_text())
    del record["files"]
    (tmp_path / "driven" / "run.json").write_text(json.dumps(record))
    with open_run(tmp_path / "driven", "drive") as opened:
        opened.note()
        (opened.folder / "000000.png").write_text("new")
    assert {path.name for path in (tmp_path / "driven").iterdir()} == {"000000.png", "run.json", "notes.txt"}
    # What a training is gone on with needs a word from the user.
    with open_run(tmp_path / "trained", "personalize") as opened:
        opened.note()
    shutil.copy(tmp_path / "driven" / "run.json", tmp_path / "kept.json")
    (tmp_path / "trained" / "run.json").write_text(json.dumps(record | {"kind": "personalize"}))
    assert "Add --resume to continue it" in refused("personalize", run / "track", "--out", tmp_path / "trained")


KILLED_IN_SCRATCH = """
import os
from deja_vu.io.scratch import scratch

with scratch() as folder:
    (folder / "frames").mkdir()
    (folder / "frames" / "face.jpg").write_text("a face")
    os.kill(os.getpid(), 9)
"""


def test_filmed_faces_of_a_killed_process_are_removed_and_those_of_a_living_one_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "deja-vu-of-mine").mkdir()
    subprocess.run([sys.executable, "-c", KILLED_IN_SCRATCH], check=False)
    assert len(list(tmp_path.glob("deja-vu-*/frames"))) == 1
    with scratch() as first:
        assert [path.parent.parent for path in tmp_path.glob("deja-vu-*/frames/*")] == []
        (first / "face.jpg").write_text("a face")
        with scratch() as second:
            assert first != second
            assert (first / "face.jpg").is_file()
            assert first.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["deja-vu-of-mine"]


KILLED_TRACKING = """
import os, sys
from pathlib import Path
from deja_vu.pipelines import personalize
from deja_vu.pipelines.recipes import shipped_recipe

personalize.track_or_load = lambda *_, **__: os.kill(os.getpid(), 9)
personalize.personalize(Path(sys.argv[1]), Path(sys.argv[2]), shipped_recipe("tiny"), resume=False, overwrite=False)
"""


def test_a_run_killed_before_its_first_checkpoint_goes_on_with_its_recipe_alone(refused, run, tmp_path) -> None:
    """Its frames may have been tracked by the one recipe; the avatar would be learned by the other."""
    subprocess.run([sys.executable, "-c", KILLED_TRACKING, str(run / "track"), str(tmp_path / "run")], check=False)
    said = refused("personalize", run / "track", "--out", tmp_path / "run", "--config", "quick", "--resume")
    assert "was started with another recipe. Add --config" in said
