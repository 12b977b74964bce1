"""The first five minutes: a video, an avatar of it, and the avatar driven by somebody else's motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deja_vu.pipelines.drive import drive_video
from deja_vu.pipelines.person import load
from deja_vu.pipelines.personalize import make_avatar, network, recipe_device
from deja_vu.pipelines.recipes import Recipe
from deja_vu.pipelines.run_folder import Run, find_track, open_run
from deja_vu.pipelines.sample import write_sample
from deja_vu.tracking import track_video

SUBJECT_FRAMES = 200
MOTION_FRAMES = 75
MOTION_SEED = 5
"""Seed of another synthetic person, whose motion drives the avatar."""


def demo(out: Path, video: Path | None, recipe: Recipe, *, overwrite: bool, read: Sequence[Path] = ()) -> None:
    """Personalize a video and drive the result.

    Args:
        out: run folder; the sample videos lie in its folder samples.
        video: the user's own video; None makes a sample person's.
        recipe: what to compute.
        overwrite: replace the run that the folder holds, once the new one is whole.
        read: further files that the command reads.

    Raises:
        OutputError: `out` holds what no run wrote, or a run and the flag is missing; it is in use, or cannot be written.
    """
    if video is not None and video.is_dir():
        video = find_track(video)
    inputs = [*([video] if video else []), *read, *network(recipe)]
    with open_run(out, "demo", inputs=inputs, overwrite=overwrite) as run:
        show_everything(run, video, recipe)
    print(f"Done. Look at {out / 'compare.png'}, {out / 'turntable.mp4'} and {out / 'driven.mp4'}; curves: tensorboard --logdir {out}")


def show_everything(run: Run, video: Path | None, recipe: Recipe) -> None:
    """Fill an open run; see `demo`."""
    out = run.folder
    samples = out / "samples"
    run.note()
    if video is None:
        video = samples / "subject.mp4"
        print(f"Making a sample person's video: {run.place(video)}")
        write_sample(video, SUBJECT_FRAMES)
    make_avatar(video, run, recipe, resume=False)
    motion = samples / "motion.mp4"
    print(f"Making another person's motion: {run.place(motion)}")
    write_sample(motion, MOTION_FRAMES, seed=MOTION_SEED)
    person = load(out, recipe_device(recipe))
    drive_video(person.avatar, person.subject, track_video(motion, samples / "motion", recipe.track), out / "driven.mp4")
