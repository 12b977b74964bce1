from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deja_vu.bench.results import RESULT_FILE, RESULT_SCHEMA
from deja_vu.core.errors import FormatError, InputError
from deja_vu.report.bench_report import read_results, write_bench_report
from deja_vu.report.sheets import label_height


def summary(mean: float, width: float = 0.1) -> dict[str, float]:
    return {"mean": mean, "std": width, "low": mean - width, "high": mean + width, "frames": 9}


def result(folder: Path, name: str, psnr: float, lpips: float, fps: float | None) -> dict[str, Any]:
    """Write one run's JSON, and the two pictures it names."""
    folder.mkdir(parents=True)
    for file in ("a.png", "b.png"):
        cv2.imwrite(str(folder / file), np.full((40, 40, 3), int(psnr), np.uint8))
    full = {"psnr": summary(psnr), "ssim": summary(0.9, 0.01), "st_lpips": summary(lpips, 0.001), "l1": summary(0.02, 0.001)}
    written: dict[str, Any] = {
        "schema": RESULT_SCHEMA,
        "clip": folder.parent.name,
        "path": name,
        "bundle_sha256": "5a",
        "quality": {"full": full},
    }
    written["pictures"] = {"test": {"frames": ["a.png"], "truth": ["b.png"]}}
    if fps is not None:
        speed = {"fps": fps, "p50_ms": 1e3 / fps, "p95_ms": 1e3 / fps, "frames": 5}
        marks = ((5.0, 1, psnr - 3), (50.0, 4, psnr))
        curve = [{"seconds": seconds, "step": step, "psnr": value, "st_lpips": lpips} for seconds, step, value in marks]
        sweep = {side: {"render_only": speed | {"fps": 2 * fps}, "end_to_end": speed} for side in ("128", "512")}
        written |= {
            **{
                "device": "box",
                "threads": 1,
                "torch": "2",
                "commit": "abc",
                "sizes": "cpu",
                "delta_vs": {"mean_image": {"psnr": psnr - 18}},
            },
            "train": {"seconds": 100.0, "cpu_seconds": 150.0, "teacher_seconds": 7.0, "peak_mb": 500, "curve": curve, "pseudo_images": 0},
            "render": {**sweep["512"], "sweep": sweep, "peak_mb": 80},
            "size": {"params_deploy": 1000, "params_train": 1200, "bytes_fp32": 4000, "bytes_fp16": 2000},
            "flops": {"macs": 5_000_000_000},
            "driven": {"frames": 24, "found": 0.75, "expression_error": 0.0421},
        }
    if name == "nelf":
        written["delta_vs_teacher"] = {"path": "gaussian", "psnr": -0.42, "st_lpips": 0.03}
    (folder / RESULT_FILE).write_text(json.dumps(written))
    return written


def test_everything_is_made_from_the_json_files(tmp_path) -> None:
    result(tmp_path / "anna" / "gaussian", "gaussian", 30.0, 0.02, 40.0)
    result(tmp_path / "anna" / "nelf", "nelf", 27.0, 0.05, 8.0)
    result(tmp_path / "anna" / "mean_image", "mean_image", 18.0, 0.2, None)
    result(tmp_path / "anna" / "Other", "Other", 26.0, 0.06, None)
    text = write_bench_report(tmp_path)
    assert (tmp_path / "table.md").read_text() == text
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ") and "…" in line]
    assert names == ["gaussian", "nelf", "Other", "mean_image"]
    assert "psnr: gaussian leads, intervals apart from all others." in text
    assert "30.00 (29.90 … 30.10)" in text
    assert "+12.00" in text
    assert "| gaussian | 80.0 / 40.0 | 80.0 / 40.0 |" in text  # alone / end to end, at both sizes
    assert "| after | 30 s | 60 s |\n" in text
    assert "| nelf | 24.00 / 0.050 | 27.00 / 0.050 |" in text  # by then
    assert "75%, 0.0421" in text
    assert "nelf: -0.42 dB, +0.0300 ST-LPIPS against its teacher (gaussian)" in text
    assert "sizes: cpu" in text
    for name in ("anna-pareto.svg", "anna-curves.svg"):
        ElementTree.parse(tmp_path / name)
    sheet = cv2.imread(str(tmp_path / "anna-test.png"))
    assert sheet.shape == (5 * (256 + label_height(256)), 256, 3)  # the truth once, and a row for each path, each under its name


def test_paths_that_cannot_be_told_apart_are_not_ranked(tmp_path) -> None:
    result(tmp_path / "c" / "a", "a", 30.0, 0.02, 40.0)
    result(tmp_path / "c" / "b", "b", 30.1, 0.03, 40.0)
    text = write_bench_report(tmp_path)
    assert "psnr: b leads, not told apart from a." in text
    assert "st_lpips: a leads, intervals apart from all others." in text


def test_results_that_do_not_fit_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"holds no results"):
        read_results(tmp_path)
    result(tmp_path / "c" / "a", "a", 30.0, 0.02, 40.0)
    path = tmp_path / "c" / "a" / RESULT_FILE
    result(tmp_path / "c" / "b", "b", 30.0, 0.02, 40.0)
    path.write_text(path.read_text().replace('"5a"', '"77"'))
    with pytest.raises(FormatError, match=r"c holds results of different tracked videos"):
        read_results(tmp_path)
    path.write_text(path.read_text().replace(f'"schema": {RESULT_SCHEMA}', '"schema": 99'))
    with pytest.raises(FormatError, match=r"format 99, expected"):
        read_results(tmp_path)
    path.write_text("{")
    with pytest.raises(FormatError, match=r"damaged"):
        read_results(tmp_path)


def test_a_missing_picture_is_named(tmp_path) -> None:
    result(tmp_path / "c" / "a", "a", 30.0, 0.02, 40.0)
    (tmp_path / "c" / "a" / "a.png").unlink()
    with pytest.raises(FormatError, match=r"a.png is missing"):
        write_bench_report(tmp_path)
