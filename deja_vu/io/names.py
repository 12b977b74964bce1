"""Short, distinct names for inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from deja_vu.core.errors import InputError


def distinct_names(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """A name for each path by which it is told from the others: the shortest tail that does, its parts joined by dashes.

    `me.mp4` is called me, `a/track` and `b/track` are a-track and b-track, `me.mp4` and `me.mov` keep their suffixes.

    Args:
        paths: files or folders, there or not.
        taken: names that are something else's.

    Returns:
        Names without slashes, in the order of the paths.

    Raises:
        InputError: a path is given twice.
    """
    places = [path.absolute() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{path} is given twice. Give every input once.")
    tails = [_tails(place) for place in places]
    depth = [0] * len(places)
    while True:
        names = [tail[level] for tail, level in zip(tails, depth, strict=True)]
        count = Counter(names)
        alike = [number for number, name in enumerate(names) if count[name] > 1 or name in taken]
        longer = [number for number in alike if depth[number] + 1 < len(tails[number])]
        if not longer:
            return _number_names(names, taken)
        for number in longer:
            depth[number] += 1


def _tails(place: Path) -> list[str]:
    """What a path may be called, the shortest first."""
    parts = [part for part in place.parts if part != place.anchor]
    short = [] if place.is_dir() or not place.suffix else [place.stem]
    return [*short, *("-".join(parts[-length:]) for length in range(1, len(parts) + 1))] or ["root"]


def _number_names(names: Sequence[str], taken: Collection[str]) -> list[str]:
    """Names that are alike down to the root of the file system, such as a-b and a/b, told apart by numbers."""
    found: list[str] = []
    for name in names:
        number, numbered = 1, name
        while numbered in found or numbered in taken or (numbered != name and numbered in names):
            number += 1
            numbered = f"{name}-{number}"
        found.append(numbered)
    return found
