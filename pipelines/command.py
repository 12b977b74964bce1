"""A command of `deja-vu`: its function, and how its flags are shown and parsed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deja_vu.core.errors import ConfigError
from deja_vu.pipelines.flags import ITEM, Option, Words, arguments_of, keywords_of, options_of, sort_words
from deja_vu.pipelines.help_text import command_help


@dataclass(frozen=True, kw_only=True)
class Command:
    """What each file in `pipelines/commands` defines as COMMAND."""

    run: Callable[..., object]
    """Signature and docstring are the command's flags and help; see `pipelines.flags`."""
    example: str
    """A complete command line."""
    main: Mapping[str, str] = field(default_factory=dict)
    """Values of a recipe that `--help` shows, and the short names under which it does, as {"track.split": "split"}; all others are for
    `--help-all`. Without any, `--help` shows everything."""
    defaults: Callable[[Words], Mapping[str, Any]] = lambda words: {}
    """Defaults of parameters that depend on what the user wrote, as the recipe does on `--config`."""
    unread: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda arguments: {}
    """Beginnings of the names of flags that these arguments leave without effect, and the flag that gives them one."""

    def __call__(self, name: str, words: Sequence[str]) -> None:
        """Do what the user wrote, or print the command's help.

        Raises:
            DejaVuError: of any kind.
        """
        options = options_of(self.run)
        given = sort_words(words, options, {short: long for long, short in self.main.items()}, name)
        defaults = self.defaults(given)
        if given.help:
            print(self.help(name, given, options, keywords_of(self.run, given, defaults)))
            return
        positional, keywords = arguments_of(self.run, given, defaults, name, self.example)
        unread = self.unread(keywords)
        for flag in given.flags.values():
            for beginning, remedy in unread.items():
                if flag.option.name.startswith(beginning):
                    raise ConfigError(f"{flag.typed} changes nothing here: another kind of avatar has it. Add {remedy}, or leave it out.")
        self.run(*positional, **keywords)

    def help(self, name: str, given: Words, options: Sequence[Option], values: Mapping[str, Any]) -> str:
        """The text of `--help` or `--help-all`."""
        unread = self.unread(values)
        read = [option for option in options if not option.name.startswith(tuple(unread))]
        shown = read
        if given.help == "help" and self.main:
            by_name = {option.name: option for option in read}
            shown = [option for option in read if len(option.path) == 1] + [by_name[main] for main in self.main if main in by_name]
        text = command_help(self.run, shown, self.main, lambda option: value_in(values, option), command=name, example=self.example)
        if len(shown) < len(read):
            return f"{text}\nAll {len(read)} flags: deja-vu {name} --help-all"
        return "\n".join([text, *(f"Flags of another kind of avatar: deja-vu {name} {remedy} --help-all" for remedy in unread.values())])


def value_in(values: Mapping[str, Any], option: Option) -> Any:
    """The value of an option among a command's arguments; of items, the first one's."""
    name, *rest = option.path
    value = values.get(name)
    for part in rest:
        value = (value[0] if value else None) if part == ITEM else getattr(value, part, None)
    return value
