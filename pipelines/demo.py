"""The first five minutes: a video, an avatar made from it, and the avatar driven by somebody else's motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deja_vu.pipelines.configs import TRUTH_SUFFIX
from deja_vu.pipelines.drive import drive_video
from deja_vu.pipelines.evaluate import next_steps
from deja_vu.pipelines.identity import refuse_other_start
from deja_vu.pipelines.own_files import read_record
from deja_vu.pipelines.person import load
from deja_vu.pipelines.personalize import make_avatar, network, recipe_device, track_or_load
from deja_vu.pipelines.recipes import Recipe
from deja_vu.pipelines.run_folder import Run, find_track, open_run
from deja_vu.pipelines.sample import write_sample

SUBJECT_FRAMES = 200
MOTION_FRAMES = 75
MOTION_SEED = 5
"""Seed of another synthetic person, whose motion drives the avatar."""


def demo(out: Path, video: Path | None, recipe: Recipe, *, resume: bool, overwrite: bool, read: Sequence[Path] = ()) -> None:
    """Personalize a video and drive the result.

    Args:
        out: run folder; the sample videos lie in its folder samples.
        video: the user's own video; None makes a sample person's.
        recipe: what to compute.
        resume: continue an interrupted run.
        overwrite: replace the run that the folder holds, once the new one is whole.
        read: further files that the command reads.

    Raises:
        OutputError: `out` holds what no run wrote, or a run and neither flag is given; it is in use, or cannot be written.
        ConfigError: the run to resume was started with another recipe.
        InputError: it was started with another video.
    """
    if video is not None and video.is_dir():
        video = find_track(video)
    inputs = [*([video] if video else []), *read, *network(recipe)]
    with open_run(out, "demo", inputs=inputs, resume=resume, overwrite=overwrite) as run:
        show_everything(run, video, recipe, resume=resume)
    curves = f"tensorboard --logdir {out}" if any(out.glob("events.out.tfevents.*")) else str(out / "report.html")
    print(f"Done. Look at {out / 'compare.png'}, {out / 'turntable.mp4'} and {out / 'driven.mp4'}; curves: {curves}")
    print(next_steps(out, page=recipe.path == "gaussian"))


def show_everything(run: Run, video: Path | None, recipe: Recipe, *, resume: bool) -> None:
    """Fill an open run; see `demo`."""
    samples, motion = run.folder / "samples", run.folder / "samples" / "motion.mp4"
    if not resume:
        run.note()
    if video is None:
        video = samples / "subject.mp4"
        make_sample(run, video, "a sample person's video", SUBJECT_FRAMES)
    if "source_sha256" in read_record(run.folder):  # else nothing was made of it yet
        refuse_other_start(run.folder, video, recipe)
    make_avatar(video, run, recipe, resume=resume)
    make_sample(run, motion, "another person's motion", MOTION_FRAMES, MOTION_SEED)
    device = recipe_device(recipe)
    person = load(run.folder, device)
    acted = track_or_load(motion, run, "samples/motion", recipe.track, resume=resume, device=device)
    drive_video(person.avatar, person.subject, acted, run.folder / "driven.mp4")


def make_sample(run: Run, path: Path, what: str, frames: int, seed: int = 2) -> None:
    """Write a sample video, unless the run holds it already."""
    if not path.is_file() or not path.with_suffix(TRUTH_SUFFIX).is_file():
        print(f"Making {what}: {run.place(path)}")
        write_sample(path, frames, seed=seed)
