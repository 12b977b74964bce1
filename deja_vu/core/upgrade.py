"""Names that older versions wrote into recipes, brought to today's: one table, applied when a file of an older format is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONFIG_FORMAT = 2
"""Written into every recipe as `format`; a recipe without it may use the names of format 1."""

RENAMED_KEYS: tuple[tuple[str, str], ...] = (
    ("loss.attention", "eyes_mouth"),
    ("image.attention", "eyes_mouth"),
    ("photometric.outline", "silhouette"),
)
"""Old key, with as many of its parents as tell it from others, and its new name."""


def upgrade_recipe(values: Mapping[str, Any], parents: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same recipe with today's names.

    Args:
        values: nested mapping as read from a file of format 1; today's names in it stay.
        parents: keys on the way to it.
    """
    upgraded = {}
    for key, value in values.items():
        path = (*parents, str(key))
        if isinstance(value, Mapping):
            value = upgrade_recipe(value, path)
        elif isinstance(value, list):
            value = [upgrade_recipe(item, path) if isinstance(item, Mapping) else item for item in value]
        upgraded[_new_name(path)] = value
    return upgraded


def _new_name(path: tuple[str, ...]) -> str:
    for old, new in RENAMED_KEYS:
        parts = tuple(old.split("."))
        if path[-len(parts) :] == parts:
            return new
    return path[-1]
