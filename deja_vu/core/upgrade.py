"""Names used by older versions, translated to current ones when a file of an older format is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

CONFIG_FORMAT = 4
"""Written into every recipe as `format`; a recipe without it, or with a lower one, may use older names."""

RENAMED_KEYS: tuple[tuple[str, str | None], ...] = (
    ("attention", "eyes_mouth"),
    ("photometric.outline", "photometric.silhouette"),
    ("people.twin_share", "people.synthetic_share"),
    ("photo.outline", "photo.silhouette"),
    ("photo.outline_steps", "photo.silhouette_steps"),
    ("photo.looks", "photo.window_scales"),
    ("personalize", "gaussian"),
    ("start", "init"),
    ("photometric.lift_frames", "photometric.texture_frames"),
    ("photometric.lift_passes", "photometric.texture_passes"),
    ("photometric.lift_robust", "photometric.texture_robust"),
    ("lift_frames", "lift.frames"),
    ("network_frames", "lift.prior_frames"),
    ("blendmap_rate", "learning_rates.blendmaps"),
    ("code_rate", "learning_rates.code"),
    ("correction_rate", "learning_rates.correction"),
    ("planes_rate", "learning_rates.planes"),
    ("points_rate", "learning_rates.points"),
    ("slow_rate", "learning_rates.slow"),
    ("warp_rate", "learning_rates.warp"),
    ("nerf.beta1", "nerf.adam.beta1"),
    ("validation_share", "validation.share"),
    ("loss.image.position", None),
    ("loss.image.scale", None),
    ("loss.image.opacity", None),
    ("loss.image.unseen", None),
    ("loss.image.sides", None),
    ("loss.image.blendmaps", None),
    ("loss.image.correction", None),
    ("loss.image", "loss"),
    ("loss.position", "regularizers.position"),
    ("loss.scale", "regularizers.scale"),
    ("loss.opacity", "regularizers.opacity"),
    ("gaussian.loss.unseen", "gaussian.regularizers.unseen"),
    ("gaussian.loss.sides", "gaussian.regularizers.novel_views"),
    ("gaussian.loss.blendmaps", "gaussian.regularizers.blendmaps"),
    ("gaussian.loss.correction", "gaussian.regularizers.correction"),
    ("loss.unseen", None),
    ("loss.sides", None),
    ("loss.blendmaps", None),
    ("loss.correction", None),
    ("loss.fine", "regularizers.fine"),
    ("loss.coarse", "regularizers.coarse"),
    ("loss.low_perceptual", "regularizers.low_perceptual"),
    ("loss.face", "regularizers.face"),
    ("loss.face_perceptual", "regularizers.face_perceptual"),
    ("loss.planes", "regularizers.planes"),
    ("loss.points", "regularizers.points"),
    ("loss.rays", "regularizers.rays"),
    ("loss.temporal", "regularizers.temporal"),
    ("loss.latents", "regularizers.latents"),
    (".consistency", "regularizers.consistency"),
    ("sides.least", "novel_views.min_yaw"),
    ("sides.most", "novel_views.max_yaw"),
    ("sides.set_share", "novel_views.random_expression_share"),
    ("sides.strength", "novel_views.max_expression"),
    ("sides", "novel_views"),
    ("nelf.phases.enlarge", None),
    ("detection.other_look", "detection.other_appearance"),
    ("detection.same_look", "detection.same_appearance"),
    ("detection.alone_look", "detection.alone_appearance"),
)
"""Old name, with as many of its parents as tell it from others (a dot before it: none at all), and its new place beside them; None for
what did nothing. Each rule sees what those before it made."""

RENAMED_VALUES: tuple[tuple[str, Any, Any], ...] = (
    ("init", "network", "prior"),
    ("init", "none", "gray"),
    ("init", "grey", "gray"),
)
"""New name of a key, old value, new value."""

RENAMED_TENSORS: dict[str, dict[str, str]] = {"nelf": {"centre": "center"}}
"""New name by old name of an avatar's tensors, by kind of avatar."""

Path = tuple[str, ...]
TensorLike = TypeVar("TensorLike")  # torch takes seconds to load, and recipes need none of it


def upgrade_tensors(kind: str, tensors: Mapping[str, TensorLike]) -> dict[str, TensorLike]:
    """The same tensors with today's names.

    Args:
        kind: of avatar, as its file says.
        tensors: by name as read from the file; today's names stay.
    """
    names = RENAMED_TENSORS.get(kind, {})
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def upgrade_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same recipe with today's names.

    Args:
        values: nested mapping as read from a file of an older format; today's names in it stay.
    """
    upgraded: dict[str, Any] = {}
    for old, value in _leaves(values, ()):
        place = _rename(old)
        if place is None:
            continue
        if isinstance(value, list):
            value = [_upgrade_item(item, old) if isinstance(item, Mapping) else item for item in value]
        inner = upgraded
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
        inner[place[-1]] = next((new for key, former, new in RENAMED_VALUES if (key, former) == (place[-1], value)), value)
    return upgraded


def _leaves(values: Mapping[str, Any], parents: Path) -> Iterator[tuple[Path, Any]]:
    for key, value in values.items():
        path = (*parents, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def _upgrade_item(item: Mapping[str, Any], parents: Path) -> dict[str, Any]:
    """One of a list's mappings, whose keys may have been renamed but have not moved."""
    places = {key: _rename((*parents, str(key))) for key in item}
    return {place[-1]: item[key] for key, place in places.items() if place is not None}


def _rename(path: Path) -> Path | None:
    """Today's place of an old one; None for what is left out."""
    for old, new in RENAMED_KEYS:
        parts = tuple(old.removeprefix(".").split("."))
        for start in range(1 if old.startswith(".") else len(path) - len(parts) + 1):
            if path[start : start + len(parts)] == parts:
                if new is None:
                    return None
                path = (*path[:start], *new.split("."), *path[start + len(parts) :])
                break
    return path
