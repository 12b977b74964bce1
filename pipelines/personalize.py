"""From a video to an avatar: track, train, score, show."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from deja_vu.avatars import Avatar, GaussianAvatar, load_avatar, save_avatar
from deja_vu.bench.results import METRICS_FILE, RunFacts, write_result
from deja_vu.bench.speed import measure_speed
from deja_vu.core.ahead import run_in_background
from deja_vu.core.config import config_text
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.stopwatch import Stopwatch, command_begun
from deja_vu.core.subject import Subject
from deja_vu.heads import load_head
from deja_vu.io.files import write_atomic, write_json
from deja_vu.io.images import write_png
from deja_vu.pipelines.drive import show
from deja_vu.pipelines.evaluate import evaluate_run, summary
from deja_vu.pipelines.first_picture import write_first_picture
from deja_vu.pipelines.identity import refuse_other_start, source_facts
from deja_vu.pipelines.networks import network_facts, refuse_other_network
from deja_vu.pipelines.own_files import read_record
from deja_vu.pipelines.person import subject_of
from deja_vu.pipelines.recipes import Recipe, draws_gaussians
from deja_vu.pipelines.report import write_report
from deja_vu.pipelines.run_folder import Run, find_track, open_run
from deja_vu.report.sheets import comparison_sheet
from deja_vu.tracking.config import TrackConfig
from deja_vu.tracking.overlay import OVERLAY, write_overlay
from deja_vu.tracking.tracker import track_video
from deja_vu.training.checkpoint import fingerprint, spent_seconds
from deja_vu.training.devices import device_name, pick_device
from deja_vu.training.gaussian import train_gaussian
from deja_vu.training.gaussian_init import init_avatar
from deja_vu.training.logging import log_hparams
from deja_vu.training.nelf import init_nelf, train_nelf
from deja_vu.training.nerf import init_nerf, train_nerf
from deja_vu.training.trainer import CHECKPOINT

SPEED_SECONDS = 0.15
"""Time for each measurement of the machine's speed, seconds."""


@dataclass(frozen=True)
class TrainResult:
    """A trained avatar, and facts about its training."""

    avatar: Avatar
    seconds: float
    """Seconds of initialization and training, over all attempts of a resumed run; without the teacher."""
    teacher_seconds: float = 0.0
    """The same for the teacher, if one was trained."""
    auxiliary: int = 0
    """Parameters that were trained and are not part of the avatar."""


def personalize(video: Path, out: Path, recipe: Recipe, *, resume: bool, overwrite: bool, read: Sequence[Path] = ()) -> None:
    """Make an avatar from a video (or a tracked folder), with its scores and pictures, in a run folder.

    Args:
        video: file, or folder made by `track_video`.
        out: run folder.
        recipe: what to compute.
        resume: continue an interrupted run.
        overwrite: replace the run that the folder holds, once the new one is whole.
        read: further files that the command reads, such as the recipe's.

    Raises:
        OutputError: `out` holds what no run wrote, or a run and neither flag is given; it is in use, or cannot be written.
        ConfigError: the run to resume was started with another recipe.
    """
    source = find_track(video) if video.is_dir() else video
    for file in network(recipe):
        refuse_other_network(file, "nerf" if recipe.path == "nerf" else "gaussian")
    with open_run(out, "personalize", inputs=[source, *read, *network(recipe)], resume=resume, overwrite=overwrite) as run:
        if resume:
            refuse_other_start(run.folder, source, recipe)
        make_avatar(source, run, recipe, resume=resume)


def recipe_device(recipe: Recipe) -> torch.device:
    """Where a recipe's avatar is trained and drawn.

    Raises:
        ConfigError: there is no such device, or it cannot draw the avatar.
    """
    return pick_device(recipe.device, gaussians=draws_gaussians(recipe))


def network(recipe: Recipe) -> list[Path]:
    """The file of the network that a recipe starts from, if it names one."""
    named = recipe.nerf.prior if recipe.path == "nerf" else recipe.gaussian.prior
    return [Path(named)] if named else []


def named_network_facts(recipe: Recipe) -> dict[str, str]:
    """Facts about the network that a recipe names, for the record of the run; none if it names no network."""
    return {name: fact for file in network(recipe) for name, fact in network_facts(file).items()}


def make_avatar(video: Path, run: Run, recipe: Recipe, *, resume: bool) -> None:
    """Fill an open run; see `personalize`."""
    out, watch, device = run.folder, Stopwatch(command_begun()), recipe_device(recipe)
    earlier = float(read_record(out).get("track_seconds", 0.0)) if resume else 0.0
    run.note(**source_facts(video), **named_network_facts(recipe), recipe_sha256=fingerprint(recipe), track_seconds=str(earlier))
    if not (resume and (out / "config.yaml").is_file()):  # before anything is computed by it
        write_atomic(out / "config.yaml", config_text(recipe))
    watch.end("start")
    show_first_picture(video, run, recipe, watch)
    sequence = track_or_load(video, run, "track", recipe.track, watch, resume=resume, device=device)
    seconds = {"track": earlier + watch.seconds}
    provenance = run.note(tracked=str(run.place(sequence.folder).resolve()), track_seconds=f"{seconds['track']:.2f}")
    with overlay_in_background(sequence) if not video.is_dir() else nullcontext():
        learned = learn(sequence.train_part(), recipe, out, resume=resume, watch=watch)
    watch.end("overlay")
    avatar, subject = learned.avatar, subject_of(sequence, learned.avatar)
    teaching = {"teacher": learned.teacher_seconds} if learned.teacher_seconds else {}
    seconds |= {"personalize": learned.seconds + learned.teacher_seconds, **teaching}
    earlier = max(0.0, seconds["track"] + seconds["personalize"] - watch.seconds)
    save_avatar(avatar, out / "avatar.safetensors", provenance, subject)
    watch.end("save avatar")
    seconds["avatar"] = earlier + watch.seconds
    speed = asdict(measure_speed(SPEED_SECONDS))
    watch.end("measure machine")
    facts = RunFacts(
        video=sequence.info.source,
        frames=len(sequence),
        resolution=sequence.info.resolution,
        device=device_name(device),
        path=recipe.path,
        parameters=sum(parameter.numel() for parameter in avatar.parameters()),
        gaussians=avatar.num_gaussians if isinstance(avatar, GaussianAvatar) else None,
        seconds=_round(seconds),
        stages=_round(watch.stages),
        speed=speed,
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        config=asdict(recipe),
        commit=provenance["commit"],
    )
    write_result(out / METRICS_FILE, facts)
    metrics = evaluate_run(out, device=device)
    log_hparams(out, recipe, metrics["test"])
    watch.end("evaluate")
    write_json(out / METRICS_FILE, metrics | {"stages": _round(watch.stages)})
    show_avatar(avatar, subject, sequence, out, device)
    watch.end("show")
    metrics |= {"seconds": _round(seconds | {"total": earlier + watch.seconds}), "stages": _round(watch.stages)}
    write_json(out / METRICS_FILE, metrics)
    print(summary(metrics, run.out))


def overlay_in_background(sequence: TrackedSequence) -> AbstractContextManager[None]:
    """Write the overlay of a video tracked by this run while the block runs, unless an earlier attempt has written it."""
    path = sequence.folder / OVERLAY
    if path.is_file():
        return nullcontext()
    return run_in_background(partial(write_overlay, load_head(sequence.info.head_name), sequence, path))


def show_avatar(avatar: Avatar, subject: Subject, sequence: TrackedSequence, out: Path, device: torch.device) -> None:
    """Write the pictures of a run: the comparison with held-out frames, the turntable, the report."""
    write_png(out / "compare.png", comparison_sheet(sequence, avatar))
    show(avatar, subject, out / "turntable.mp4")
    write_report(out, device=device)


def _round(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


def learn(
    sequence: TrackedSequence,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    teacher: Avatar | None = None,
    on_step: Callable[[Avatar, int], None] | None = None,
    watch: Stopwatch | None = None,
) -> TrainResult:
    """Initialize and train the avatar of the recipe's path.

    Args:
        sequence: training frames.
        recipe: what to compute.
        out: run folder; a light field's teacher is trained in its folder `teacher`, or read from there.
        resume: continue an interrupted run.
        teacher: of a light field, if there is one already.
        on_step: called after every step with the avatar and the number of steps done.
        watch: gets the seconds of every stage.
    """
    device, begun, spent, watch = recipe_device(recipe), time.monotonic(), 0.0, watch or Stopwatch()
    if recipe.path == "gaussian":
        config = recipe.gaussian
        gaussian = init_avatar(sequence, config)
        watch.end("begin avatar")
        watched = None if on_step is None else partial(on_step, gaussian)
        seconds = train_gaussian(gaussian, sequence, config, out, device=device, resume=resume, started=begun, on_step=watched, watch=watch)
        return TrainResult(gaussian, seconds)
    if recipe.path == "nerf":
        nerf = init_nerf(sequence, recipe.nerf)
        watched = None if on_step is None else partial(on_step, nerf)
        seconds = train_nerf(nerf, sequence, recipe.nerf, out, device=device, resume=resume, started=begun, on_step=watched)
        watch.end("train")
        return TrainResult(nerf, seconds)
    if teacher is None and recipe.nelf.teacher != "none" and recipe.nelf.pseudo_share:
        teacher, spent = learn_teacher(sequence, teacher_recipe(recipe, recipe.nelf.teacher), out / "teacher", resume=resume)
        watch.end("teacher")
        begun = time.monotonic()
    nelf = init_nelf(sequence, recipe.nelf)
    watched = None if on_step is None else partial(on_step, nelf)
    seconds, warp = train_nelf(nelf, sequence, recipe.nelf, teacher, out, device=device, resume=resume, started=begun, on_step=watched)
    watch.end("train")
    return TrainResult(nelf, seconds, spent, 0 if warp is None else sum(parameter.numel() for parameter in warp.parameters()))


def teacher_recipe(recipe: Recipe, path: Literal["gaussian", "nerf"]) -> Recipe:
    """The recipe of a light field's teacher, which shows only the head, as the light field does."""
    return replace(recipe, path=path, gaussian=replace(recipe.gaussian, crop="head"))


def learn_teacher(sequence: TrackedSequence, recipe: Recipe, folder: Path, *, resume: bool) -> tuple[Avatar, float]:
    """The teacher of a light field, trained or loaded, and the seconds that its training took."""
    path = folder / "avatar.safetensors"
    if not (resume and path.is_file()):
        save_avatar(learn(sequence, recipe, folder, resume=resume).avatar, path, {"role": "teacher"})
    return load_avatar(path), spent_seconds(folder / CHECKPOINT)


def show_first_picture(video: Path, run: Run, recipe: Recipe, watch: Stopwatch) -> None:
    """Show a first picture of the avatar, unless its video is tracked already."""
    if recipe.path != "gaussian" or video.is_dir() or (run.folder / "track" / "track.json").is_file():
        return
    if (first := write_first_picture(video, run.folder, recipe)) is not None:
        print(f"first picture, {watch.seconds:.0f} s after the start: {run.place(first)}; it gets better while training goes on")
    watch.end("first picture")


def track_or_load(
    video: Path, run: Run, name: str, config: TrackConfig, watch: Stopwatch | None = None, *, resume: bool, device: torch.device
) -> TrackedSequence:
    """Load the tracked sequence of a run from its folder `name`, or track the video into it; the overlay is left out."""
    if video.is_dir():
        return TrackedSequence.load(video)
    folder = run.folder / name
    if resume and (folder / "track.json").is_file():
        return TrackedSequence.load(folder)
    run.clear(name)
    return track_video(video, folder, config, watch, device)
