"""The recipe of personalization, and recipes by name or file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Literal

from deja_vu.core.config import Config, load_config
from deja_vu.core.errors import ConfigError
from deja_vu.pipelines.configs import STAGE, GeneralizeConfig
from deja_vu.pipelines.flags import Words
from deja_vu.tracking.config import TrackConfig
from deja_vu.training.gaussian_config import GaussianTrainConfig
from deja_vu.training.nelf_config import NelfTrainConfig
from deja_vu.training.nerf_config import NerfTrainConfig

PATH_FLAGS = {
    "path": "path",
    "track.split": "split",
    "track.max-frames": "max-frames",
    "track.detection.face": "face",
    "track.resolution": "resolution",
    "gaussian.crop": "crop",
    "gaussian.init": "init",
    "device": "device",
}
"""Flags of a recipe that matter to most, and their short names."""
SIZES = ("tiny", "cpu", "full", "gpavatar")
"""Shipped recipes that differ in the field paths' sizes."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes."""

    track: TrackConfig = field(default_factory=TrackConfig)
    path: Literal["gaussian", "nerf", "nelf"] = "gaussian"
    """Kind of avatar: Gaussians, radiance field, or light field."""
    device: str = "auto"
    """Where to compute: auto (CUDA where it works, else the CPU), cpu, cuda, or of several GPUs cuda:1 and so on."""
    gaussian: GaussianTrainConfig = field(default_factory=GaussianTrainConfig)
    nerf: NerfTrainConfig = field(default_factory=NerfTrainConfig)
    nelf: NelfTrainConfig = field(default_factory=NelfTrainConfig)


def draws_gaussians(recipe: Recipe) -> bool:
    """Whether a recipe's avatar, or what teaches it, is made of Gaussians."""
    teacher = recipe.nelf.teacher if recipe.nelf.pseudo_share else "none"
    return recipe.path == "gaussian" or (recipe.path == "nelf" and teacher == "gaussian")


def sizes_name(recipe: Recipe) -> str:
    """Which shipped recipe's field paths these are, or `own`."""
    shipped = ((name, shipped_recipe(name)) for name in SIZES)
    return next((name for name, known in shipped if (known.nerf, known.nelf) == (recipe.nerf, recipe.nelf)), "own")


def named_recipe(name: str | None, *, path: str | None = None, device: str | None = None) -> Recipe:
    """The recipe that `--config` names, a YAML file or one that ships with the package.

    Without a name: the published widths for a field path where there is a GPU, else the defaults, which suit a CPU.

    Raises:
        ConfigError: there is none of that name, or it has a mistake.
    """
    if name is not None:
        return load_config(Recipe, Path(name)) if is_file_name(name) else shipped_recipe(name)
    if path in ("nerf", "nelf") and device != "cpu":
        import torch

        if torch.cuda.is_available():
            return shipped_recipe("full")
    return Recipe()


def default_recipe(words: Words) -> dict[str, Recipe]:
    """The recipe that a command's flags override."""
    return {"recipe": named_recipe(words.text("config"), path=words.text("recipe", "path"), device=words.text("recipe", "device"))}


def named_stage(name: str | None) -> GeneralizeConfig:
    """The same for the generalize stage, whose recipes are its own."""
    if name is None:
        return GeneralizeConfig()
    return load_config(GeneralizeConfig, Path(name)) if is_file_name(name) else load_shipped(GeneralizeConfig, name, STAGE)


def unread_stage_flags(config: GeneralizeConfig) -> dict[str, str]:
    """Beginnings of the flags of the generalize stage that a kind of network has no use for, and the flag that gives them one."""
    if config.path == "gaussian":
        return {"nerf.": "--path nerf"}
    shared = {"path", "nerf", "prepare", "people", "photo_counts", "loaders", "watched_share", "watched_people", "grid_people", "device"}
    own = [item for item in fields(GeneralizeConfig) if item.name not in shared]
    return {item.name.replace("_", "-"): "--path gaussian" for item in own}


def is_file_name(name: str) -> bool:
    """Whether `--config` names a file of the user's."""
    return name.endswith((".yaml", ".yml"))


def config_file(name: str | None) -> list[Path]:
    """The file that `--config` names, if it is one of the user's."""
    return [Path(name)] if name is not None and is_file_name(name) else []


def unread_flags(recipe: Recipe) -> dict[str, str]:
    """Beginnings of the flags that a recipe's kind of avatar has no use for, and the flag that gives them one."""
    remedies = {"gaussian": "--path gaussian", "nerf": "--path nerf", "nelf": "--path nelf"}
    read = {"gaussian": ["gaussian"], "nerf": ["nerf"], "nelf": ["nelf"]}[recipe.path]
    if recipe.path == "nelf":
        read += {"gaussian": ["gaussian"], "nerf": ["nerf"], "none": []}[recipe.nelf.teacher]
    return {f"{part}.": remedy for part, remedy in remedies.items() if part not in read}


def refuse_idle_recipe(name: str | None, recipe: Recipe) -> None:
    """Refuse a shipped recipe that sets nothing for the kind of avatar that is asked for.

    Raises:
        ConfigError: says what it sets.
    """
    if name is None or is_file_name(name):
        return
    shipped, default = shipped_recipe(name), Recipe()
    parts = [part for part in ("track", "gaussian", "nerf", "nelf") if getattr(shipped, part) != getattr(default, part)]
    idle = [beginning.rstrip(".") for beginning in unread_flags(recipe)]
    if parts and all(part in idle for part in parts):
        raise ConfigError(
            f"--config {name} sets values of {' and '.join(parts)} only, which --path {recipe.path} does not read. "
            f"Add --path {parts[0]}, or leave --config out."
        )


def without_blendmaps(recipe: Recipe) -> Recipe:
    """The recipe with one global map alone."""
    return replace(recipe, gaussian=replace(recipe.gaussian, avatar=replace(recipe.gaussian.avatar, blendmaps=0)))


def shipped_recipe(name: str) -> Recipe:
    """A recipe of the main job that comes with the package.

    Raises:
        ConfigError: there is none of that name.
    """
    return load_shipped(Recipe, name)


def load_shipped(kind: type[Config], name: str, folder: str = "") -> Config:
    """A recipe of any stage that comes with the package.

    Args:
        kind: its dataclass.
        name: of the file, without its suffix.
        folder: of the stage's recipes; the main job's lie at the top.

    Raises:
        ConfigError: there is none of that name.
    """
    place = resources.files("deja_vu.configs") / folder
    file = place / f"{name}.yaml"
    if not file.is_file():
        names = sorted(item.name[:-5] for item in place.iterdir() if item.name.endswith(".yaml"))
        raise ConfigError(f"There is no recipe '{name}'. Shipped: {', '.join(names)}; or give the path of a .yaml file.")
    with resources.as_file(file) as path:
        return load_config(kind, path)
