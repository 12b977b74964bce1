"""Which numbers an option takes: written next to its type, checked in one place for recipes and flags alike.

    size: Annotated[int, Range(1, 8192)] = 512

The names below are the ranges that recur. A bound is part of the range unless `above` says otherwise; None leaves a side open. What is
not finite is in no range, nor what is beyond `LARGEST`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from deja_vu.core.errors import ConfigError

LARGEST = 1e9
"""No range goes beyond, as no quantity here does; larger numbers overflow what libraries count with."""


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    """Bound that is not itself in the range."""

    def __contains__(self, number: float) -> bool:
        if not abs(number) <= LARGEST:
            return False
        low = (self.least is None or number >= self.least) and (self.above is None or number > self.above)
        return low and (self.most is None or number <= self.most)

    def __str__(self) -> str:
        low = f"above {self.above:g}" if self.above is not None else "" if self.least is None else f"from {self.least:g}"
        if self.most is None:
            return low if self.above is not None or not low else f"{low} up"
        return f"{low} {'up ' if self.above is not None else ''}to {self.most:g}".strip()


Count = Annotated[int, Range(0)]
"""How many; 0 is none."""
Positive = Annotated[int, Range(1)]
"""How many, at least one."""
Frames = Annotated[int, Range(1, 1_000_000)]
"""Length of what is made up, which is held in memory; nine hours at 30 a second."""
BatchSize = Annotated[int, Range(1, 4096)]
"""Samples that one step sees, which are held in memory."""
Pixels = Annotated[int, Range(16, 8192)]
"""Side of a picture."""
Texels = Annotated[int, Range(64, 512)]
"""Side of a UV map."""
Share = Annotated[float, Range(0, 1)]
"""A part of a whole."""
Weight = Annotated[float, Range(0)]
"""Weight of a term; 0 leaves it out."""
Rate = Annotated[float, Range(above=0)]
"""A positive quantity: a learning rate, a length, a frequency."""
Finite = Annotated[float, Range()]
"""Any number that is finite."""


def split_annotation(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without what `Annotated` says beside it, and that."""
    if get_origin(annotation) is Annotated:
        kind, *beside = get_args(annotation)
        return kind, tuple(beside)
    return annotation, ()


def plain_type(annotation: Any) -> Any:
    """A type without ranges and without None."""
    kind, _ = split_annotation(annotation)
    if get_origin(kind) in (Union, types.UnionType):
        return plain_type(next(part for part in get_args(kind) if part is not type(None)))
    return kind


def allows_none(annotation: Any) -> bool:
    """Whether None is a value of a type."""
    return type(None) in get_args(split_annotation(annotation)[0])


def words_beside(annotation: Any) -> tuple[str, ...]:
    """Words that a type allows beside the values of its kind, as `all` in `int | Literal["all"]`."""
    parts = get_args(split_annotation(annotation)[0])
    return tuple(word for part in parts[1:] if get_origin(part) is Literal for word in get_args(part))


NOUNS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", Path: "a path", bool: "true or false"}
"""What values of a type are called."""


def describe_type(annotation: Any) -> str:
    """What a value must be, in words: `a whole number from 1 up`, `tail or blocks`."""
    kind = plain_type(annotation)
    if get_origin(kind) in (list, tuple):
        kind = plain_type(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return " or ".join(", ".join(map(str, get_args(kind))).rsplit(", ", 1))
    return " or ".join([f"{NOUNS.get(kind, 'a value')} {range_of(annotation) or ''}".strip(), *words_beside(annotation)])


def say_largest(value: float) -> str:
    """What is to be added where a number is refused that no range holds."""
    return f" No number is beyond {LARGEST:g}." if abs(value) > LARGEST and value != math.inf and value != -math.inf else ""


def range_of(annotation: Any) -> Range | None:
    """The range that an annotation names, also inside `... | None` or of a tuple's items; None where it names none."""
    kind, beside = split_annotation(annotation)
    inner = (range_of(part) for part in get_args(kind))
    return next((item for item in beside if isinstance(item, Range)), None) or next((item for item in inner if item), None)


def check_config(config: Any, where: str = "") -> None:
    """Refuse a config that holds a number out of its range, or values that do not go together.

    Args:
        config: dataclass, with others inside; one that has a method `misfit` says by it what does not go together in it, if anything.
        where: begins the message, as the file that the config was read from.

    Raises:
        ConfigError: names the option, the value and the range.
    """
    for name, value, allowed in _numbers(config, ""):
        if value not in allowed:
            shown = f"{value:g}" if isinstance(value, float) else str(value)[:40]
            expected = f"Expected a number {str(allowed) or 'that is finite'}.{say_largest(value)}"
            raise ConfigError(f"{where}{': ' if where else ''}{name} is {shown}. {expected}")

    for name, part in _parts(config, ""):
        if hasattr(part, "misfit") and (misfit := part.misfit()):
            raise ConfigError(f"{where}{': ' if where else ''}{f'{name}: ' if name else ''}{misfit}")


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every dataclass inside a value, itself included, by its dotted name."""
    if is_dataclass(value) and not isinstance(value, type):
        yield name, value
        for item in fields(value):
            yield from _parts(getattr(value, item.name), f"{name}.{item.name}".lstrip("."))
    elif isinstance(value, tuple | list):
        for place, part in enumerate(value):
            yield from _parts(part, f"{name}.{place}")


def _numbers(value: Any, name: str, allowed: Range | None = None) -> Iterator[tuple[str, float, Range]]:
    """Every number inside a value, by its dotted name, with its range."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value), include_extras=True)
        for item in fields(value):
            yield from _numbers(getattr(value, item.name), f"{name}.{item.name}".lstrip("."), range_of(hints[item.name]))
    elif isinstance(value, tuple | list):
        for place, part in enumerate(value):
            yield from _numbers(part, f"{name}.{place}", allowed)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value, allowed or Range()
