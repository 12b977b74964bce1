"""`deja-vu drive`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import DriveConfig
from deja_vu.pipelines.requests import WEBCAM, refuse_absent_motion, refuse_device, refuse_output
from deja_vu.pipelines.run_folder import find_avatar


def drive_command(
    run: Path,
    *,
    motion: str,
    out: Path = Path("driven.mp4"),
    overwrite: bool = False,
    device: str = "auto",
    config: DriveConfig = DriveConfig(),
) -> None:
    """Animate an avatar with somebody's motion.

    Args:
        run: run folder of `deja-vu personalize`.
        motion: a video, a folder that `deja-vu track` or `personalize` made, an ARKit capture (.csv), an expression script (.yaml), or
            webcam:0.
        out: .mp4, .webm (transparent), a folder for transparent pictures, or virtual-camera.
        overwrite: replace the video, or the pictures of an earlier drive, that `out` names.
        device: where to compute: auto (CUDA if it works, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
        config: how the motion is retargeted and shown.
    """
    read = [find_avatar(run), *([] if WEBCAM.fullmatch(motion) else [Path(motion)])]
    refuse_absent_motion(motion)
    refuse_output(out, read, overwrite=overwrite)
    refuse_device(device)
    from deja_vu.pipelines.drive import drive_run

    drive_run(run, motion, out, config, overwrite=overwrite, device=device)


COMMAND = Command(run=drive_command, example="deja-vu drive runs/me --motion talking.mp4 --out driven.mp4")
