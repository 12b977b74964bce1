"""The command line: `deja-vu COMMAND --help` explains each command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from deja_vu.core.config import load_config
from deja_vu.core.errors import DejaVuError
from deja_vu.pipelines.benchmark import benchmark, compare_paths
from deja_vu.pipelines.compare_starts import compare_starts
from deja_vu.pipelines.demo import demo
from deja_vu.pipelines.doctor import run as doctor
from deja_vu.pipelines.drive import drive_command
from deja_vu.pipelines.evaluate import evaluate_command
from deja_vu.pipelines.evaluate_prior import evaluate_prior
from deja_vu.pipelines.export import export_command
from deja_vu.pipelines.generalize import STAGE, GeneralizeConfig, generalize
from deja_vu.pipelines.own_files import claim
from deja_vu.pipelines.personalize import Recipe, personalize
from deja_vu.pipelines.prepare import PrepareConfig, prepare
from deja_vu.pipelines.recipes import shipped, shipped_recipe
from deja_vu.pipelines.reconstruct import ReconstructConfig, reconstruct
from deja_vu.pipelines.report import report_command
from deja_vu.pipelines.sample import TRUTH_SUFFIX, write_sample
from deja_vu.pipelines.track import TrackConfig, track_into
from deja_vu.pipelines.train_gaussians import PersonalizeConfig
from deja_vu.pipelines.view import view_command

Split = Literal["tail", "blocks"]
Start = Literal["auto", "network", "lifted", "none"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `deja-vu`; mistakes of the user end with exit code 2 and one clear message."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        of_stage = bool(arguments) and arguments[0] in (STAGE, "prepare")
        recipe, stage = (Recipe(), chosen_stage(arguments)) if of_stage else (chosen_recipe(arguments), GeneralizeConfig())
        tyro.extras.subcommand_cli_from_dict(commands(recipe) | stage_commands(stage), args=arguments, prog="deja-vu", description=__doc__)
    except DejaVuError as error:
        print(f"deja-vu: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that cannot be written
        print(
            f"deja-vu: {error.filename or 'A file'} cannot be used: {error.strerror or error}. Make room or choose another place.",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def chosen_recipe(arguments: Sequence[str]) -> Recipe:
    """The recipe named by `--config`, a YAML file or one that ships with the package.

    Without it: the published widths where there is a GPU, else the defaults, which suit a CPU. The Gaussian path is the same in both.
    """
    named = named_config(arguments)
    if named is not None:
        return load_config(Recipe, Path(named)) if named.endswith((".yaml", ".yml")) else shipped_recipe(named)
    return shipped_recipe("full") if torch.cuda.is_available() else Recipe()


def chosen_stage(arguments: Sequence[str]) -> GeneralizeConfig:
    """The same for the generalize stage, whose recipes are its own."""
    named = named_config(arguments)
    if named is None:
        return GeneralizeConfig()
    return load_config(GeneralizeConfig, Path(named)) if named.endswith((".yaml", ".yml")) else shipped(GeneralizeConfig, named, STAGE)


def named_config(arguments: Sequence[str]) -> str | None:
    """What `--config` names, if it is there."""
    for position, argument in enumerate(arguments):
        if argument == "--config" or argument.startswith("--config="):
            return argument.partition("=")[2] or (arguments[position + 1] if position + 1 < len(arguments) else "")
    return None


def config_file(named: str | None) -> list[Path]:
    """The file of a recipe that `--config` names by its path."""
    return [Path(named)] if named is not None and named.endswith((".yaml", ".yml")) else []


def varied(recipe: Recipe, split: Split | None, global_only: bool, start: Start | None = None) -> Recipe:
    """The recipe with another split, another start, or without blendmaps."""
    track = replace(recipe.track, split=split) if split else recipe.track
    config = replace(recipe.personalize, start=start) if start else recipe.personalize
    if global_only:
        config = replace(config, avatar=replace(config.avatar, blendmaps=0))
    return replace(recipe, track=track, personalize=config)


def commands(defaults: Recipe) -> dict[str, Callable[..., object]]:
    """Every command, with the chosen recipe's values as its defaults."""

    def personalize_command(
        video: tyro.conf.Positional[Path],
        *,
        out: Path,
        config: str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        split: Split | None = None,
        global_only: bool = False,
        start: Start | None = None,
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = defaults,
    ) -> None:
        """From a video to a drivable avatar, tracking included.

        Args:
            video: the video, or a folder that `deja-vu track` made.
            out: run folder; gets avatar.safetensors, metrics.json, compare.png, turntable.mp4, curves.
            config: recipe by name (paper) or path of a YAML file; flags override it.
            resume: continue the run in `out` exactly where it stopped.
            overwrite: replace the run in `out`, once the new one is whole; files that no run wrote stay.
            split: test frames, the last 20 % (tail) or every fifth block of 16 (blocks); overrides the recipe.
            global_only: leave the blendmaps out, as an ablation.
            start: begin with colors lifted from the video and corrected by the network of `deja-vu generalize`, with lifted ones alone,
                or with a bald grey head; overrides the recipe.
            recipe: every value of the recipe.
        """
        chosen = varied(recipe, split, global_only, start)
        personalize(video, out, chosen, resume=resume, overwrite=overwrite, read=[] if resume else config_file(config))

    def track_command(
        video: tyro.conf.Positional[Path],
        *,
        out: Path,
        config: str | None = None,
        overwrite: bool = False,
        recipe: Annotated[TrackConfig, tyro.conf.arg(name="")] = defaults.track,
    ) -> None:
        """Track a video into a folder that other commands read.

        Args:
            video: the video.
            out: folder to fill; overlay.mp4 in it shows how well tracking holds.
            config: recipe by name or path of a YAML file; flags override it.
            overwrite: replace the tracked video in `out`, once the new one is whole.
            recipe: every value of the tracker's recipe.
        """
        track_into(video, out, recipe, overwrite=overwrite, read=config_file(config))

    def benchmark_command(
        clips: tyro.conf.Positional[list[Path]],
        *,
        out: Path,
        paths: tuple[str, ...] = (),
        frames: tuple[Path, ...] = (),
        drive: bool = True,
        config: str | None = None,
        reuse: bool = False,
        overwrite: bool = False,
        split: Split | None = None,
        global_only: bool = False,
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = defaults,
    ) -> None:
        """The main job on several clips, beside other systems' renders, as one table; or with --paths several kinds of avatar.

        Args:
            clips: videos, or folders with gt.mp4 and other systems' renders of the same frames (*.mp4); with --paths tracked folders too.
            out: folder for one run a clip (and path), and table.md.
            paths: gaussian, gaussian-paper, nerf, nelf, nelf-real, nelf-pseudo: compare these, with costs, curves and sheets.
            frames: with --paths, further renders of the one clip by other systems.
            drive: with --paths, let every avatar follow the other clips' motion too (a single clip's: a made-up person's).
            config: recipe by name or path of a YAML file; flags override it.
            reuse: score finished runs in `out` instead of computing them again.
            overwrite: compute and replace runs that are in `out` already.
            split: test frames, the last 20 % (tail) or every fifth block of 16 (blocks); overrides the recipe.
            global_only: leave the blendmaps out, as an ablation.
            recipe: every value of the recipe.
        """
        chosen, read = varied(recipe, split, global_only), config_file(config)
        if paths:
            print(compare_paths(clips, list(paths), list(frames), out, chosen, drive=drive, reuse=reuse, overwrite=overwrite, read=read))
        else:
            print(benchmark(clips, out, chosen, reuse=reuse, overwrite=overwrite, read=read))

    def compare_starts_command(
        clips: tyro.conf.Positional[list[Path]],
        *,
        out: Path,
        only: tuple[str, ...] = (),
        config: str | None = None,
        recipe: Annotated[PersonalizeConfig, tyro.conf.arg(name="")] = defaults.personalize,
    ) -> None:
        """Quality by time of a personalization that begins from the network, beside one that does not.

        Args:
            clips: tracked folders, or runs that hold one.
            out: folder; gets curves.json, and a plot for each clip. Runs that are there already are kept.
            only: ways to train now: "none", "lifted", "network", "network, quick recipe"; all of them by default.
            config: recipe by name or path of a YAML file; flags override it.
            recipe: every value of the personalization.
        """
        print(compare_starts(clips, out, recipe, shipped_recipe("quick").personalize.phases, only))

    def demo_command(
        *,
        out: Path = Path("runs/demo"),
        video: Path | None = None,
        overwrite: bool = False,
        config: str | None = None,
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = defaults,
    ) -> None:
        """Everything once: a made-up person's video (or yours) becomes an avatar, and a sample motion drives it.

        Args:
            out: run folder.
            video: your own video instead of a made-up person's.
            overwrite: replace the run in `out`, once the new one is whole; files that no run wrote stay.
            config: recipe by name or path of a YAML file; flags override it.
            recipe: every value of the recipe.
        """
        demo(out, video, recipe, overwrite=overwrite, read=config_file(config))

    return {
        "personalize": personalize_command,
        "track": track_command,
        "drive": drive_command,
        "view": view_command,
        "evaluate": evaluate_command,
        "export": export_command,
        "report": report_command,
        "benchmark": benchmark_command,
        "compare-starts": compare_starts_command,
        "demo": demo_command,
        "reconstruct": reconstruct_command,
        "sample": sample_command,
        "doctor": doctor_command,
    }


def stage_commands(defaults: GeneralizeConfig) -> dict[str, Callable[..., object]]:
    """The commands of the generalize stage, with the chosen recipe's values as their defaults."""

    def generalize_command(
        *,
        data: list[Path],
        out: Path,
        config: str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        recipe: Annotated[GeneralizeConfig, tyro.conf.arg(name="")] = defaults,
    ) -> None:
        """Train the network that turns one photo into a head, on photos of many people.

        Args:
            data: folders of photos or tracked videos, or folders that `deja-vu prepare` made.
            out: run folder; gets prior.safetensors, metrics.json, curves, and shards/ where photos are given.
            config: recipe by name (faces, paper) or path of a YAML file; flags override it.
            resume: continue the run in `out` exactly where it stopped.
            overwrite: replace the run in `out`, once the new one is whole; its shards are kept.
            recipe: every value of the recipe.
        """
        generalize(data, out, recipe, resume=resume, overwrite=overwrite, read=[] if resume else config_file(config))

    def prepare_command(
        data: tyro.conf.Positional[list[Path]],
        *,
        out: Path,
        config: str | None = None,
        recipe: Annotated[PrepareConfig, tyro.conf.arg(name="")] = defaults.prepare,
    ) -> None:
        """Find, cut out and fit the heads in folders of photos, for `deja-vu generalize`; goes on where it stopped.

        Args:
            data: folders of photos or tracked videos.
            out: folder of shards; report.json in it says which photos were refused and why.
            config: recipe by name (faces, paper) or path of a YAML file; flags override it.
            recipe: every value of the preparation.
        """
        prepare(data, out, recipe)

    return {STAGE: generalize_command, "prepare": prepare_command, "evaluate-prior": evaluate_prior_command}


def evaluate_prior_command(
    *,
    out: Path,
    shards: tuple[Path, ...] = (),
    clips: tuple[Path, ...] = (),
    priors: tuple[Path, ...] = (),
    frames: int = 40,
    photos: int = 1000,
    overwrite: bool = False,
) -> None:
    """Score networks of the generalize stage on people they never saw, beside lifting alone.

    Args:
        out: JSON file for the figures.
        shards: folders that `deja-vu prepare` made; their held-out part is measured.
        clips: tracked folders or runs: one frame makes a head, which is compared with the others.
        priors: networks; without any, the one that ships.
        frames: of each clip that are measured.
        photos: most held-out photos, evenly spread.
        overwrite: replace the JSON file if it is there.
    """
    print(evaluate_prior(shards, clips, out, priors, frames=frames, photos=photos, overwrite=overwrite))


def reconstruct_command(
    photo: tyro.conf.Positional[Path],
    *,
    out: Path,
    overwrite: bool = False,
    config: Annotated[ReconstructConfig, tyro.conf.arg(name="")] = ReconstructConfig(),
) -> None:
    """From one photo to a drivable avatar, in seconds.

    Args:
        photo: picture of one person's face.
        out: run folder; gets avatar.safetensors, compare.png, expressions.png, turntable.mp4; drive, view and export read it.
        overwrite: replace the run in `out`, once the new one is whole; files that no run wrote stay.
        config: every value of the recipe.
    """
    reconstruct(photo, out, config, overwrite=overwrite)


def sample_command(out: tyro.conf.Positional[Path], *, frames: int = 150, overwrite: bool = False) -> None:
    """Write a video of a made-up person, with known ground truth, to try everything on.

    Args:
        out: .mp4 file to write.
        frames: length of the video at 25 frames a second.
        overwrite: replace the video, and the truth beside it, if they are there.
    """
    for path in (out, out.with_suffix(TRUTH_SUFFIX)):
        claim(path, overwrite=overwrite)
    write_sample(out, frames)


def doctor_command() -> None:
    """Say which head, landmarker, rasterizer, device and optional parts are available, and how to get what is missing."""
    sys.exit(doctor())


if __name__ == "__main__":
    main()
