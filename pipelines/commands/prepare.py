"""`deja-vu prepare`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import PrepareConfig
from deja_vu.pipelines.recipes import named_stage
from deja_vu.pipelines.requests import refuse_absent, refuse_device, refuse_folder


def prepare_command(
    data: list[Path],
    *,
    out: Path,
    resume: bool = False,
    overwrite: bool = False,
    config: str | None = None,
    device: str = "auto",
    recipe: PrepareConfig = PrepareConfig(),
) -> None:
    """Find, crop and fit the heads in folders of photos, for `deja-vu generalize`.

    Args:
        data: folders of photos or tracked videos.
        out: folder of shards; report.json in it says which photos were refused and why.
        resume: continue where an earlier preparation of the same photos stopped.
        overwrite: replace the shards in `out` once the new ones are complete; files that no preparation wrote stay.
        config: name of a recipe (faces, paper) or path of a YAML file; flags override it.
        device: where to fit heads: auto (CUDA if there is one, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
        recipe: every value of the preparation.
    """
    for folder in data:
        refuse_absent(folder, "a folder of photos, of a tracked video, or of shards")
    refuse_folder(out, "prepare", data, resume=resume, overwrite=overwrite)
    refuse_device(device, gaussians=False)
    from deja_vu.pipelines.prepare import prepare

    prepare(data, out, recipe, resume=resume, overwrite=overwrite, device=device)


COMMAND = Command(
    run=prepare_command,
    example="deja-vu prepare photos/ --out shards",
    main={name: name for name in ("head", "side")},
    defaults=lambda words: {"recipe": named_stage(words.text("config")).prepare},
)
