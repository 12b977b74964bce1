"""Score an avatar on frames it never saw, with the mean image and the nearest training frame as baselines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch

from deja_vu.avatars import Avatar, GaussianAvatar, load_avatar
from deja_vu.avatars.gaussian.code_fit import can_fit_codes
from deja_vu.bench.evaluate import PERSON_SAMPLE, SAMPLE, FramePair, Keep, Protocol, Scores, evaluate, means
from deja_vu.bench.predictors import Predictor, avatar_predictor, baseline_predictors, fitted_predictor, still_torso_predictor
from deja_vu.bench.results import FITTED, METRICS_FILE, PhotoScores, RunScores, result_fields
from deja_vu.core.documents import read_json
from deja_vu.core.image import to_uint8
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.files import write_json
from deja_vu.io.frames import CPU
from deja_vu.io.images import write_png
from deja_vu.pipelines.around import MadeUpPerson, load_person, score_around
from deja_vu.pipelines.own_files import hold_output
from deja_vu.pipelines.person import load_pair
from deja_vu.pipelines.run_folder import list_drawing_inputs, open_run
from deja_vu.training.devices import pick_device


def score_run(
    run: Path,
    json_path: Path | None = None,
    save_frames: Path | None = None,
    *,
    truth: Path | None = None,
    frames: int | Literal["all"] = SAMPLE,
    overwrite: bool = False,
    device: str = "cpu",
) -> None:
    """Score a run's avatar, print the figures, and write what is asked for.

    Args:
        run: run folder.
        json_path: file for the figures.
        save_frames: folder for pictures of every scored frame.
        truth: what `deja-vu sample` wrote beside the video; with it the avatar is scored from all sides too.
        frames: how many held-out frames are scored, evenly spread, or all.
        overwrite: replace the file, and the frames of an earlier evaluation.
        device: where to draw and measure, see `pick_device`.

    Raises:
        OutputError: a place is taken.
        InputError: the truth is about another video.
        FormatError: the truth is damaged.
    """
    count = None if frames == "all" else frames
    person = None if truth is None else load_person(run, truth)
    with ExitStack() as stack:
        if json_path is not None:
            stack.enter_context(hold_output(json_path, overwrite=overwrite, inputs=list_drawing_inputs(run), suffix=".json"))
        folder = None
        if save_frames is not None:
            inputs = [run, *([truth] if truth else [])]
            opened = stack.enter_context(open_run(save_frames, "evaluate", inputs=inputs, overwrite=overwrite))
            opened.note()
            folder = opened.folder
        metrics = evaluate_run(run, frames=count, save_frames=folder, person=person, device=pick_device(device))
        if json_path is not None:
            write_json(json_path, metrics)
    print(json.dumps(metrics, indent=2))
    if "frames_scored" not in metrics:
        print("A photo's run has no held-out frames: input_view says how well the photo itself is matched.", file=sys.stderr)


def evaluate_run(
    run: Path,
    *,
    frames: int | None = SAMPLE,
    save_frames: Path | None = None,
    others: Sequence[Predictor] = (),
    person: MadeUpPerson | None = None,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Metrics of a finished run: what metrics.json of the run says, its scores measured again.

    Args:
        run: run folder.
        frames: how many held-out frames are scored, evenly spread; None for all.
        save_frames: folder for pictures of the scored frames.
        others: scored beside the baselines.
        person: truth about the video, with which the avatar is scored from all sides too.
        device: where to draw and measure.

    Returns:
        Fields of `RunFacts` and `RunScores`, and `around` where the truth is known; of a photo's run, those of `PhotoFacts`.
    """
    avatar, sequence = load_pair(run, device)
    recorded = read_json(run / METRICS_FILE) if (run / METRICS_FILE).is_file() else {}
    ours = avatar_predictor("test", avatar)
    keep = None if save_frames is None else frame_writer(save_frames, sequence, ours)
    if not sequence.test.any():
        scores = evaluate(sequence, [ours], frames=frames, keep=keep, device=device)["test"]
        return recorded | result_fields(PhotoScores(input_view=means(scores)))
    predictors = [ours, *baseline_predictors(sequence.train_part())]
    if isinstance(avatar, GaussianAvatar) and can_fit_codes(avatar):
        predictors.append(fitted_predictor(FITTED, avatar))
    for name, file in (("global_only", run / "global_only.safetensors"), ("teacher", run / "teacher" / "avatar.safetensors")):
        if file.is_file():
            predictors.append(avatar_predictor(name, load_avatar(file).to(device)))
    scored = evaluate(sequence, [*predictors, *others], frames=frames, head=avatar.host_head, keep=keep, device=device)
    besides = score_person(avatar, sequence, frames, save_frames, device) if avatar.shows_person else {}
    measured = recorded | result_fields(RunScores.of(scored, int(sequence.test.sum()), besides))
    if person is None:
        return measured
    return measured | {"around": score_around(avatar, sequence, person, sheet=None if save_frames is None else save_frames / "around.png")}


def score_person(
    avatar: Avatar, sequence: TrackedSequence, frames: int | None, save_frames: Path | None, device: torch.device = CPU
) -> dict[Protocol, dict[str, Scores]]:
    """Scores by the protocols that look at the whole person, the avatar's called `test`.

    Args:
        avatar: shows the whole person.
        sequence: its video.
        frames: as `evaluate_run` takes it.
        save_frames: as `evaluate_run` takes it; these frames go into its folder `person`.
        device: where pictures are compared.
    """
    ours, train = avatar_predictor("test", avatar), sequence.train_part()
    predictors = [ours, *baseline_predictors(train.person_window(), person=True), still_torso_predictor("still_torso", avatar, train)]
    count = None if frames is None else min(frames, PERSON_SAMPLE)
    keep = None if save_frames is None else frame_writer(save_frames / "person", sequence.person_window(), ours)
    found: dict[Protocol, dict[str, Scores]] = {}
    for protocol in ("person", "body"):
        kept = keep if protocol == "person" else None
        found[protocol] = evaluate(sequence, predictors, frames=count, keep=kept, protocol=protocol, device=device)
    return found


def summary(metrics: dict[str, Any], out: Path) -> str:
    """What a newcomer wants to read at the end: how good the avatar is, beside what; how long it took; what to do next."""
    rows = {"whole person" if name == "person" else name: metrics[name] for name in ("person", "body") if name in metrics}
    rows = {"its head" if rows else "avatar": metrics["test"], **rows}
    rows |= {"head, fitted": metrics["fitted"]} if "fitted" in metrics else {}
    rows |= {name.replace("_", " "): row for name, row in metrics["baselines"].items()}
    seconds = metrics["seconds"]
    lines = [
        f"{name:>14}  {row['psnr']:6.2f} dB   SSIM {row['ssim']:.4f}   ST-LPIPS {row['st_lpips']:.4f}{_regions(row)}"
        for name, row in rows.items()
    ]
    scored, held = metrics["frames_scored"], metrics["frames_held_out"]
    lines.append(f"on {scored} of {held} held-out frames" + (f"; on all: deja-vu evaluate {out} --frames all" if scored < held else ""))
    whole = f", with scores and pictures {seconds['total']:.0f} s" if "total" in seconds else ""
    lines.append(f"track {seconds['track']:.0f} s, personalize {seconds['personalize']:.0f} s{whole}, peak memory {metrics['peak_mb']} MB")
    lines.append(f"look at {out / 'report.html'} (it says what the figures mean), {out / 'compare.png'} and {out / 'turntable.mp4'}")
    lines.append(next_steps(out, page=metrics.get("gaussians") is not None))
    return "\n".join(lines)


def next_steps(out: Path, *, page: bool) -> str:
    """What one does with a run, as commands.

    Args:
        out: run folder, as the user knows it.
        page: whether its avatar can be exported as a page.
    """
    return f"move it: deja-vu view {out}" + (f"; as a page: deja-vu export {out} --format web --out page" if page else "")


def _regions(row: dict[str, Any]) -> str:
    """PSNR of every region that was scored."""
    shown = ", ".join(f"{name} {scores['psnr']:.1f}" for name, scores in row.get("regions", {}).items())
    return f"   {shown} dB" if shown else ""


def frame_writer(folder: Path, sequence: TrackedSequence, predictor: Predictor) -> Keep:
    """Writes the scored frames of one predictor, so that whoever has them can measure the scores again.

    Every frame gives render_ and target_ (RGB over white), head_ (its alpha) and person_ (255 where nothing was filmed). In protocol
    `head` pixels count by one minus what person_ has more than head_, in `person` all that was filmed counts, in `body` what person_ has
    more than head_ does. valid_ is 255 where something was filmed. frames.json says which protocol the pictures were made for, and where
    they lie in the video.

    Args:
        folder: to write into.
        sequence: tracked video.
        predictor: whose frames are written.

    Raises:
        OutputError: the folder cannot be written.
    """
    facts = {"protocol": sequence.window, "shows_person": predictor.shows_person, "crop": list(sequence.crop)}
    write_json(folder / "frames.json", facts | {"resolution": sequence.info.resolution, "background": [255, 255, 255]})

    def keep(shown: Predictor, _: int, pair: FramePair) -> None:
        if shown is not predictor:
            return
        name, frame = f"{int(sequence.index[pair.position]):06d}.png", sequence.frame(pair.position)
        valid = frame.valid > 127
        write_png(folder / f"render_{name}", to_uint8(pair.image))
        write_png(folder / f"target_{name}", to_uint8(pair.target))
        write_png(folder / f"head_{name}", (frame.head * valid).numpy())
        write_png(folder / f"person_{name}", frame.foreground.masked_fill(~valid, 255).numpy())
        write_png(folder / f"valid_{name}", (255 * valid).byte().numpy())

    return keep
