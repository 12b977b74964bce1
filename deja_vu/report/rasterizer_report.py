"""Times, memory, accuracy and roofline of the rasterizers: `python -m deja_vu.report.rasterizer_report --json FILE --plot FILE.svg`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from deja_vu import native
from deja_vu.bench.rasterizers import Row, accuracy, label_row, peak_memory, time_scene, training_step
from deja_vu.bench.roofline import measure_work, vector_rate
from deja_vu.bench.scenes import avatar_scene, shell_scene
from deja_vu.io.files import write_atomic, write_json
from deja_vu.io.provenance import machine
from deja_vu.render import RASTERIZERS
from deja_vu.report.markdown import markdown_table
from deja_vu.report.plots import Bar, bar_chart


def main() -> None:
    """Measure, print a Markdown table, and write JSON and a plot where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", choices=[*RASTERIZERS], nargs="+", default=["gsplat" if torch.cuda.is_available() else "cpu"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--counts", type=int, nargs="+", default=[16384, 32768, 65536])
    parser.add_argument("--avatar", type=Path, help="run folder of a trained avatar, drawn too")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only-times", action="store_true", help="leave out roofline, memory, accuracy and the training step")
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--plot", type=Path, help="write a bar chart there (SVG)")
    options = parser.parse_args()
    scenes = [shell_scene(size, count) for size in options.sizes for count in options.counts]
    scenes += [avatar_scene(options.avatar, size) for size in options.sizes] if options.avatar else []
    result: dict[str, Any] = {"machine": {"processor": machine(), "torch": torch.__version__, "variant": native.variant()}}
    times = [row for scene in scenes for row in time_scene(scene, options.backends, options.threads, options.repeats)]
    result["times"] = times
    print(figures_table(times), flush=True)
    if not options.only_times:
        rate = vector_rate()
        result["roofline"] = [label_row(scene, asdict(measure_work(scene, rate))) for scene in scenes]
        result["memory"] = [label_row(scene, peak_memory(scene)) for scene in scenes]
        result["accuracy"] = [{"degree": degree, **accuracy(degree)} for degree in (0, 3)]
        result["training"] = [
            {"threads": threads, **training_step(256, 16384, threads, 3 * options.repeats)} for threads in options.threads
        ]
        for name in ("roofline", "memory", "accuracy", "training"):
            print(f"\n{name}\n\n{figures_table(result[name])}", flush=True)
    if options.json:
        write_json(options.json, result)
    if options.plot:
        write_atomic(options.plot, draw_times(times))


def figures_table(rows: Sequence[Row]) -> str:
    """Rows of one shape as Markdown."""
    cells = [[f"{value:.3g}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    return markdown_table([*rows[0]], cells)


def draw_times(rows: Sequence[Mapping[str, Any]]) -> str:
    """A bar for each row: minimal wall time forward inside of that forward and backward.

    Args:
        rows: as `time_scene` gives them.
    """
    bars = [
        Bar(
            label=f"{row['scene']}, {row['count']:,}, {row['threads']} thr., {row['backend']}",
            outer=row["both_min"],
            inner=row["forward_min"],
            text=f"{row['forward_min']:.1f} / {row['both_min']:.1f}",
        )
        for row in rows
    ]
    return bar_chart(bars, "Milliseconds a picture: forward (dark), forward and backward (light); minima")


if __name__ == "__main__":
    main()
