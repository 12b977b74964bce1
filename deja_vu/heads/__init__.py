"""Parametric heads behind one interface."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path

from deja_vu.core.errors import ConfigError
from deja_vu.heads.base import HeadModel

HEADS: dict[str, str] = {
    "anny": "deja_vu.heads.anny:load",
    "toy": "deja_vu.heads.toy:load",
    "flame2020": "deja_vu.heads.flame:load_2020",
    "flame2023": "deja_vu.heads.flame:load_2023",
    "flame2020_full": "deja_vu.heads.flame:load_2020_full",
    "flame2023_full": "deja_vu.heads.flame:load_2023_full",
}
"""Module and function that load each head, by the name that tracked folders and avatars carry; imported when asked for."""


def load_head(name: str, path: Path | None = None) -> HeadModel:
    """The head model of a name.

    Args:
        name: key of `HEADS`.
        path: the user's own model file, for heads that do not ship with the package (FLAME).

    Raises:
        ConfigError: no head has this name, or this one takes no file.
        MissingAssetError: the head needs the user's own file, and it was not found.
        FormatError: the file is not what it should be.
    """
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"There is no head named {name!r}. {hint}Known heads: {', '.join(HEADS)}.")
    if path is not None and not name.startswith("flame"):
        raise ConfigError(f"The head {name!r} ships with the package and takes no file, but {path} was given. Leave the file out.")
    module, function = HEADS[name].split(":")
    load = getattr(import_module(module), function)
    return load() if path is None else load(path)
