from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from deja_vu.core.errors import OutputError
from deja_vu.training.logging import METRICS_FILE, RunLogger, RunningMeans


def entries(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


def curves(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(name)]


def test_curves_and_lines_hold_the_same_numbers(tmp_path: Path) -> None:
    with RunLogger(tmp_path / "run") as log:
        for step in range(3):
            log.scalars(step, {"loss/huber": torch.tensor(0.5 / (step + 1)), "psnr": 20.0 + step})
        log.image(2, "compare", torch.rand(8, 12, 3) * 2)
    assert [(entry["step"], entry["psnr"]) for entry in entries(tmp_path / "run")] == [(0, 20.0), (1, 21.0), (2, 22.0)]
    assert curves(tmp_path / "run", "psnr") == [(0, 20.0), (1, 21.0), (2, 22.0)]
    for (step, value), entry in zip(curves(tmp_path / "run", "loss/huber"), entries(tmp_path / "run"), strict=True):
        assert step == entry["step"]
        assert value == pytest.approx(entry["loss/huber"], rel=1e-6)  # curves are float32


def test_without_tensorboard_the_lines_are_written_all_the_same(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLogger(tmp_path) as log:
        log.scalars(0, {"loss": 1.0})
        log.image(0, "compare", torch.rand(8, 12, 3))
    assert entries(tmp_path)[0]["loss"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == [METRICS_FILE]
    assert "pip install '.[train]' in the source folder" in capsys.readouterr().out


def test_lines_are_on_disk_at_once(tmp_path: Path) -> None:
    with RunLogger(tmp_path) as log:
        log.scalars(0, {"loss": 1.0})
        assert entries(tmp_path)[0]["loss"] == 1.0


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    with RunLogger(tmp_path) as log:
        for step in range(5):
            log.scalars(step, {"loss": float(step)})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    time.sleep(1.1)  # TensorBoard reads files by name, which tells the second, then the number of the log within the process
    with RunLogger(tmp_path, resume_step=3) as log:
        log.scalars(3, {"loss": 30.0})
    assert [(entry["step"], entry["loss"]) for entry in entries(tmp_path)] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
    assert curves(tmp_path, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_new_run_starts_a_new_log(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLogger(tmp_path) as log:
            log.scalars(0, {"loss": 1.0})
    assert len(entries(tmp_path)) == 1


def test_a_number_that_is_not_finite_stays_valid_json(tmp_path: Path) -> None:
    with RunLogger(tmp_path) as log:
        log.scalars(0, {"loss": float("nan")})
    assert entries(tmp_path)[0]["loss"] is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        RunLogger(tmp_path / "file" / "run")


def test_what_weighted_terms_add_is_the_total_and_rare_terms_are_means_of_their_own_steps() -> None:
    means = RunningMeans()
    means.add({"huber": 0.4, "perceptual": 0.2, "psnr": 20.0}, {"huber": 10.0, "perceptual": 4.0})
    means.add({"huber": 0.2, "psnr": 24.0}, {"huber": 10.0, "perceptual": 4.0})
    found = RunningMeans(means.state).drain()  # through a checkpoint
    assert found["loss/huber"] == pytest.approx(0.3)
    assert found["loss/perceptual"] == pytest.approx(0.2)
    assert found["weighted/huber"] == pytest.approx(3.0)
    assert found["weighted/perceptual"] == pytest.approx(0.4)
    assert found["loss/total"] == pytest.approx((4.8 + 2.0) / 2)
    assert found["metric/psnr"] == 22.0
    means.drain()
    means.add({"huber": 1.0, "psnr": 1.0}, {"huber": 1.0})
    assert means.drain() == {"loss/huber": 1.0, "weighted/huber": 1.0, "loss/total": 1.0, "metric/psnr": 1.0}
