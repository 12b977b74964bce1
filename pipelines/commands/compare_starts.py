"""`deja-vu compare-starts`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.recipes import named_recipe, shipped_recipe
from deja_vu.pipelines.requests import refuse_absent_all, refuse_device
from deja_vu.pipelines.run_folder import open_run
from deja_vu.training.gaussian_config import GaussianTrainConfig


def compare_starts_command(
    clips: list[Path],
    *,
    out: Path,
    only: tuple[str, ...] = (),
    reuse: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    config: str | None = None,
    recipe: GaussianTrainConfig = GaussianTrainConfig(),
) -> None:
    """Compare, over time, trainings that start from the network with others that do not.

    Args:
        clips: tracked folders, or runs that hold one.
        out: folder; gets curves.json, and a plot for each clip.
        only: which to train now: "gray", "lifted", "prior", "prior, quick recipe"; all of them by default.
        reuse: keep the runs in `out` that are finished, and add to them.
        overwrite: replace the comparison in `out` once the new one is complete; files that no comparison wrote stay.
        device: where to compute: auto (CUDA if it works, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
        config: name of a recipe or path of a YAML file; flags override it.
        recipe: every value of the personalization.
    """
    refuse_absent_all(clips, "a video or of a tracked folder")
    refuse_device(device)
    with open_run(out, "compare-starts", inputs=clips, overwrite=overwrite, add=reuse):
        pass
    from deja_vu.pipelines.compare_starts import compare_starts

    quick = shipped_recipe("quick").gaussian.phases
    print(compare_starts(clips, out, recipe, quick, only, reuse=reuse, overwrite=overwrite, device=device))


COMMAND = Command(
    run=compare_starts_command,
    example="deja-vu compare-starts tracked/me --out runs/starts",
    main={"avatar.blendmaps": "avatar.blendmaps", "seed": "seed"},
    defaults=lambda words: {"recipe": named_recipe(words.text("config")).gaussian},
)
