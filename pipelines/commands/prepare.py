"""`deja-vu prepare`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import PrepareConfig
from deja_vu.pipelines.recipes import named_stage
from deja_vu.pipelines.requests import refuse_absent


def prepare_command(data: list[Path], *, out: Path, config: str | None = None, recipe: PrepareConfig = PrepareConfig()) -> None:
    """Find, cut out and fit the heads in folders of photos, for `deja-vu generalize`; goes on where it stopped.

    Args:
        data: folders of photos or tracked videos.
        out: folder of shards; report.json in it says which photos were refused and why.
        config: recipe by name (faces, paper) or path of a YAML file; flags override it.
        recipe: every value of the preparation.
    """
    for folder in data:
        refuse_absent(folder, "a folder of photos, of a tracked video, or of shards")
    from deja_vu.pipelines.prepare import prepare

    prepare(data, out, recipe)


COMMAND = Command(
    run=prepare_command,
    example="deja-vu prepare photos/ --out shards",
    main={name: name for name in ("head", "side")},
    defaults=lambda words: {"recipe": named_stage(words.text("config")).prepare},
)
