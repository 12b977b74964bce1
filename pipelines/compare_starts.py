"""How much sooner a personalization is done that begins from the network: quality by time, with it and without, on tracked videos."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deja_vu.avatars import save_avatar
from deja_vu.bench.plots import curves
from deja_vu.core.errors import InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.pipelines.benchmark_measure import Curve
from deja_vu.pipelines.runs import commit, find_track, machine, write_json
from deja_vu.pipelines.train_gaussians import PersonalizeConfig, Phase, start_avatar, train

FIGURES = "curves.json"
EVERY = 100
"""Steps from one look at the held-out frames to the next."""
LIFTED, NETWORK, QUICK = "lifted", "network", "network, quick recipe"


def variants(recipe: PersonalizeConfig, quick: tuple[Phase, ...]) -> dict[str, PersonalizeConfig]:
    """What is compared: the recipe without the network, with it, and with it in other phases."""
    network = replace(recipe, start="network")
    return {LIFTED: replace(recipe, start="lifted", prior=None), NETWORK: network, QUICK: replace(network, phases=quick)}


def compare_starts(clips: Sequence[Path], out: Path, recipe: PersonalizeConfig, quick: tuple[Phase, ...], only: Sequence[str] = ()) -> str:
    """Train every clip in every way; runs that are finished are kept.

    Args:
        clips: tracked folders, or runs that hold one.
        out: folder; gets a plot for each clip, a folder with a run for each way, and curves.json with all figures.
        recipe: of the personalization.
        quick: phases of the third way.
        only: ways to train now, of `variants`; none takes all.

    Returns:
        When each way is as good as the lifted start gets at its end, as a Markdown table.

    Raises:
        InputError: an unknown way, or no clip.
    """
    ways = variants(recipe, quick)
    if unknown := set(only) - set(ways):
        raise InputError(f"There is no start '{unknown.pop()}'. Known: {', '.join(ways)}.")
    for clip in clips:
        for name in only or ways:
            run = out / clip.name / name.replace(", ", "-").replace(" ", "-")
            if not (run / FIGURES).is_file():
                write_json(run / FIGURES, {"clip": clip.name, "way": name, **measured(find_track(clip), run, ways[name])})
    if not clips and not out.is_dir():
        raise InputError("Nothing to compare: give tracked folders, or a folder of finished runs as --out.")
    runs = [json.loads(path.read_text()) for path in sorted(out.glob(f"*/*/{FIGURES}"))]
    for name in {run["clip"] for run in runs}:
        series = {run["way"]: [(point["cpu_seconds"], point["psnr"]) for point in run["points"]] for run in runs if run["clip"] == name}
        (out / f"{name}.svg").write_text(curves(series, "processor seconds of personalization, start included", "PSNR, dB", name))
    write_json(out / FIGURES, {"device": machine(), "commit": commit(), "threads": torch.get_num_threads(), "runs": runs})
    return table(runs)


def measured(track: Path, run: Path, config: PersonalizeConfig) -> dict[str, Any]:
    """Train one avatar, and look at some held-out frames at the start, every `EVERY` steps, and at the end."""
    sequence = TrackedSequence.load(track)
    curve = Curve(sequence, 0.0)
    avatar = start_avatar(sequence.train_part(), config)
    curve.note(avatar)
    last = sum(phase.steps for phase in config.phases)
    train(avatar, sequence.train_part(), config, run, resume=False, observe=lambda step: curve.watch(avatar, step, EVERY, last))
    save_avatar(avatar, run / "avatar.safetensors", {"commit": commit()})
    return {"points": curve.points}


def reached(points: Sequence[dict[str, float]], wanted: float) -> tuple[float, float] | None:
    """When a curve first reaches a value, and when it is there to stay, processor seconds; straight lines lie between its points."""
    crossings = []
    for before, after in itertools.pairwise(points):
        if (before["psnr"] < wanted) != (after["psnr"] < wanted):
            share = (wanted - before["psnr"]) / (after["psnr"] - before["psnr"])
            crossings.append(before["cpu_seconds"] + share * (after["cpu_seconds"] - before["cpu_seconds"]))
    if points[-1]["psnr"] < wanted:
        return None
    return (crossings[0], crossings[-1]) if crossings else (points[0]["cpu_seconds"], points[0]["cpu_seconds"])


def table(runs: Sequence[dict[str, Any]]) -> str:
    """One row a clip: where the lifted start ends, where the others do, and after what share of its time they are as good as it ever is."""
    lines = ["| clip | lifted: start, end | network: start, end | network, quick: end | as good after, of the lifted start's time |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for clip in sorted({run["clip"] for run in runs}):
        points = {run["way"]: run["points"] for run in runs if run["clip"] == clip}
        if LIFTED not in points:
            continue
        end = points[LIFTED][-1]
        cells, shares = [clip, *_ends(points[LIFTED], both=True)], []
        for way in (NETWORK, QUICK):
            cells += _ends(points[way], both=way == NETWORK) if way in points else ["–"]
            if way in points and (found := reached(points[way], end["psnr"])):
                shares.append(found[1] / end["cpu_seconds"])
        cells.append(f"{100 * min(shares):.0f} %" if shares else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ends(points: Sequence[dict[str, float]], *, both: bool) -> list[str]:
    last = f"{points[-1]['psnr']:.2f} / {points[-1]['st_lpips']:.4f} ({points[-1]['cpu_seconds']:.0f} s)"
    return [f"{points[0]['psnr']:.2f}, {last}" if both else last]
