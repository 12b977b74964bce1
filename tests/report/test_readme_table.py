from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deja_vu.core.errors import FormatError
from deja_vu.report.readme_table import BEGIN, END, results_block, with_results
from deja_vu.report.scores_table import explain_better_baselines, scores_table

ROOT = Path(__file__).parents[2]


def test_the_table_in_readme_shows_what_the_results_say() -> None:
    """If this fails, run: make results."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_results(text, results_block(ROOT / "docs" / "results")) == text


def test_figures_of_the_table_are_those_of_the_file() -> None:
    clips = json.loads((ROOT / "docs" / "results" / "benchmark_cpu.json").read_text())["clips"]
    block = results_block(ROOT / "docs" / "results")
    for name, metrics in clips.items():
        row = next(line for line in block.splitlines() if line.startswith(f"| {name} |"))
        assert float(re.search(r"\*\*([\d.]+) /", row)[1]) == pytest.approx(metrics["test"]["psnr"], abs=0.005)


def test_only_what_stands_between_the_markers_changes() -> None:
    readme = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_results(readme, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_results(with_results(readme, "new\n"), "new\n") == with_results(readme, "new\n")
    for broken in ("", f"{END}\n{BEGIN}\n", f"{BEGIN}\n", readme + readme):
        with pytest.raises(FormatError, match="must hold the lines"):
            with_results(broken, "new\n")


def test_a_damaged_file_is_named(tmp_path) -> None:
    (tmp_path / "benchmark_gpu.json").write_text('{"clips": {"a": {}}}')
    with pytest.raises(FormatError, match=r"benchmark_gpu.json is damaged"):
        results_block(tmp_path)


SCORES = {"psnr": 25.123, "ssim": 0.9, "st_lpips": 0.05, "l1": 0.01}


def test_the_table_names_every_method() -> None:
    metrics = {
        "frames": 100,
        "seconds": {"track": 10.4, "personalize": 20.0, "total": 30.4},
        "peak_mb": 900,
        "test": SCORES,
        "baselines": {"mean_image": {**SCORES, "psnr": 20.0}, "nearest_frame": {**SCORES, "psnr": 21.0}, "Other": {**SCORES, "psnr": 24.0}},
    }
    ablated = {**metrics, "baselines": {**metrics["baselines"], "global_only": {**SCORES, "psnr": 23.0}}}
    head, rule, first, second = scores_table([("me", metrics), ("you", ablated)]).splitlines()
    assert len({line.count("|") for line in (head, rule, first, second)}) == 1
    for text in ("me", "100", "10 + 20", "900", "**25.12 / 0.900 / 0.050**", "20.00 /", "21.00 /", "Other 24.00 /"):
        assert text in first
    assert "23.00" not in first
    assert "23.00 / 0.900 / 0.050" in second


def test_of_other_systems_the_best_are_named() -> None:
    others = {"sharp": {**SCORES, "psnr": 20.0, "st_lpips": 0.01}, "close": {**SCORES, "psnr": 24.0}, "neither": {**SCORES, "psnr": 22.0}}
    metrics = {"frames": 1, "seconds": {"track": 1, "personalize": 1}, "peak_mb": 1, "test": SCORES, "baselines": others}
    row = scores_table([("me", metrics)], best_only=True).splitlines()[-1]
    assert "close 24.00" in row
    assert "sharp 20.00" in row
    assert "neither" not in row


def test_a_better_baseline_is_explained() -> None:
    nearest = {**SCORES, "psnr": 20.0}
    rows = [("a", {"test": SCORES, "baselines": {"nearest_frame": {**nearest, "st_lpips": 0.02}}})]
    rows += [("b", {"test": SCORES, "baselines": {"nearest_frame": {**nearest, "st_lpips": 0.09}}})]
    assert explain_better_baselines(rows).startswith("On a the nearest training frame has the better ST-LPIPS")
    assert explain_better_baselines(rows[1:]) == ""
