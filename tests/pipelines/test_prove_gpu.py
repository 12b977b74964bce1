"""The command that proves everything on a GPU runs, at tiny sizes on the CPU, so that no minute on a GPU is lost to a typo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from deja_vu.bench.gpu import run_sections
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.assets import find
from deja_vu.pipelines.prove_gpu import main

needs_perceptual = pytest.mark.skipif(find("stlpips_alex") is None, reason="ST-LPIPS weights are not here: python -m deja_vu.io.assets")


@pytest.mark.slow
@needs_perceptual
def test_every_section_runs_and_tells_its_figures_machine_and_commit(made_up: TrackedSequence, tmp_path: Path) -> None:
    assert main(["--dry", "--track", str(made_up.folder), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_dry.json").read_text())
    assert {"device", "processor", "commit", "torch"} <= found["machine"].keys()
    assert all(error < 1e-5 for errors in found["conformance"]["reference"].values() for error in errors.values())
    assert set(found["conformance"]["cpu"].values()) == {0.0}  # with itself
    assert found["training"].keys() == {"batch 1", "batch 2"}
    assert all(part["images_per_s"] > 0 and part["parts_ms"] for part in found["training"].values())
    assert found["fields"].keys() == {"nerf", "nelf"}
    assert found["showing"].keys() == {"64, 1 at once", "64, 2 at once"}
    assert all(rate["fps"] > 0 for rate in found["showing"].values())
    for section in ("personalization", "personalization_in_batches"):
        assert found[section]["points"][-1]["step"] == 4


def test_a_section_that_fails_is_told_and_the_others_go_on() -> None:
    told: list[str] = []
    found = run_sections({"first": lambda: 1, "second": lambda: 1 / 0, "third": lambda: {"fine": True}}, told.append)
    assert found == {"first": 1, "second": {"error": "ZeroDivisionError: division by zero"}, "third": {"fine": True}}
    assert len(told) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_machine_without_a_gpu_is_told_so_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    assert "no CUDA device was found" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
