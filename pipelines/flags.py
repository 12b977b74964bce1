"""Flags from a signature: which arguments are positional, which are flags, and how a command line becomes arguments.

A command is a function. Its positional parameters are what stands without a flag, its keyword parameters are flags, and a parameter that
is a dataclass gives a flag for each of its values: `recipe.track.fit.steps` is `--track.fit.steps`. Items of a tuple of dataclasses are
counted from 0: `--gaussian.phases.0.steps`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from deja_vu.core.errors import ConfigError
from deja_vu.core.ranges import (
    Range,
    allows_none,
    check_config,
    describe_type,
    plain_type,
    range_of,
    say_largest,
    split_annotation,
    words_beside,
)
from deja_vu.core.upgrade import upgrade_recipe

FLAT = "flat"
"""Beside a dataclass' type: its values have no prefix of their own."""
ITEM = "N"
"""Stands in a flag's name for the number of an item."""


@dataclass(frozen=True)
class Option:
    """One flag, or one argument that stands without a flag."""

    path: tuple[str, ...]
    """Parameter, and the fields below it; `N` for an item of a tuple."""
    name: str
    """Without its dashes."""
    annotation: Any
    owner: Any
    """Function or dataclass that documents it."""
    positional: bool = False
    required: bool = False

    @property
    def kind(self) -> Any:
        """Type without ranges and None."""
        return plain_type(self.annotation)

    @property
    def optional(self) -> bool:
        """Whether None is a value."""
        return allows_none(self.annotation)

    @property
    def many(self) -> bool:
        """Whether it takes several words."""
        return get_origin(self.kind) in (list, tuple)

    @property
    def range(self) -> Range | None:
        """The numbers that it takes."""
        return range_of(self.annotation)

    @property
    def words(self) -> tuple[str, ...]:
        """Words that it takes beside the values of its kind, as `all` beside a number."""
        return words_beside(self.annotation)

    @property
    def shown(self) -> str:
        """As the user writes it."""
        return self.name.upper().replace("-", "_") if self.positional else f"--{self.name}"

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        return describe_type(self.annotation)


@dataclass(frozen=True)
class Flag:
    """A flag of a command line."""

    typed: str
    """As the user wrote it."""
    option: Option
    path: tuple[str, ...]
    """Of the option, with numbers in place of `N`."""
    values: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """A command line, sorted but not yet understood."""

    positional: tuple[str, ...]
    flags: Mapping[tuple[str, ...], Flag] = field(default_factory=dict)
    """By path."""
    help: Literal["", "help", "help-all"] = ""

    def text(self, *path: str) -> str | None:
        """The one word after a flag, if it is there."""
        found = self.flags.get(path)
        return found.values[0] if found else None


def options_of(function: Callable[..., object]) -> list[Option]:
    """Every argument of a command, in the order of its signature."""
    hints = get_type_hints(function, include_extras=True)
    options: list[Option] = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind = plain_type(hints[name])
        if isinstance(kind, type) and is_dataclass(kind):
            options += options_below(kind, (name,), "")
            continue
        positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        required = parameter.default is inspect.Parameter.empty
        options.append(Option((name,), name.strip("_").replace("_", "-"), hints[name], function, positional, required))
    return options


def options_below(owner: type, path: tuple[str, ...], prefix: str) -> Iterator[Option]:
    """Flags of a dataclass' values."""
    hints = get_type_hints(owner, include_extras=True)
    for item in fields(owner):
        kind, beside = split_annotation(hints[item.name])
        below, name = (*path, item.name), f"{prefix}{item.name.replace('_', '-')}"
        parts = get_args(kind) if get_origin(kind) is tuple else ()
        if isinstance(kind, type) and is_dataclass(kind):
            yield from options_below(kind, below, prefix if FLAT in beside else f"{name}.")
        elif parts and isinstance(parts[0], type) and is_dataclass(parts[0]):
            yield from options_below(parts[0], (*below, ITEM), f"{name}.{ITEM}.")
        else:
            yield Option(below, name, hints[item.name], owner)


def sort_words(words: Sequence[str], options: Sequence[Option], other_names: Mapping[str, str], command: str) -> Words:
    """Which words belong to which flag.

    Args:
        words: after the command's name.
        options: of the command.
        other_names: further names of flags, as {"split": "track.split"}.
        command: its name, for messages.

    Raises:
        ConfigError: a flag that the command does not have, or one without its value.
    """
    pending = list(words)
    positional: list[str] = []
    flags: dict[tuple[str, ...], Flag] = {}
    asked: Literal["", "help", "help-all"] = ""
    while pending:
        word = pending.pop(0)
        if word in ("-h", "--help", "--help-all"):
            asked = "help-all" if word == "--help-all" else asked or "help"
        elif word == "--":
            positional += pending
            break
        elif not word.startswith("-") or word == "-" or is_number(word):
            positional.append(word)
        else:
            flag = take_flag(word, pending, options, other_names, command)
            flags[flag.path] = flag
    return Words(tuple(positional), flags, asked)


def take_flag(word: str, pending: list[str], options: Sequence[Option], other_names: Mapping[str, str], command: str) -> Flag:
    """The flag that a word begins; the words that are its values are taken from `pending`."""
    given, equals, value = word.partition("=")
    name = given.lstrip("-").replace("_", "-")
    found = find_flag(other_names.get(name, name), options)
    if found is None:
        found, value = find_old_flag(name, value or (pending[0] if pending else ""), options, other_names)
        if found is None:
            raise ConfigError(unknown_flag(given, options, other_names, command))
        if not equals and pending and found[0].kind is not bool:
            pending.pop(0)
        equals = "" if found[0].kind is bool and not equals else "="
    option, path, negated = found
    if option.kind is bool:
        text = value.lower() if equals else "true"
        if text not in ("true", "false"):
            raise ConfigError(f"{given}={value}: expected true or false, or {given} alone.")
        return Flag(given, option, path, (str((text == "true") != negated).lower(),))
    if equals:
        return Flag(given, option, path, (value,))
    values: list[str] = []
    while pending and (option.many or not values) and (not pending[0].startswith("-") or pending[0] == "-" or is_number(pending[0])):
        values.append(pending.pop(0))
    if not values:
        raise ConfigError(f"{given} needs a value: {option.expected}.")
    return Flag(given, option, path, tuple(values))


def find_flag(name: str, options: Sequence[Option]) -> tuple[Option, tuple[str, ...], bool] | None:
    """The option of a name, its path with numbers in place, and whether the name says no (`--no-resume`, `--track.no-mask`)."""
    parts = name.split(".")
    general = ".".join(ITEM if part.isdecimal() else part for part in parts)
    numbers = iter([part for part in parts if part.isdecimal()])
    above, dot, last = general.rpartition(".")
    negated = f"{above}{dot}{last.removeprefix('no-')}" if last.startswith("no-") else general.removeprefix("no-")
    for option in options:
        if option.positional or (option.name != general and not (option.kind is bool and option.name == negated)):
            continue
        path = tuple(next(numbers, ITEM) if part == ITEM else part for part in option.path)
        return option, path, option.name != general
    return None


def find_old_flag(
    name: str, value: str, options: Sequence[Option], other_names: Mapping[str, str]
) -> tuple[tuple[Option, tuple[str, ...], bool] | None, str]:
    """The option that an older version called so, and its value in today's words."""
    nested: Any = value
    for part in reversed([part.replace("-", "_") for part in name.split(".") if not part.isdecimal()]):
        nested = {part: nested}
    nested, today = upgrade_recipe(nested), []
    while isinstance(nested, dict) and nested:
        part, nested = next(iter(nested.items()))
        today.append(part.replace("_", "-"))
    for place, part in enumerate(name.split(".")):
        if part.isdecimal():
            today.insert(place, part)
    found = ".".join(today)
    return find_flag(other_names.get(found, found), options), str(nested)


def unknown_flag(given: str, options: Sequence[Option], other_names: Mapping[str, str], command: str) -> str:
    """What to say of a flag that is not there: the nearest one, also by the last part of its name."""
    name = given.lstrip("-").replace("_", "-")
    known = [option.name for option in options if not option.positional]
    close = difflib.get_close_matches(name, [*other_names, *known], n=1, cutoff=0.6)
    if not close:
        endings = {text.rpartition(".")[2] for text in known}
        for ending in difflib.get_close_matches(name.rpartition(".")[2], endings, n=1, cutoff=0.7):
            close = [text for text in known if text.rpartition(".")[2] == ending][:3]
    hint = f" Did you mean {' or '.join(f'--{text}' for text in close)}?" if close else ""
    return f"{command} has no flag {given}.{hint} All flags: deja-vu {command} --help-all"


def is_number(word: str) -> bool:
    """Whether a word that begins with a dash is a negative number, not a flag."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def convert(words: Sequence[str], option: Option, typed: str) -> Any:
    """The value that some words mean.

    Raises:
        ConfigError: names the flag, the value and what was expected.
    """
    kind = option.kind
    if option.optional and list(words) == ["None"]:
        return None
    if not option.many and words[0] in option.words:
        return words[0]
    if not option.many:
        return convert_one(words[0], kind, option, typed)
    parts = get_args(kind)
    if get_origin(kind) is tuple and parts[-1] is not Ellipsis and len(words) != len(parts):
        raise ConfigError(f"{typed} takes {len(parts)} values, not {len(words)}.")
    values = [convert_one(word, plain_type(parts[0]), option, typed) for word in words]
    return tuple(values) if get_origin(kind) is tuple else values


def convert_one(word: str, kind: Any, option: Option, typed: str) -> Any:
    """The value of one word."""
    refusal = f"{typed} {word[:80]}: expected {option.expected}."
    if kind is Path and not word:  # a variable that is not set: no path would be this very folder
        raise ConfigError(refusal)
    if get_origin(kind) is Literal:
        if word in get_args(kind):
            return word
        close = difflib.get_close_matches(word, get_args(kind), n=1)
        raise ConfigError(refusal + (f" Did you mean {close[0]}?" if close else ""))
    try:
        value = word == "true" if kind is bool else kind(word)
    except ValueError:
        raise ConfigError(refusal) from None
    if isinstance(value, int | float) and not isinstance(value, bool) and value not in (option.range or Range()):
        raise ConfigError(refusal + say_largest(value))
    return value


def arguments_of(
    function: Callable[..., object], words: Words, defaults: Mapping[str, Any], command: str, example: str
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments for a command.

    Args:
        function: the command.
        words: what the user wrote.
        defaults: of parameters whose default is not that of the signature.
        command: its name, for messages.
        example: a command line that is complete, for messages.

    Raises:
        ConfigError: something is missing, superfluous or has a value that means nothing.
    """
    options = options_of(function)
    positional = take_positional(words.positional, [option for option in options if option.positional], command, example)
    for option in options:
        if option.required and not option.positional and option.path not in words.flags:
            raise ConfigError(f"{command} needs {option.shown}. Example: {example}")
    keywords = keywords_of(function, words, defaults)
    for value in keywords.values():
        check_config(value)
    return positional, keywords


def keywords_of(function: Callable[..., object], words: Words, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a command, as far as the user or a default gives them; see `arguments_of`."""
    keywords: dict[str, Any] = dict(defaults)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is not inspect.Parameter.empty:
            keywords.setdefault(name, parameter.default)
    for path, flag in words.flags.items():
        value = convert(flag.values, flag.option, flag.typed)
        keywords[path[0]] = with_value(keywords.get(path[0]), path[1:], value, flag.typed)
    return keywords


def take_positional(words: Sequence[str], options: Sequence[Option], command: str, example: str) -> list[Any]:
    """The arguments that stand without a flag."""
    values: list[Any] = []
    left = list(words)
    for option in options:
        taken = left if option.many else left[:1]
        left = left[len(taken) :]
        if not taken and not option.many:
            raise ConfigError(f"{command} needs {option.shown}. Example: {example}")
        values.append(convert(taken, option, option.shown))
    if left:
        raise ConfigError(f"'{left[0]}' is one argument too many. Example: {example}")
    return values


def with_value(config: Any, path: tuple[str, ...], value: Any, typed: str) -> Any:
    """The same dataclass, or tuple of them, with one value replaced."""
    if not path:
        return value
    name, *rest = path
    if isinstance(config, tuple):
        if name == ITEM or int(name) >= len(config):
            raise ConfigError(f"{typed}: items are counted from 0, and the recipe has {len(config)} here.")
        return (*config[: int(name)], with_value(config[int(name)], tuple(rest), value, typed), *config[int(name) + 1 :])
    return replace(config, **{name: with_value(getattr(config, name), tuple(rest), value, typed)})
