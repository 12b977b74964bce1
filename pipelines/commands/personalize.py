"""`deja-vu personalize`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.recipes import (
    PATH_FLAGS,
    Recipe,
    config_file,
    default_recipe,
    draws_gaussians,
    refuse_idle_recipe,
    unread_flags,
    without_blendmaps,
)
from deja_vu.pipelines.requests import refuse_absent, refuse_device, refuse_folder
from deja_vu.pipelines.run_folder import find_track


def personalize_command(
    video: Path,
    *,
    out: Path,
    config: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    global_only: bool = False,
    recipe: Recipe = Recipe(),
) -> None:
    """Make a drivable avatar from a video.

    Args:
        video: the video, or a folder that `deja-vu track` made.
        out: run folder; gets avatar.safetensors, metrics.json, compare.png, turntable.mp4, report.html, training curves.
        config: name of a recipe (quick, gpu, paper; tiny to try things out) or path of a YAML file; flags override it.
        resume: continue the run in `out` exactly where it stopped.
        overwrite: replace the run in `out` once the new one is complete; files that no run wrote stay.
        global_only: train without blendmaps, as an ablation.
        recipe: every value of the recipe.
    """
    refuse_idle_recipe(config, recipe)
    source = find_track(video) if video.is_dir() else video
    refuse_folder(out, "personalize", [source, *config_file(config)], resume=resume, overwrite=overwrite)
    refuse_absent(source, "a video")
    refuse_device(recipe.device, gaussians=draws_gaussians(recipe))
    from deja_vu.pipelines.personalize import personalize

    chosen = without_blendmaps(recipe) if global_only else recipe
    personalize(video, out, chosen, resume=resume, overwrite=overwrite, read=[] if resume else config_file(config))


COMMAND = Command(
    run=personalize_command,
    example="deja-vu personalize me.mp4 --out runs/me",
    main=PATH_FLAGS,
    defaults=default_recipe,
    unread=lambda arguments: unread_flags(arguments["recipe"]),
)
