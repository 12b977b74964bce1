"""`deja-vu demo`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.recipes import PATH_FLAGS, Recipe, config_file, default_recipe, draws_gaussians, refuse_idle_recipe, unread_flags
from deja_vu.pipelines.requests import refuse_absent, refuse_device, refuse_folder


def demo_command(
    *,
    out: Path = Path("runs/demo"),
    video: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: str | None = None,
    recipe: Recipe = Recipe(),
) -> None:
    """Try everything once: make an avatar from a synthetic person's video (or yours), and animate it.

    Args:
        out: run folder.
        video: your own video instead of a synthetic person's.
        resume: continue the run in `out` exactly where it stopped.
        overwrite: replace the run in `out` once the new one is complete; files that no run wrote stay.
        config: name of a recipe (quick, gpu, paper; tiny to try things out) or path of a YAML file; flags override it.
        recipe: every value of the recipe.
    """
    refuse_idle_recipe(config, recipe)
    if video is not None:
        refuse_absent(video, "a video")
    refuse_device(recipe.device, gaussians=draws_gaussians(recipe))
    refuse_folder(out, "demo", [*([video] if video else []), *config_file(config)], resume=resume, overwrite=overwrite)
    from deja_vu.pipelines.demo import demo

    demo(out, video, recipe, resume=resume, overwrite=overwrite, read=[] if resume else config_file(config))


COMMAND = Command(
    run=demo_command,
    example="deja-vu demo --video me.mp4 --out runs/me",
    main=PATH_FLAGS,
    defaults=default_recipe,
    unread=lambda arguments: unread_flags(arguments["recipe"]),
)
