"""The main job on several clips, beside rendered videos of other systems, as one table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deja_vu.core.batch import Batch
from deja_vu.core.errors import DejaVuError, InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.pipelines.evaluate import Method, evaluate_run
from deja_vu.pipelines.personalize import Recipe, personalize, write_json
from deja_vu.pipelines.runs import find_track
from deja_vu.pipelines.track import cut
from deja_vu.tracking.landmarks import Crop
from deja_vu.tracking.video import read_frames

INPUT_NAME = "gt.mp4"
"""In a folder that stands for a clip, the video to learn from; the other videos are other systems' renders of the same frames."""


@dataclass(frozen=True)
class Clip:
    """One video, and other systems' renders of the same frames."""

    name: str
    video: Path
    others: tuple[Path, ...]


def find_clip(path: Path) -> Clip:
    """A clip from a video file, or from a folder with gt.mp4 and renders.

    Raises:
        InputError: a folder without gt.mp4.
    """
    if not path.is_dir():
        return Clip(path.stem, path, ())
    if not (path / INPUT_NAME).is_file():
        raise InputError(f"{path} holds no {INPUT_NAME}. Expected a video, or a folder with {INPUT_NAME} and other systems' renders of it.")
    return Clip(path.name, path / INPUT_NAME, tuple(sorted(item for item in path.glob("*.mp4") if item.name != INPUT_NAME)))


def benchmark(clips: list[Path], out: Path, recipe: Recipe, *, reuse: bool) -> str:
    """Run the main job on every clip and compare; one JSON a clip, and a Markdown table of all.

    Args:
        clips: videos, or folders with gt.mp4 and other systems' renders of the same frames.
        out: folder for one run a clip, and table.md.
        recipe: what to compute.
        reuse: score runs that are there already instead of computing them again.
    """
    rows = []
    for clip in [find_clip(path) for path in clips]:
        run = out / clip.name
        try:
            if not (reuse and (run / "metrics.json").is_file()):
                personalize(clip.video, run, recipe, resume=False, overwrite=run.exists())
            sequence = TrackedSequence.load(find_track(run))
            metrics = evaluate_run(run, others=[frames_method(video, sequence) for video in clip.others]) if clip.others else read(run)
        except DejaVuError as error:
            print(f"{clip.name}: {error}")
            continue
        write_json(run / "metrics.json", metrics)
        rows.append((clip.name, metrics))
    table = markdown(rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table)
    return table


def read(run: Path) -> dict[str, Any]:
    """Metrics that a run has recorded."""
    return json.loads((run / "metrics.json").read_text())


def frames_method(video: Path, sequence: TrackedSequence) -> Method:
    """Another system's render of the same frames, on our crop and over its own white background.

    Raises:
        InputError: it ends before the last test frame.
    """
    x0, y0, x1, _ = sequence.info.crop
    crop, side = Crop(x0, y0, x1 - x0), sequence.info.resolution
    wanted = set(sequence.test_part().index.tolist())
    kept = {index: torch.from_numpy(cut(image, crop, side)) for index, _, image in read_frames(video, max_fps=None) if index in wanted}
    order = sequence.test_part().index
    if wanted - kept.keys():
        raise InputError(f"{video} ends before test frame {max(wanted)}. Expected a render of the same frames as {sequence.info.source}.")

    def predict(batch: Batch) -> Tensor:
        return kept[int(order[batch.positions[0]])].float() / 255

    return Method(video.stem, predict)


def markdown(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Table of every clip: times, and PSNR / SSIM / ST-LPIPS of the avatar, its ablation, the baselines and other systems."""
    lines = [
        "| clip | frames | track + personalize s | peak MB | avatar | global only | mean image | nearest frame | other systems |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    named = ("global_only", "mean_image", "nearest_frame")
    for name, metrics in rows:
        baselines, seconds = metrics["baselines"], metrics["seconds"]
        cells = [cell(metrics["test"]), *(cell(baselines[key]) if key in baselines else "" for key in named)]
        others = "; ".join(f"{key} {cell(value)}" for key, value in baselines.items() if key not in named)
        lines.append(
            f"| {name} | {metrics['frames']} | {seconds['track']:.0f} + {seconds['personalize']:.0f} | {metrics['peak_mb']} | "
            + " | ".join(cells)
            + f" | {others} |"
        )
    return "\n".join(lines) + "\n"


def cell(row: dict[str, float]) -> str:
    """PSNR / SSIM / ST-LPIPS as one cell."""
    return f"{row['psnr']:.2f}/{row['ssim']:.3f}/{row['st_lpips']:.3f}"
