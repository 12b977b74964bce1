"""Track a video into a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deja_vu.heads import load_head
from deja_vu.pipelines.identity import source_facts
from deja_vu.pipelines.run_folder import open_run
from deja_vu.tracking.config import TrackConfig
from deja_vu.tracking.overlay import OVERLAY, write_overlay
from deja_vu.tracking.tracker import track_video
from deja_vu.training.checkpoint import fingerprint
from deja_vu.training.devices import pick_device


def track_into(video: Path, out: Path, config: TrackConfig, *, overwrite: bool, read: Sequence[Path] = (), device: str = "cpu") -> None:
    """Track a video into a run folder of its own.

    Args:
        video: file with one person's face.
        out: run folder.
        config: recipe.
        overwrite: replace the tracked video that the folder holds, once the new one is whole.
        read: further files that the command reads.
        device: where to fit the head, see `pick_device`.

    Raises:
        InputError: the video cannot be used.
        OutputError: `out` holds what no run wrote, or a tracked video and the flag is missing; it is in use, or cannot be written.
    """
    with open_run(out, "track", inputs=[video, *read], overwrite=overwrite) as run:
        run.note(**source_facts(video), recipe_sha256=fingerprint(config))
        sequence = track_video(video, run.folder, config, device=pick_device(device, gaussians=False))
        write_overlay(load_head(config.head), sequence, run.folder / OVERLAY)
