from __future__ import annotations

import json
import sys

from deja_vu.report import rasterizer_report


def test_prints_and_writes_every_table(tmp_path, monkeypatch, capsys):
    files = [tmp_path / "out.json", tmp_path / "out.svg"]
    arguments = ["--sizes", "64", "--counts", "300", "--threads", "1", "--repeats", "2", "--backends", "cpu", "reference"]
    monkeypatch.setattr(sys, "argv", ["rasterizers", *arguments, "--only-times", "--json", str(files[0]), "--plot", str(files[1])])
    rasterizer_report.main()
    assert "| shell 64x64 | 300 | cpu | 1 |" in capsys.readouterr().out
    rows = json.loads(files[0].read_text())["times"]
    assert [row["backend"] for row in rows] == ["cpu", "reference"]
    assert all(0 < row["forward_min"] <= row["forward_median"] for row in rows)
    assert files[1].read_text().count("<rect") == 1 + 2 * len(rows)
