"""A Markdown table, plots and comparison sheets, made from the JSON files of runs alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from deja_vu.bench.evaluate import FULL, REGIONS
from deja_vu.bench.predictors import BASELINES
from deja_vu.bench.results import RESULT_FILE, RESULT_SCHEMA
from deja_vu.bench.statistics import Estimate, differs
from deja_vu.core.documents import read_json
from deja_vu.core.errors import FormatError, InputError
from deja_vu.io.files import write_atomic
from deja_vu.io.images import write_png
from deja_vu.report.markdown import markdown_table
from deja_vu.report.plots import LARGE, Chart, Point, line_chart, scatter
from deja_vu.report.sheets import draw_label

BUDGETS = (30, 60, 120, 300, 600, 1200, 3600, 10800)
"""Seconds of training after which paths are compared."""
SHEET_SIDE = 256
"""Side of a picture in a sheet, pixels."""
PLOTS = {"pareto": "speed and quality", "curves": "quality by time"}
"""Plots of a clip, and what they show."""
OLDER_NAMES = {"lips": "mouth"}
"""What older results call a region."""

Result = dict[str, Any]


def read_results(folder: Path) -> dict[str, list[Result]]:
    """All results under a folder, by clip; each knows its own folder as `folder`.

    Raises:
        InputError: there is none.
        FormatError: one is damaged or of another version, or a clip's results come from different tracked videos.
    """
    clips: dict[str, list[Result]] = {}
    for path in sorted(folder.glob(f"*/*/{RESULT_FILE}")):
        try:
            result = read_json(path)
            if result["schema"] != RESULT_SCHEMA:
                raise FormatError(f"{path} has result format {result['schema']}, expected {RESULT_SCHEMA}. Run the benchmark again.")
            clips.setdefault(result["clip"], []).append(result | {"folder": str(path.parent)})
        except (KeyError, TypeError) as error:
            raise FormatError(f"{path} is damaged ({error}). Run the benchmark again.") from error
    for clip, results in clips.items():
        if len({result["bundle_sha256"] for result in results}) > 1:
            raise FormatError(f"{folder / clip} holds results of different tracked videos. Move all but one video's away.")
    if not clips:
        raise InputError(f"{folder} holds no results (clip/path/{RESULT_FILE}). Run: deja-vu benchmark CLIP --paths ... --out {folder}")
    return {clip: sorted(results, key=_order) for clip, results in clips.items()}


def _order(result: Result) -> tuple[bool, bool, float]:
    """Our paths first, then other systems, then the trivial rows; the best first among each."""
    full = result["quality"]["full"]
    return result["path"] in BASELINES, "train" not in result, -full["psnr"]["mean"]


def write_bench_report(folder: Path) -> str:
    """Write table.md, and two plots and up to three sheets a clip; returns the table."""
    clips = read_results(folder)
    parts = ["# Benchmark\n", _environment(clips)]
    for clip, results in clips.items():
        tables = [table(results) for table in (quality_table, cost_table, speed_table, budget_table)]
        parts += [f"\n## {clip}\n", *_verdicts(results), *_teacher_gaps(results), "\n", "\n".join(tables)]
        for name, plot in (("pareto", _speed_plot(clip, results)), ("curves", _curve_plot(clip, results))):
            if plot:
                write_atomic(folder / f"{clip}-{name}.svg", plot)
                parts.append(f"\n![{PLOTS[name]}]({clip}-{name}.svg)\n")
        for name in ("test", "driven", "sweep"):
            if write_sheet(results, name, folder / f"{clip}-{name}.png"):
                parts.append(f"\n![{name}]({clip}-{name}.png)\n")
    text = "".join(parts)
    write_atomic(folder / "table.md", text)
    return text


def _speed_plot(clip: str, results: list[Result]) -> str:
    """Speed and quality of the trained paths; nothing where there is none."""
    points = [
        Point(result["path"], result["render"]["end_to_end"]["fps"], result["quality"]["full"]["st_lpips"]["mean"])
        for result in results
        if "render" in result and "st_lpips" in result["quality"]["full"]
    ]
    if not points:
        return ""
    label = "frames a second at full size, parameters to picture"
    return scatter(points, x_label=label, y_label="ST-LPIPS (lower is better)", title=f"{clip}: speed and quality")


def _curve_plot(clip: str, results: list[Result]) -> str:
    """Quality by time of the trained paths; nothing where there is none."""
    series = {
        result["path"]: ([mark["seconds"] for mark in result["train"]["curve"]], [mark["psnr"] for mark in result["train"]["curve"]])
        for result in _select_trained(results)
    }
    title, label = f"{clip}: quality by time", "seconds of training, teacher included"
    return line_chart(Chart(title, series, x_label=label, y_label="PSNR, dB", log_x=True, marked=True), LARGE, standalone=True)


def _environment(clips: dict[str, list[Result]]) -> str:
    runs = [result for results in clips.values() for result in _select_trained(results)]
    lines = sorted(
        {f"{run['device']}, {run['threads']} threads, torch {run['torch']}, commit {run['commit']}, sizes: {run['sizes']}" for run in runs}
    )
    return "".join(f"\n{line}\n" for line in lines)


def quality_table(results: list[Result]) -> str:
    """Scores on held-out frames: mean with its 95 % interval over the whole picture, means on its regions."""
    head = ["path", "PSNR dB", "SSIM", "ST-LPIPS", "L1 x255", "temporal x255"]
    head += [f"{name} PSNR / ST-LPIPS" for name in REGIONS]
    head.append("over mean, nearest dB")
    rows = []
    for result in results:
        quality, gains = result["quality"], result.get("delta_vs", {})
        full = quality.get(FULL, {})
        over = ", ".join(f"{gains[name]['psnr']:+.2f}" for name in BASELINES if name in gains)
        cells = [_interval(full, "psnr", 2), _interval(full, "ssim", 4), _interval(full, "st_lpips", 4)]
        cells += [_mean(full, "l1", 2, 255), _mean(full, "temporal", 2, 255)]
        for name in REGIONS:
            region = quality.get(name, quality.get(OLDER_NAMES.get(name, name), {}))
            cells.append(f"{_mean(region, 'psnr', 2)} / {_mean(region, 'st_lpips', 3)}")
        cells.append(over or "–")
        rows.append([result["path"], *cells])
    return markdown_table(head, rows)


def cost_table(results: list[Result]) -> str:
    """What each path costs; rows without training are left out."""
    head = ["path", "train s (processor s)", "teacher s", "train peak MB", "render peak MB", "parameters", "trained besides"]
    head += ["MB fp32 / fp16", "GMAC", "driven: found, expression error"]
    rows = []
    for result in _select_trained(results):
        train, size, driven = result["train"], result["size"], result.get("driven", {})
        cells = [result["path"], f"{train['seconds']:.0f} ({train['cpu_seconds']:.0f})", f"{train['teacher_seconds']:.0f}"]
        cells += [f"{train['peak_mb']}", f"{result['render']['peak_mb']}"]
        cells += [f"{size['params_deploy']:,}", f"{size['params_train'] - size['params_deploy']:,}"]
        cells += [f"{size['bytes_fp32'] / 1e6:.1f} / {size['bytes_fp16'] / 1e6:.1f}", f"{result['flops']['macs'] / 1e9:.2f}"]
        found = f"{driven['found']:.0%}" if driven else "–"
        cells += [f"{found}, {driven['expression_error']:.4f}" if "expression_error" in driven else found]
        rows.append(cells)
    return markdown_table(head, rows)


def speed_table(results: list[Result]) -> str:
    """Frames a second at every size, rendering alone / from parameters to picture."""
    sides = sorted({int(side) for result in _select_trained(results) for side in result["render"]["sweep"]})
    rows = []
    for result in _select_trained(results):
        speeds = [result["render"]["sweep"].get(str(side)) for side in sides]
        cells = ["–" if speed is None else f"{speed['render_only']['fps']:.1f} / {speed['end_to_end']['fps']:.1f}" for speed in speeds]
        rows.append([result["path"], *cells])
    return markdown_table(["FPS alone / end to end", *(f"{side}²" for side in sides)], rows)


def budget_table(results: list[Result]) -> str:
    """PSNR / ST-LPIPS on a few held-out frames after equal times of training, the teacher's included."""
    marks = {result["path"]: result["train"]["curve"] for result in _select_trained(results)}
    longest = max((mark["seconds"] for curve in marks.values() for mark in curve), default=0.0)
    budgets = [budget for before, budget in itertools.pairwise((0, *BUDGETS)) if before < longest]
    rows = []
    for name, curve in marks.items():
        known = [[mark for mark in curve if mark["seconds"] <= budget] for budget in budgets]
        rows.append([name, *(f"{done[-1]['psnr']:.2f} / {done[-1]['st_lpips']:.3f}" if done else "–" for done in known)])
    return markdown_table(["after", *(f"{budget} s" for budget in budgets)], rows)


def _select_trained(results: list[Result]) -> list[Result]:
    return [result for result in results if "train" in result]


def _teacher_gaps(results: list[Result]) -> list[str]:
    """How far each light field is from its teacher."""
    return [
        f"\n{result['path']}: {gap['psnr']:+.2f} dB, {gap['st_lpips']:+.4f} ST-LPIPS against its teacher ({gap['path']}), same frames.\n"
        for result in results
        if (gap := result.get("delta_vs_teacher"))
    ]


def _verdicts(results: list[Result]) -> list[str]:
    """Who is best by which metric, where intervals say so."""
    rated = [result for result in results if result["path"] not in BASELINES]
    lines = []
    for metric, best in (("psnr", max), ("st_lpips", min)):
        known = [result for result in rated if metric in result["quality"]["full"]]
        if len(known) < 2:
            continue
        winner = best(known, key=lambda result: result["quality"]["full"][metric]["mean"])
        best_mean = Estimate(**winner["quality"]["full"][metric])
        tied = [
            result["path"]
            for result in known
            if result is not winner and not differs(Estimate(**result["quality"]["full"][metric]), best_mean)
        ]
        rest = f"not told apart from {', '.join(tied)}" if tied else "intervals apart from all others"
        lines.append(f"\n{metric}: {winner['path']} leads, {rest}.\n")
    return lines


def _interval(scores: dict[str, Any], name: str, digits: int) -> str:
    if name not in scores:
        return "–"
    values = scores[name]
    return f"{values['mean']:.{digits}f} ({values['low']:.{digits}f} … {values['high']:.{digits}f})"


def _mean(scores: dict[str, Any], name: str, digits: int, scale: float = 1.0) -> str:
    return f"{scale * scores[name]['mean']:.{digits}f}" if name in scores else "–"


def write_sheet(results: list[Result], kind: str, path: Path) -> bool:
    """A picture of pictures: a row for each path that has some, a column for each frame; the truth on top where there is one.

    Args:
        results: of one clip.
        kind: test, driven or sweep.
        path: of the sheet.

    Returns:
        Whether there was anything to show.
    """
    rows: dict[str, list[Path]] = {}
    for result in results:
        pictures = result.get("pictures", {}).get(kind, {})
        for name, files in (("truth", pictures.get("truth", [])), (result["path"], pictures.get("frames", []))):
            if files and name not in rows:
                rows[name] = [Path(result["folder"]) / file for file in files]
    if not rows:
        return False
    if "truth" in rows:
        rows = {"truth": rows.pop("truth"), **rows}
    strips = [_strip(name, files) for name, files in rows.items()]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips]
    write_png(path, np.concatenate(padded))
    return True


def _strip(name: str, files: list[Path]) -> UInt8[np.ndarray, "h w 3"]:
    """Pictures side by side, under a name.

    Raises:
        FormatError: one is missing or damaged.
    """
    pictures = []
    for file in files:
        picture = cv2.imdecode(np.frombuffer(file.read_bytes() if file.is_file() else b"0", np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise FormatError(f"{file} is missing or damaged. Run the benchmark again.")
        pictures.append(cv2.resize(picture, (SHEET_SIDE, SHEET_SIDE), interpolation=cv2.INTER_AREA)[..., ::-1])
    row = np.concatenate(pictures, 1)
    label = draw_label(name, SHEET_SIDE)
    return np.concatenate([np.pad(label, ((0, 0), (0, row.shape[1] - SHEET_SIDE), (0, 0)), constant_values=255), row])
