"""`deja-vu view`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.requests import refuse_absent_motion, refuse_device
from deja_vu.pipelines.run_folder import find_avatar
from deja_vu.viewer.config import ViewerConfig


def view_command(
    runs: tuple[Path, ...], *, motion: tuple[str, ...] = (), device: str = "auto", config: ViewerConfig = ViewerConfig()
) -> None:
    """Look at avatars in the browser: turn them, move their faces, play motions. Ctrl-C ends it.

    Args:
        runs: run folders of `deja-vu personalize`; several stand side by side.
        motion: further motions to choose from: videos, tracked folders, .csv captures, .yaml scripts.
        device: where to compute: auto (CUDA if it works, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
        config: where the page is.
    """
    for run in runs:
        find_avatar(run)
    for text in motion:
        refuse_absent_motion(text)
    refuse_device(device)
    from deja_vu.pipelines.view import view

    view(runs, motion, config, device=device)


COMMAND = Command(run=view_command, example="deja-vu view runs/me")
