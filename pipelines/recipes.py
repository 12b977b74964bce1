"""Recipes that come with the package."""

from __future__ import annotations

from importlib import resources

from deja_vu.core.config import Config, load_config
from deja_vu.core.errors import ConfigError
from deja_vu.pipelines.personalize import Recipe

SIZES = ("tiny", "cpu", "full", "gpavatar")
"""Shipped recipes that differ in the field paths' sizes."""


def sizes_name(recipe: Recipe) -> str:
    """Which shipped recipe's field paths these are, or `own`."""
    shipped = ((name, shipped_recipe(name)) for name in SIZES)
    return next((name for name, known in shipped if (known.nerf, known.nelf) == (recipe.nerf, recipe.nelf)), "own")


def shipped_recipe(name: str) -> Recipe:
    """A recipe of the main job that comes with the package.

    Raises:
        ConfigError: there is none of that name.
    """
    return shipped(Recipe, name)


def shipped(kind: type[Config], name: str, folder: str = "") -> Config:
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
