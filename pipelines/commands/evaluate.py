"""`deja-vu evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from deja_vu.core.ranges import Positive
from deja_vu.pipelines.command import Command
from deja_vu.pipelines.own_files import claim
from deja_vu.pipelines.requests import refuse_device
from deja_vu.pipelines.run_folder import find_avatar


def evaluate_command(
    run: Path,
    *,
    frames: Positive | Literal["all"] = 8,
    json: Path | None = None,
    save_frames: Path | None = None,
    truth: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> None:
    """Score an avatar on its held-out frames.

    Args:
        run: run folder of `deja-vu personalize`; of `reconstruct`, where the photo itself is scored.
        frames: how many held-out frames are scored, evenly spread, or all.
        json: file for the metrics; they are printed in any case.
        save_frames: folder for render_, target_, head_ and person_ PNGs of every scored frame, and frames.json.
        truth: file next to the video of `deja-vu sample` that the avatar was learned from; with it, the avatar is scored from all sides
            too (`around`, by the angle that the camera has gone round the head), and --save-frames gets around.png.
        overwrite: replace the file, and the frames of an earlier evaluation, that the other flags name.
        device: where to compute: auto (CUDA if it works, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
    """
    find_avatar(run)
    if json is not None:
        claim(json, overwrite=overwrite, suffix=".json")
    refuse_device(device)
    from deja_vu.pipelines.evaluate import score_run

    score_run(run, json, save_frames, truth=truth, frames=frames, overwrite=overwrite, device=device)


COMMAND = Command(run=evaluate_command, example="deja-vu evaluate runs/me")
