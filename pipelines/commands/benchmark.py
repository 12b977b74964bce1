"""`deja-vu benchmark`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.flags import Words
from deja_vu.pipelines.recipes import PATH_FLAGS, Recipe, config_file, draws_gaussians, named_recipe, without_blendmaps
from deja_vu.pipelines.requests import refuse_absent_all, refuse_device


def benchmark_command(
    clips: list[Path],
    *,
    out: Path,
    paths: tuple[str, ...] = (),
    frames: tuple[Path, ...] = (),
    drive: bool = True,
    config: str | None = None,
    reuse: bool = False,
    overwrite: bool = False,
    global_only: bool = False,
    recipe: Recipe = Recipe(),
) -> None:
    """Make and score avatars from several clips; with --paths, compare several kinds of avatar.

    Args:
        clips: videos, or folders with gt.mp4 and other systems' renders of the same frames (*.mp4); with --paths also tracked folders.
        out: folder for one run per clip (and path), and table.md.
        paths: gaussian, gaussian-paper, nerf, nelf, nelf-real, nelf-pseudo: compare these, with costs, curves and sheets.
        frames: with --paths, further renders of the one clip by other systems.
        drive: with --paths, also drive every avatar by the motion of the other clips (with a single clip, by a synthetic person's).
        config: name of a recipe or path of a YAML file; flags override it.
        reuse: score the finished runs in `out` instead of computing them again.
        overwrite: compute and replace runs that are in `out` already.
        global_only: train without blendmaps, as an ablation.
        recipe: every value of the recipe.
    """
    refuse_absent_all(clips, "a video or of a tracked folder")
    refuse_device(recipe.device, gaussians=draws_gaussians(recipe))
    from deja_vu.pipelines.benchmark import benchmark, compare_paths

    chosen, read = without_blendmaps(recipe) if global_only else recipe, config_file(config)
    if paths:
        print(compare_paths(clips, list(paths), list(frames), out, chosen, drive=drive, reuse=reuse, overwrite=overwrite, read=read))
    else:
        print(benchmark(clips, out, chosen, reuse=reuse, overwrite=overwrite, read=read))


def recipe_default(words: Words) -> dict[str, Recipe]:
    """The recipe that flags override: that of a GPU, where there is one, if field paths are compared."""
    path = "nerf" if words.text("paths") else words.text("recipe", "path")
    return {"recipe": named_recipe(words.text("config"), path=path, device=words.text("recipe", "device"))}


COMMAND = Command(
    run=benchmark_command,
    example="deja-vu benchmark clips/*.mp4 --out runs/benchmark",
    main=PATH_FLAGS,
    defaults=recipe_default,
)
