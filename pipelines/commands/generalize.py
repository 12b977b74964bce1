"""`deja-vu generalize`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import GeneralizeConfig
from deja_vu.pipelines.recipes import config_file, named_stage, unread_stage_flags
from deja_vu.pipelines.requests import refuse_absent, refuse_device


def generalize_command(
    *,
    data: list[Path],
    out: Path,
    config: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    recipe: GeneralizeConfig = GeneralizeConfig(),
) -> None:
    """Train the network that turns one photo into a head, on photos of many people.

    Args:
        data: folders of photos or tracked videos, or folders that `deja-vu prepare` made.
        out: run folder; gets prior.safetensors, metrics.json, curves, and shards/ where photos are given.
        config: name of a recipe (faces, paper; full for radiance fields) or path of a YAML file; flags override it.
        resume: continue the run in `out` exactly where it stopped.
        overwrite: replace the run in `out` once the new one is complete; its shards are kept.
        recipe: every value of the recipe.
    """
    for folder in data:
        refuse_absent(folder, "a folder of photos, of a tracked video, or of shards")
    refuse_device(recipe.device)
    from deja_vu.pipelines.generalize import generalize

    generalize(data, out, recipe, resume=resume, overwrite=overwrite, read=[] if resume else config_file(config))


COMMAND = Command(
    run=generalize_command,
    example="deja-vu generalize --data photos/ --out runs/prior",
    main={name: name for name in ("path", "processes", "device", "precision", "seed")},
    defaults=lambda words: {"recipe": named_stage(words.text("config"))},
    unread=lambda arguments: unread_stage_flags(arguments["recipe"]),
)
