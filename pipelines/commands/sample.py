"""`deja-vu sample`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.core.ranges import Frames
from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import TRUTH_SUFFIX
from deja_vu.pipelines.own_files import hold_output


def sample_command(out: Path, *, frames: Frames = 150, close: bool = False, overwrite: bool = False) -> None:
    """Write a video of a synthetic person, with its exact ground truth.

    Args:
        out: .mp4 file to write.
        frames: length of the video at 25 frames a second.
        close: let the head fill the picture, in front of a beige wall.
        overwrite: replace the video and the truth next to it if they exist.
    """
    truth = out.with_suffix(TRUTH_SUFFIX)
    with hold_output(out, overwrite=overwrite, suffix=".mp4"), hold_output(truth, overwrite=overwrite):
        from deja_vu.pipelines.sample import write_sample

        write_sample(out, frames, close=close)


COMMAND = Command(run=sample_command, example="deja-vu sample sample.mp4")
