"""The first five minutes: a video, an avatar of it, and the avatar driven by somebody else's motion."""

from __future__ import annotations

from pathlib import Path

from deja_vu.avatars import load_avatar
from deja_vu.core.sequence import TrackedSequence
from deja_vu.pipelines.drive import drive_video
from deja_vu.pipelines.personalize import Recipe, personalize
from deja_vu.pipelines.runs import find_avatar, find_track
from deja_vu.pipelines.sample import write_sample
from deja_vu.pipelines.track import track

SUBJECT_FRAMES, MOTION_FRAMES = 200, 75
MOTION_SEED = 5
"""Another made-up person, whose motion drives the avatar."""


def demo(out: Path, video: Path | None, recipe: Recipe) -> None:
    """Personalize a video and drive the result.

    Args:
        out: run folder; an earlier demo in it is replaced.
        video: the user's own video; None makes a sample person's.
        recipe: what to compute.
    """
    samples = out.with_name(f"{out.name}_samples")
    if video is None:
        video = samples / "subject.mp4"
        print(f"Making a sample person's video: {video}")
        write_sample(video, SUBJECT_FRAMES)
    personalize(video, out, recipe, resume=False, overwrite=out.exists())
    motion = samples / "motion.mp4"
    print(f"Making another person's motion: {motion}")
    write_sample(motion, MOTION_FRAMES, seed=MOTION_SEED)
    subject = TrackedSequence.load(find_track(out))
    drive_video(load_avatar(find_avatar(out)), subject, track(motion, samples / "motion", recipe.track), out / "driven.mp4")
    print(f"Done. Look at {out / 'compare.png'}, {out / 'turntable.mp4'} and {out / 'driven.mp4'}; curves: tensorboard --logdir {out}")
