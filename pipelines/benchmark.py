"""Make and score avatars from several clips, compared with other systems' renders, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deja_vu.bench.predictors import BASELINES, Predictor
from deja_vu.bench.results import METRICS_FILE
from deja_vu.core.batch import Batch
from deja_vu.core.errors import DejaVuError, InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.files import write_atomic, write_json
from deja_vu.io.names import distinct_names
from deja_vu.io.video import read_frames
from deja_vu.pipelines.benchmark_paths import benchmark_paths
from deja_vu.pipelines.demo import MOTION_FRAMES, MOTION_SEED
from deja_vu.pipelines.evaluate import evaluate_run
from deja_vu.pipelines.identity import refuse_other_source
from deja_vu.pipelines.personalize import personalize, recipe_device
from deja_vu.pipelines.recipes import Recipe
from deja_vu.pipelines.run_folder import amend_run, find_track, is_whole, open_run
from deja_vu.pipelines.sample import write_sample
from deja_vu.pipelines.track import track_into
from deja_vu.report.bench_report import write_bench_report
from deja_vu.report.scores_table import explain_better_baselines, scores_table
from deja_vu.tracking.crop import Crop, crop_frame

INPUT_NAME = "gt.mp4"
"""In a folder that stands for a clip, the video to learn from; the other videos are other systems' renders of the same frames."""


SCORED_FRAMES = 100
"""Held-out frames that are scored of each clip, evenly spread; a run scores fewer of its own."""
OURS = ("test", *BASELINES, "global_only", "teacher")
"""Names that other systems' renders cannot have."""


@dataclass(frozen=True)
class BenchmarkClip:
    """One video, and other systems' renders of the same frames."""

    name: str
    """Of its folder in the benchmark's."""
    video: Path
    """File, or tracked folder."""
    others: tuple[Path, ...]


def find_clips(paths: Sequence[Path]) -> list[BenchmarkClip]:
    """Clips from video files, tracked folders, or folders with gt.mp4 and renders; each has a name of its own.

    Raises:
        InputError: a folder without gt.mp4, or one path twice.
    """
    return [_find_clip(path, name) for path, name in zip(paths, distinct_names(paths), strict=True)]


def _find_clip(path: Path, name: str) -> BenchmarkClip:
    if not path.is_dir() or (path / "track.json").is_file():
        return BenchmarkClip(name, path, ())
    if not (path / INPUT_NAME).is_file():
        raise InputError(f"{path} holds no {INPUT_NAME}. Expected a video, or a folder with {INPUT_NAME} and other systems' renders of it.")
    return BenchmarkClip(name, path / INPUT_NAME, tuple(sorted(item for item in path.glob("*.mp4") if item.name != INPUT_NAME)))


def benchmark(clips: list[Path], out: Path, recipe: Recipe, *, reuse: bool, overwrite: bool = False, read: Sequence[Path] = ()) -> str:
    """Run the main job on every clip and compare; one JSON a clip, and a Markdown table of all.

    Args:
        clips: videos, or folders with gt.mp4 and other systems' renders of the same frames.
        out: folder for one run a clip, and table.md.
        recipe: what to compute.
        reuse: score runs that are there already instead of computing them again.
        overwrite: replace runs that are there already.
        read: further files that the command reads.

    Raises:
        OutputError: `out` holds what no benchmark wrote, or results and neither flag is given; it is in use, or cannot be written.
    """
    inputs = [*clips, *read]
    with open_run(out, "benchmark", inputs=inputs, add=reuse or overwrite) as opened:
        opened.note()
        rows = score_clips(clips, out, recipe, reuse=reuse, overwrite=overwrite, read=read)
        table = scores_table(rows) + explain_better_baselines(rows)
        write_atomic(out / "table.md", table)
    return table


def score_clips(
    clips: Sequence[Path], out: Path, recipe: Recipe, *, reuse: bool, overwrite: bool, read: Sequence[Path]
) -> list[tuple[str, dict[str, Any]]]:
    """Name and metrics of every clip; what cannot be done is said and left out."""
    rows = []
    for clip in find_clips(clips):
        run = out / clip.name
        try:
            if not (reuse and is_whole(run)):
                personalize(clip.video, run, recipe, resume=False, overwrite=overwrite or reuse, read=read)
            elif find_track(run) == run / "track" and clip.video.is_file():  # which it tracked itself
                refuse_other_source(run, clip.video)
            others = video_predictors(clip.others, TrackedSequence.load(find_track(run)))
            metrics = evaluate_run(run, frames=SCORED_FRAMES, others=others, device=recipe_device(recipe))
            with amend_run(run, METRICS_FILE) as path:
                write_json(path, metrics)
        except DejaVuError as error:
            print(f"{clip.name}: {error}")
            continue
        rows.append((clip.name, metrics))
    return rows


def compare_paths(
    clips: list[Path],
    paths: list[str],
    frames: list[Path],
    out: Path,
    recipe: Recipe,
    *,
    drive: bool,
    reuse: bool,
    overwrite: bool = False,
    read: Sequence[Path] = (),
) -> str:
    """Several paths on every clip, tracked once each; the table of the report.

    Args:
        clips: videos, folders with gt.mp4 and other systems' renders, or tracked folders.
        paths: names of what to compare.
        frames: further renders of the same frames by other systems; only with one clip.
        out: folder for one folder a clip, and the report.
        recipe: of all paths.
        drive: let every avatar follow the other clips' motion too; a single clip's, that of a made-up person.
        reuse: keep tracked clips and results that are there already.
        overwrite: replace tracked clips and results that are there already.
        read: further files that the command reads.

    Raises:
        InputError: renders are given for several clips, or a clip is too short.
        OutputError: `out` holds what no benchmark wrote, or results and neither flag is given; it is in use, or cannot be written.
    """
    if frames and len(clips) != 1:
        raise InputError(f"--frames belongs to one clip, but {len(clips)} are given. Put renders beside each clip's {INPUT_NAME} instead.")
    with open_run(out, "benchmark", inputs=[*clips, *frames, *read], add=reuse or overwrite) as run:
        run.note()
        compare(clips, paths, frames, out, recipe, drive=drive, reuse=reuse, overwrite=overwrite)
        return write_bench_report(out)


def compare(
    clips: list[Path], paths: list[str], frames: list[Path], out: Path, recipe: Recipe, *, drive: bool, reuse: bool, overwrite: bool
) -> None:
    """Track and measure; see `compare_paths`."""
    found = {}
    for clip in find_clips(clips):
        found[clip.name] = (clip, shared_track(clip, out / clip.name, recipe, reuse=reuse, overwrite=overwrite))
    folders = {name: folder for name, (_, folder) in found.items()}
    if drive and len(folders) == 1:
        like = next(iter(folders.values()))
        folders["sample person"] = sample_driver(out / "sample_person", recipe, like, reuse=reuse, overwrite=overwrite)
    for name, (clip, track_folder) in found.items():
        sequence = TrackedSequence.load(track_folder)
        others = video_predictors([*clip.others, *frames], sequence, taken=paths)
        drivers = [folder for other, folder in folders.items() if drive and other != name]
        kept = {"reuse": reuse, "overwrite": overwrite}
        benchmark_paths(name, track_folder, paths, out / name, recipe, others=others, drivers=drivers, **kept)


def sample_driver(folder: Path, recipe: Recipe, like: Path, *, reuse: bool, overwrite: bool) -> Path:
    """The tracked folder of a made-up person, whose motion drives a clip that is alone; on the head model of that clip."""
    target = folder / "track"
    if not (reuse and (target / "track.json").is_file()):
        write_sample(folder / "motion.mp4", MOTION_FRAMES, seed=MOTION_SEED)
        config = replace(recipe.track, head=TrackedSequence.load(like).info.head_name)
        track_into(folder / "motion.mp4", target, config, overwrite=overwrite or reuse)
    return target


def shared_track(clip: BenchmarkClip, folder: Path, recipe: Recipe, *, reuse: bool, overwrite: bool) -> Path:
    """The tracked folder that all paths of a clip learn from."""
    if clip.video.is_dir():
        return find_track(clip.video)
    target = folder / "track"
    if reuse and (target / "track.json").is_file():
        return target
    track_into(clip.video, target, recipe.track, overwrite=overwrite or reuse)
    return target


def video_predictors(videos: Sequence[Path], sequence: TrackedSequence, taken: Sequence[str] = ()) -> list[Predictor]:
    """Other systems' renders of a clip's frames, each with a name of its own.

    Args:
        videos: files.
        sequence: the tracked clip.
        taken: names of our own paths.

    Raises:
        InputError: a video ends before the last test frame, or is given twice.
    """
    names = distinct_names(videos, taken=[*OURS, *taken])
    return [video_predictor(name, video, sequence) for name, video in zip(names, videos, strict=True)]


def video_predictor(name: str, video: Path, sequence: TrackedSequence) -> Predictor:
    """Another system's render of the same frames, on our crop and over its own white background.

    Raises:
        InputError: it ends before the last test frame.
    """
    x0, y0, x1, _ = sequence.info.crop
    crop, side = Crop(x0, y0, x1 - x0), sequence.info.resolution
    wanted = set(sequence.test_part().index.tolist())
    shown = ((index, image) for index, _, image in read_frames(video, max_fps=None) if index in wanted)
    kept = {index: torch.from_numpy(crop_frame(image, crop, side, border=255)) for index, image in shown}
    order = sequence.test_part().index
    if wanted - kept.keys():
        raise InputError(f"{video} ends before test frame {max(wanted)}. Expected a render of the same frames as {sequence.info.source}.")

    def predict(batch: Batch) -> Tensor:
        return kept[int(order[batch.positions[0]])].float() / 255

    return Predictor(name, predict)
