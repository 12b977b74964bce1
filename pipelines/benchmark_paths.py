"""Every path on one tracked clip, by one protocol: one JSON a run, and a report made from these alone.

Frozen before the first run: the tracked clip (its hash goes into every JSON) and its split. At test time a path gets the tracked
parameters and the camera of a frame, nothing else.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deja_vu.avatars import load_avatar, save_avatar
from deja_vu.bench.quality import gain
from deja_vu.core.errors import DejaVuError, InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.io.files import write_json
from deja_vu.motion.retarget import refuse_other_head
from deja_vu.pipelines.benchmark_measure import (
    Curve,
    Plan,
    assess,
    bundle_hash,
    costs,
    header,
    peak_mb,
)
from deja_vu.pipelines.benchmark_unseen import driven, swept
from deja_vu.pipelines.evaluate import Method, avatar_method, baseline_methods
from deja_vu.pipelines.personalize import Recipe, learn
from deja_vu.pipelines.phases import Learned
from deja_vu.pipelines.provenance import commit
from deja_vu.pipelines.recipes import shipped_recipe, sizes_name
from deja_vu.pipelines.run_folder import open_run
from deja_vu.report.bench_report import RESULT, TRIVIAL

MIN_FRAMES = 3
"""Fewest training frames, and fewest test frames."""


def path_recipes(recipe: Recipe) -> dict[str, Callable[[], Recipe]]:
    """What can be compared, by name."""
    nelf = recipe.nelf
    return {
        "gaussian": lambda: replace(recipe, path="gaussian"),
        "gaussian-paper": lambda: replace(recipe, path="gaussian", personalize=shipped_recipe("paper").personalize),
        "nerf": lambda: replace(recipe, path="nerf"),
        "nelf": lambda: replace(recipe, path="nelf"),
        "nelf-real": lambda: replace(recipe, path="nelf", nelf=replace(nelf, pseudo_share=0.0, teacher="none")),
        "nelf-pseudo": lambda: replace(recipe, path="nelf", nelf=replace(nelf, pseudo_share=1.0)),
    }


def benchmark_paths(
    clip: str,
    track: Path,
    names: Sequence[str],
    out: Path,
    recipe: Recipe,
    *,
    others: Sequence[Method] = (),
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
        reuse: keep results that are there already.
        overwrite: replace results that are there already.
        isolate: a process for each path, so that its peak memory is its own.
        seconds: for each latency measurement.

    Raises:
        InputError: an unknown path, a clip that is too short, results of another clip in the way, or a driver with another head.
        OutputError: results are there already, and neither flag is given.
    """
    known = path_recipes(recipe)
    for name in names:
        if name not in known:
            raise InputError(f"There is no path '{name}'. Known: {', '.join(known)}.")
    sequence = TrackedSequence.load(track)
    refuse_short(sequence)
    refuse_stale(sequence, out, [] if reuse else [*names, *TRIVIAL, *(method.name for method in others)])
    for driver in drivers:
        refuse_other_head(TrackedSequence.load(driver).info.head_name, load_head(sequence.info.head_name))
    trivial(clip, sequence, out, others, reuse=reuse, overwrite=overwrite)
    for name in names:
        folder = out / name
        if reuse and (folder / RESULT).is_file():
            continue
        chosen = known[name]()
        kind = chosen.nelf.teacher if chosen.path == "nelf" and chosen.nelf.pseudo_share else "none"
        taught = out / kind if (out / kind / RESULT).is_file() else None
        with open_run(folder, "benchmark path", inputs=[track, *drivers], overwrite=overwrite) as run:
            run.note()
            plan = Plan(clip, name, track, chosen, run.folder, out, taught, tuple(drivers), seconds, sizes_name(recipe))
            if isolate:
                in_own_process(run_path, plan)
            else:
                run_path(plan)


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
    found = {path.parent.name: json.loads(path.read_text()).get("bundle_sha256") for path in out.glob(f"*/{RESULT}")}
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
    child = context.Process(target=_carried_out, args=(run, argument, sender))
    child.start()
    sender.close()
    try:
        error = receiver.recv()
    except EOFError:
        error = DejaVuError("A run of the benchmark was killed, perhaps for want of memory.")
    child.join()
    if error is not None:
        raise error


def _carried_out(run: Callable[[Any], None], argument: object, sender: Any) -> None:
    try:
        run(argument)
    except DejaVuError as error:
        sender.send(error)
    else:
        sender.send(None)


def run_path(plan: Plan) -> None:
    """Train one path, score it, time it, and write all of it down."""
    sequence = TrackedSequence.load(plan.track)
    teacher = None if plan.teacher is None else load_avatar(plan.teacher / "avatar.safetensors")
    head_start = 0.0 if plan.teacher is None else trained_seconds(plan.teacher)
    before = peak_mb()
    curve = Curve(sequence, head_start)
    learned = learn(sequence.train_part(), plan.recipe, plan.out, resume=False, teacher=teacher, observe=curve)
    spent, cpu_spent, peak = curve.seconds(), curve.cpu_seconds(), peak_mb() - before
    avatar = learned.avatar.eval()
    curve.note(avatar)
    path = plan.out / "avatar.safetensors"
    save_avatar(avatar, path, {"commit": commit()})
    train = {
        "seconds": round(spent - learned.teacher_seconds, 1),
        "teacher_seconds": round(head_start + learned.teacher_seconds, 1),
        "cpu_seconds": round(cpu_spent, 1),
        "peak_mb": round(peak),
        "curve": curve.points,
        "pseudo_images": pseudo_images(plan.recipe),
    }
    result = header(plan.clip, plan.name, sequence) | {"kind": plan.recipe.path, "sizes": plan.sizes, "train": train}
    result |= {"config": asdict(plan.recipe)} | assess(sequence, avatar_method(plan.name, avatar), plan.out, plan.clip_folder)
    result |= teacher_gap(plan, sequence, learned, result["quality"])
    result |= costs(plan, sequence, learned, path)
    result["pictures"]["sweep"] = {"frames": swept(avatar, sequence, plan.out)}
    if plan.drivers:
        shown = driven(avatar, sequence, plan.drivers, plan.out)
        result["pictures"]["driven"], result["driven"] = shown["pictures"], shown["scores"]
    write_json(plan.out / RESULT, result)


def teacher_gap(plan: Plan, sequence: TrackedSequence, learned: Learned, quality: dict[str, Any]) -> dict[str, Any]:
    """What a light field gained over its teacher on the same frames (less than zero where the teacher is better)."""
    if plan.teacher is not None:
        theirs = json.loads((plan.teacher / RESULT).read_text())["quality"]
    elif learned.teacher_seconds:
        own = plan.out / "teacher"
        theirs = assess(sequence, avatar_method("teacher", load_avatar(own / "avatar.safetensors")), own, own)["quality"]
    else:
        return {}
    return {"delta_vs_teacher": {"path": plan.recipe.nelf.teacher, **gain(quality, theirs)}}


def trivial(clip: str, sequence: TrackedSequence, out: Path, others: Sequence[Method], *, reuse: bool, overwrite: bool) -> None:
    """Rows that nothing is trained for: the mean image, the nearest training frame, and other systems' rendered videos."""
    missing = [name for name in TRIVIAL if not (reuse and (out / name / RESULT).is_file())]
    baselines = baseline_methods(sequence.train_part()) if missing else []
    for method in [*baselines, *others]:
        folder = out / method.name
        if reuse and (folder / RESULT).is_file():
            continue
        with open_run(folder, "benchmark path", inputs=[sequence.folder], overwrite=overwrite) as run:
            run.note()
            result = header(clip, method.name, sequence) | assess(sequence, method, run.folder, out)
            write_json(run.folder / RESULT, result)


def pseudo_images(recipe: Recipe) -> int:
    """Frames that a teacher is expected to draw."""
    if recipe.path != "nelf":
        return 0
    return round(recipe.nelf.pseudo_share * sum(phase.steps * phase.batch for phase in recipe.nelf.phases))


def trained_seconds(run: Path) -> float:
    """Training time of a finished run, its teacher's included."""
    train = json.loads((run / RESULT).read_text())["train"]
    return train["seconds"] + train["teacher_seconds"]
