"""`deja-vu track`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.recipes import config_file, named_recipe
from deja_vu.pipelines.requests import refuse_absent, refuse_device, refuse_folder
from deja_vu.tracking.config import TrackConfig


def track_command(
    video: Path,
    *,
    out: Path,
    config: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    recipe: TrackConfig = TrackConfig(),
) -> None:
    """Track a video into a folder that other commands read.

    Args:
        video: the video.
        out: folder to fill; overlay.mp4 in it shows how well tracking worked.
        config: name of a recipe or path of a YAML file; flags override it.
        overwrite: replace the tracked video in `out` once the new one is complete.
        device: where to fit the head: auto (CUDA if there is one, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
        recipe: every value of the tracker's recipe.
    """
    refuse_folder(out, "track", [video, *config_file(config)], overwrite=overwrite)
    refuse_absent(video, "a video")
    refuse_device(device, gaussians=False)
    from deja_vu.pipelines.track import track_into

    track_into(video, out, recipe, overwrite=overwrite, read=config_file(config), device=device)


COMMAND = Command(
    run=track_command,
    example="deja-vu track me.mp4 --out tracked/me",
    main={name: name for name in ("split", "max-frames", "resolution", "head", "closed-form-matte")} | {"detection.face": "face"},
    defaults=lambda words: {"recipe": named_recipe(words.text("config")).track},
)
