"""Quality over time of personalizations that start from the network, and of others that do not, on tracked videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deja_vu.avatars import save_avatar
from deja_vu.bench.curve import Curve, crossing_times
from deja_vu.core.config import config_text, load_config
from deja_vu.core.documents import read_json
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.files import write_atomic, write_json
from deja_vu.io.names import distinct_names
from deja_vu.io.provenance import commit
from deja_vu.pipelines.run_folder import find_track, open_run
from deja_vu.report.markdown import markdown_table
from deja_vu.report.plots import LARGE, Chart, line_chart
from deja_vu.training.checkpoint import video_print
from deja_vu.training.devices import device_name, pick_device
from deja_vu.training.gaussian import train_gaussian
from deja_vu.training.gaussian_config import GaussianPhase, GaussianTrainConfig
from deja_vu.training.gaussian_init import init_avatar

FIGURES = "curves.json"
RECIPE = "config.yaml"
EVERY = 100
"""Steps from one look at the held-out frames to the next."""
PLAIN = "gray"
LIFTED = "lifted"
NETWORK = "prior"
QUICK = "prior, quick recipe"


def variants(recipe: GaussianTrainConfig, quick: tuple[GaussianPhase, ...]) -> dict[str, GaussianTrainConfig]:
    """What is compared: the recipe from a bald gray head, from lifted colors, from the network, and from the network in other phases."""
    plain, lifted, network = replace(recipe, init="gray"), replace(recipe, init="lifted"), replace(recipe, init="prior")
    return {PLAIN: plain, LIFTED: lifted, NETWORK: network, QUICK: replace(network, phases=quick)}


def compare_starts(
    clips: Sequence[Path],
    out: Path,
    recipe: GaussianTrainConfig,
    quick: tuple[GaussianPhase, ...],
    only: Sequence[str] = (),
    *,
    reuse: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
) -> str:
    """Train every clip in every way.

    Args:
        clips: tracked folders, or runs that hold one.
        out: folder; gets a plot for each clip, a folder with a run for each way, and curves.json with all figures.
        recipe: of the personalization.
        quick: phases of the last way.
        only: ways to train now, of `variants`; all of them if it is empty.
        reuse: keep runs that are finished, and add to them.
        overwrite: replace the comparison in the folder.
        device: where to train, see `pick_device`.

    Returns:
        When each way is as good as the starts without the network are at their end, as a Markdown table.

    Raises:
        InputError: an unknown way, no clip, one clip twice, or a finished run of another video.
        ConfigError: a finished run was made with another recipe.
        OutputError: `out` holds what no comparison wrote, or a comparison and neither flag is given; it is in use, or cannot be written.
    """
    ways, where = variants(recipe, quick), pick_device(device)
    if unknown := set(only) - set(ways):
        raise InputError(f"There is no start '{unknown.pop()}'. Known: {', '.join(ways)}.")
    named = dict(zip(distinct_names(clips), clips, strict=True))
    with open_run(out, "compare-starts", inputs=clips, overwrite=overwrite, add=reuse) as opened:
        if not clips and opened.fresh:
            raise InputError("Nothing to compare: give tracked folders, or a folder of finished runs as --out, with --reuse.")
        opened.note()
        folder = opened.folder
        learn_all(named, folder, {name: ways[name] for name in only or ways}, where)
        runs = [read_json(path) for path in sorted(folder.glob(f"*/*/{FIGURES}"))]
        for name in {run["clip"] for run in runs}:
            chosen = {run["way"]: run["points"] for run in runs if run["clip"] == name}
            write_atomic(folder / f"{name}.svg", draw_curves(name, chosen))
        write_json(folder / FIGURES, {"device": device_name(where), "commit": commit(), "threads": torch.get_num_threads(), "runs": runs})
    return starts_table(runs)


def learn_all(clips: Mapping[str, Path], out: Path, ways: Mapping[str, GaussianTrainConfig], device: torch.device) -> None:
    """Train every clip in every way that is not there yet; see `compare_starts`."""
    for clip, folder in clips.items():
        for name in ways:
            run = out / clip / name.replace(", ", "-").replace(" ", "-")
            print_ = video_print(TrackedSequence.load(find_track(folder)))
            if not (run / FIGURES).is_file():
                run.mkdir(parents=True, exist_ok=True)
                write_atomic(run / RECIPE, config_text(ways[name]))
                figures = measure_start(find_track(folder), run, ways[name], device)
                write_json(run / FIGURES, {"clip": clip, "way": name, "video": print_, **figures})
            elif load_config(GaussianTrainConfig, run / RECIPE) != ways[name]:
                raise ConfigError(f"{run} was made with another recipe. Choose another --out.")
            elif read_json(run / FIGURES).get("video") != print_:
                raise InputError(f"{run} was made of another video than {clip}. Choose another --out, or give the clip another name.")


def measure_start(track: Path, run: Path, config: GaussianTrainConfig, device: torch.device) -> dict[str, Any]:
    """Train one avatar, and look at some held-out frames at the start, every `EVERY` steps, and at the end."""
    sequence = TrackedSequence.load(track)
    curve = Curve(sequence, device=device)
    avatar = init_avatar(sequence.train_part(), config)
    curve.score(avatar)
    last = sum(phase.steps for phase in config.phases)
    train_gaussian(
        avatar,
        sequence.train_part(),
        config,
        run,
        device=device,
        resume=False,
        on_step=lambda step: curve.score_every(avatar, step, EVERY, last),
    )
    save_avatar(avatar, run / "avatar.safetensors", {"commit": commit()})
    return {"points": curve.points}


def draw_curves(clip: str, points: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Quality by time of every way, as a plot."""
    series = {way: ([max(one["cpu_seconds"], 0.1) for one in each], [one["psnr"] for one in each]) for way, each in points.items()}
    label = "processor seconds of personalization, start included"
    return line_chart(Chart(clip, series, x_label=label, y_label="PSNR, dB", log_x=True, marked=True), LARGE, standalone=True)


def starts_table(runs: Sequence[dict[str, Any]]) -> str:
    """One row a clip and way: where it starts and ends, and when it is as good as the starts without the network are at their end."""
    header = ["clip", "start", "first look", "end", "time", "none's end: PSNR", "ST-LPIPS", "lifted's end: PSNR", "ST-LPIPS"]
    order = (PLAIN, LIFTED, NETWORK, QUICK)
    ends = {(run["clip"], run["way"]): run["points"][-1] for run in runs}
    rows = []
    for run in sorted(runs, key=lambda run: (run["clip"], order.index(run["way"]))):
        first, last = run["points"][0], run["points"][-1]
        cells = [run["clip"], run["way"], f"{first['psnr']:.2f}", f"{last['psnr']:.2f} / {last['st_lpips']:.4f}"]
        cells.append(f"{last['cpu_seconds']:.0f} s")
        for other in (PLAIN, LIFTED):
            cells += [_share(run["points"], ends.get((run["clip"], other)), measure) for measure in ("psnr", "st_lpips")]
        rows.append(cells)
    return markdown_table(header, rows)


def _share(points: Sequence[dict[str, float]], other: dict[str, float] | None, measure: str) -> str:
    """When a curve reaches another's end for the first time, and to stay, in shares of the other's time."""
    found = None if other is None else crossing_times(points, other[measure], measure)
    if other is None or found is None:
        return "–"
    return ", ".join(f"{100 * time / other['cpu_seconds']:.0f} %" for time in found)
