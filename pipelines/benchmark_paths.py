"""Every path on one tracked clip, by one protocol: one JSON per run, and a report made from these alone.

Frozen before the first run: the tracked clip (its hash goes into every JSON) and its split. At test time a path gets the tracked
parameters and the camera of a frame, nothing else.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from deja_vu.avatars import load_avatar, save_avatar
from deja_vu.bench.curve import Curve
from deja_vu.bench.evaluate import Scores, gain, means
from deja_vu.bench.measure import assess, bundle_hash, measure, origin, peak_mb, recorded_means
from deja_vu.bench.predictors import BASELINES, Predictor, avatar_predictor, baseline_predictors
from deja_vu.bench.results import RESULT_FILE, PathResult, TrainingCost, write_result
from deja_vu.bench.unseen import follow_drivers, render_unseen
from deja_vu.core.documents import read_json
from deja_vu.core.errors import DejaVuError, InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.motion.retarget import refuse_other_head
from deja_vu.pipelines.personalize import TrainResult, learn, recipe_device
from deja_vu.pipelines.recipes import Recipe, shipped_recipe, sizes_name
from deja_vu.pipelines.run_folder import open_run
from deja_vu.tracking.detector import LandmarkDetector

MIN_FRAMES = 3
"""Fewest training frames, and fewest test frames."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One path to be trained and measured; picklable, since it is carried out in a process of its own."""

    clip: str
    """Name."""
    name: str
    """Of `path_recipes`."""
    track: Path
    """Tracked folder."""
    recipe: Recipe
    out: Path
    """Folder to fill."""
    clip_folder: Path
    """Holds the results of the clip's baselines."""
    teacher: Path | None
    """Run folder of a finished path that teaches this one."""
    drivers: tuple[Path, ...]
    """Tracked folders of other people whose motion the avatar follows."""
    seconds: float
    """For each measurement of latency."""
    sizes: str
    """Name of the shipped recipe whose sizes these are."""


def path_recipes(recipe: Recipe) -> dict[str, Callable[[], Recipe]]:
    """What can be compared, by name."""
    nelf = recipe.nelf
    return {
        "gaussian": lambda: replace(recipe, path="gaussian"),
        "gaussian-paper": lambda: replace(recipe, path="gaussian", gaussian=shipped_recipe(paper_name(recipe)).gaussian),
        "nerf": lambda: replace(recipe, path="nerf"),
        "nelf": lambda: replace(recipe, path="nelf"),
        "nelf-real": lambda: replace(recipe, path="nelf", nelf=replace(nelf, pseudo_share=0.0, teacher="none")),
        "nelf-pseudo": lambda: replace(recipe, path="nelf", nelf=replace(nelf, pseudo_share=1.0)),
    }


def paper_name(recipe: Recipe) -> str:
    """The shipped recipe of the published method that the recipe's device can train: whole, or on a CPU shortened."""
    return "paper" if recipe_device(recipe).type == "cuda" else "paper-cpu"


def benchmark_paths(
    clip: str,
    track: Path,
    names: Sequence[str],
    out: Path,
    recipe: Recipe,
    *,
    others: Sequence[Predictor] = (),
    drivers: Sequence[Path] = (),
    reuse: bool,
    overwrite: bool = False,
    isolate: bool = True,
    seconds: float = 3.0,
) -> None:
    """Run some paths on one tracked clip; each leaves its JSON and pictures in a folder of its own.

    Args:
        clip: name.
        track: tracked folder.
        names: of `path_recipes`; Gaussians first if they are to teach the light field.
        out: folder of the clip.
        recipe: of all paths.
        others: rendered videos of other systems.
        drivers: tracked folders whose motion the avatars follow.
        reuse: keep results that are there already, and make those anew that are not whole.
        overwrite: replace results that are there already.
        isolate: a process for each path, so that its peak memory is its own.
        seconds: for each latency measurement.

    Raises:
        InputError: an unknown path, a clip that is too short, results of another clip in the way, or a driver with another head.
        OutputError: results are there already, and neither flag is given.
    """
    known = path_recipes(recipe)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"There is no path '{unknown[0]}'. Known: {', '.join(known)}.")
    sequence = TrackedSequence.load(track)
    refuse_short(sequence)
    refuse_stale(sequence, out, [] if reuse else [*names, *BASELINES, *(predictor.name for predictor in others)])
    head = shared_head(sequence, drivers)
    assess_untrained(clip, sequence, head, out, others, reuse=reuse, overwrite=overwrite)
    carry_out: Callable[[Job], None] = partial(in_own_process, run_path) if isolate else run_path
    for name in [name for name in names if not (reuse and (out / name / RESULT_FILE).is_file())]:
        chosen = known[name]()
        with open_run(out / name, "benchmark path", inputs=[track, *drivers], overwrite=overwrite or reuse) as run:
            run.note()
            job = Job(
                clip=clip,
                name=name,
                track=track,
                recipe=chosen,
                out=run.folder,
                clip_folder=out,
                teacher=finished_teacher(chosen, out),
                drivers=tuple(drivers),
                seconds=seconds,
                sizes=sizes_name(recipe),
            )
            carry_out(job)


def shared_head(sequence: TrackedSequence, drivers: Sequence[Path]) -> HeadModel:
    """Head of the clip, with which its drivers were tracked too.

    Raises:
        InputError: a driver has another head.
    """
    head = load_head(sequence.info.head_name)
    for driver in drivers:
        refuse_other_head(TrackedSequence.load(driver).info.head_name, head)
    return head


def finished_teacher(recipe: Recipe, clip_folder: Path) -> Path | None:
    """Run folder of the path that teaches this one, where the clip's folder holds its result; None where nothing teaches or is there."""
    kind = recipe.nelf.teacher if recipe.path == "nelf" and recipe.nelf.pseudo_share else "none"
    return clip_folder / kind if (clip_folder / kind / RESULT_FILE).is_file() else None


def refuse_short(sequence: TrackedSequence) -> None:
    """Refuse a clip that cannot be split.

    Raises:
        InputError: fewer than `MIN_FRAMES` for training or for the test.
    """
    test = int(sequence.test.sum())
    if test < MIN_FRAMES or len(sequence) - test < MIN_FRAMES:
        raise InputError(
            f"{sequence.folder} has {len(sequence) - test} training and {test} test frames. Expected at least {MIN_FRAMES} of each: "
            "film a longer clip, or track it again with another --split."
        )


def refuse_stale(sequence: TrackedSequence, out: Path, renewed: Sequence[str]) -> None:
    """Refuse to put results of two tracked videos into one table.

    Args:
        sequence: the clip.
        out: its folder.
        renewed: results that will be made again.

    Raises:
        InputError: another result there comes from other frames, masks or parameters.
    """
    bundle = bundle_hash(sequence)
    found = {path.parent.name: read_json(path).get("bundle_sha256") for path in out.glob(f"*/{RESULT_FILE}")}
    stale = sorted(name for name, theirs in found.items() if theirs != bundle and name not in renewed)
    if stale:
        raise InputError(f"{out} holds results of another tracked video: {', '.join(stale)}. Remove them, or choose another --out.")


def in_own_process(run: Callable[[Any], None], argument: object) -> None:
    """Call a function in a fresh process, and pass on a mistake of the user's.

    Raises:
        DejaVuError: the function raised it, or the process died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_carry_out, args=(run, argument, sender))
    child.start()
    sender.close()
    try:
        error = receiver.recv()
    except EOFError:
        error = DejaVuError("A run of the benchmark was killed, perhaps for want of memory.")
    child.join()
    if error is not None:
        raise error


def _carry_out(run: Callable[[Any], None], argument: object, sender: Any) -> None:
    try:
        run(argument)
    except DejaVuError as error:
        sender.send(error)
    else:
        sender.send(None)


def run_path(job: Job) -> None:
    """Train one path, score it, time it, and write all of it down."""
    sequence = TrackedSequence.load(job.track)
    teacher = None if job.teacher is None else load_avatar(job.teacher / "avatar.safetensors")
    head_start = 0.0 if job.teacher is None else trained_seconds(job.teacher)
    device = recipe_device(job.recipe)
    before = peak_mb(device)
    curve = Curve(sequence, head_start, device)
    learned = learn(sequence.train_part(), job.recipe, job.out, resume=False, teacher=teacher, on_step=curve)
    spent, cpu_spent, peak = curve.seconds(), curve.cpu_seconds(), peak_mb(device) - before
    avatar = learned.avatar.eval()
    curve.score(avatar)
    path = job.out / "avatar.safetensors"
    facts = origin(job.clip, job.name, sequence, device)
    save_avatar(avatar, path, {"commit": facts["commit"]})
    train = TrainingCost(
        seconds=round(spent - learned.teacher_seconds, 1),
        teacher_seconds=round(head_start + learned.teacher_seconds, 1),
        cpu_seconds=round(cpu_spent, 1),
        peak_mb=round(peak),
        curve=curve.points,
        pseudo_images=pseudo_images(job.recipe),
    )
    assessed = assess(sequence, avatar_predictor(job.name, avatar), avatar.host_head, job.out, job.clip_folder, device)
    pictures = assessed.pictures | {"sweep": {"frames": render_unseen(avatar, sequence, job.out)}}
    driven = None
    if job.drivers:
        with LandmarkDetector() as detector:
            followed = follow_drivers(avatar, sequence, job.drivers, job.out, partial(score_expression, detector))
        pictures["driven"], driven = followed.pictures, followed.scores
    result = PathResult(
        **facts,
        quality=assessed.quality,
        delta_vs=assessed.delta_vs,
        pictures=pictures,
        kind=job.recipe.path,
        sizes=job.sizes,
        train=train,
        config=asdict(job.recipe),
        delta_vs_teacher=teacher_gap(job, sequence, learned, assessed.quality),
        driven=driven,
        **measure(avatar, sequence, path, auxiliary=learned.auxiliary, seconds=job.seconds),
    )
    write_result(job.out / RESULT_FILE, result)


def score_expression(detector: LandmarkDetector, picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "52"] | None:
    """Expression scores of the face in a picture; None where none is found."""
    face = detector.detect(picture)
    return None if face is None else face.blendshapes


def teacher_gap(job: Job, sequence: TrackedSequence, learned: TrainResult, quality: Scores) -> dict[str, Any] | None:
    """What a light field gained over its teacher on the same frames (less than zero where the teacher is better)."""
    if job.teacher is not None:
        theirs = recorded_means(job.teacher / RESULT_FILE)
    elif learned.teacher_seconds:
        own = job.out / "teacher"
        teacher = load_avatar(own / "avatar.safetensors")
        theirs = means(assess(sequence, avatar_predictor("teacher", teacher), teacher.head, own, own).quality)
    else:
        return None
    return {"path": job.recipe.nelf.teacher, **gain(means(quality), theirs)}


def assess_untrained(
    clip: str, sequence: TrackedSequence, head: HeadModel, out: Path, others: Sequence[Predictor], *, reuse: bool, overwrite: bool
) -> None:
    """Rows that nothing is trained for: the mean image, the nearest training frame, and other systems' rendered videos."""
    missing = [name for name in BASELINES if not (reuse and (out / name / RESULT_FILE).is_file())]
    baselines = baseline_predictors(sequence.train_part()) if missing else []
    for predictor in [*baselines, *others]:
        folder = out / predictor.name
        if reuse and (folder / RESULT_FILE).is_file():
            continue
        with open_run(folder, "benchmark path", inputs=[sequence.folder], overwrite=overwrite or reuse) as run:
            run.note()
            assessed = assess(sequence, predictor, head, run.folder, out)
            facts = origin(clip, predictor.name, sequence)
            result = PathResult(**facts, quality=assessed.quality, delta_vs=assessed.delta_vs, pictures=assessed.pictures)
            write_result(run.folder / RESULT_FILE, result)


def pseudo_images(recipe: Recipe) -> int:
    """Frames that a teacher is expected to draw."""
    if recipe.path != "nelf":
        return 0
    return round(recipe.nelf.pseudo_share * sum(phase.steps * phase.batch for phase in recipe.nelf.phases))


def trained_seconds(run: Path) -> float:
    """Training time of a finished run, its teacher's included."""
    train = read_json(run / RESULT_FILE)["train"]
    return train["seconds"] + train["teacher_seconds"]
