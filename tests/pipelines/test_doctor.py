from __future__ import annotations

import time

from deja_vu.pipelines.cli import main
from deja_vu.pipelines.doctor import FETCH, findings, run


def test_missing_model_files_are_named_with_their_remedy(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEJA_VU_CACHE", str(tmp_path))
    assert run() == 1
    printed = capsys.readouterr().out
    assert printed.count("MISSING") == 5  # three files, and the two models that read them
    assert FETCH in printed
    assert "face_landmarker.task" in printed


def test_every_part_has_a_name_and_a_state():
    parts = {finding.part: finding for finding in findings()}
    assert parts["head toy"].available
    assert parts["rasterizer reference"].available
    assert parts["network for photos"].detail.startswith("weights ")
    assert not parts["head flame2020"].available or "vertices" in parts["head flame2020"].detail
    assert all(finding.detail for finding in parts.values())
    assert all(finding.fix for finding in parts.values() if finding.needed and not finding.available)


def test_rasterizers_are_said_to_work_because_they_drew_something():
    parts = {finding.part: finding for finding in findings()}
    assert all(parts[f"rasterizer {name}"].detail.startswith("draws; ") for name in ("cpu", "reference"))
    assert parts["rasterizer gsplat"].detail


def test_speed_alone_is_measured_when_it_is_asked_for(capsys):
    started = time.monotonic()
    main(["doctor", "--speed"])
    printed = capsys.readouterr().out
    assert time.monotonic() - started < 20  # under ten seconds where nothing else runs
    assert "GFLOP/s" in printed
    assert "landmark" not in printed
