"""What `--help` prints: all commands, the main flags of one command, or all of its flags."""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from deja_vu.core.ranges import plain_type
from deja_vu.pipelines.flags import ITEM, Option

INDENT = 26
"""Column at which explanations begin."""
WIDEST = 100
"""Columns that are used at most."""
METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def overview(commands: Mapping[str, str], about: str) -> str:
    """The help of the program: every command with its one line."""
    lines = [about, "", "usage: deja-vu COMMAND ...", ""]
    for name, line in commands.items():
        lines += row(name, line)
    return "\n".join([*lines, "", *row("COMMAND --help", "what a command takes"), *row("--version", "version and commit"), ""])


def command_help(
    function: Callable[..., object],
    options: Sequence[Option],
    main: Mapping[str, str],
    value_of: Callable[[Option], Any],
    *,
    command: str,
    example: str,
) -> str:
    """The help of a command.

    Args:
        function: the command; its docstring explains it.
        options: to be shown.
        main: the short name of some flags, by their own name.
        value_of: default of an option.
        command: its name.
        example: a complete command line.
    """
    positional = [option for option in options if option.positional]
    required = [f"--{option.name} {metavar(option)}" for option in options if option.required and not option.positional]
    words = [f"{option.shown} ..." if option.many else option.shown for option in positional]
    about = inspect.cleandoc(function.__doc__ or "").split("\n\nArgs:")[0]
    lines = [*textwrap.wrap(" ".join(["usage: deja-vu", command, *words, *required, "[flags]"]), columns()), ""]
    lines += [*(line for part in about.split("\n") for line in textwrap.wrap(part, columns()) or [""]), ""]
    for heading, members in group_options(options, main).items():
        lines += ["", f"{heading}:"] if heading else []
        for option in members:
            lines += row(left_of(option, main.get(option.name)), f"{document_of(option)} {default_of(option, value_of)}".strip())
    return "\n".join([*lines, "", f"Example: {example}"])


def group_options(options: Sequence[Option], main: Mapping[str, str]) -> dict[str, list[Option]]:
    """Options by their heading, in order; those under "", which come first, have none.

    Args:
        options: to be shown.
        main: options with a short name, which make no heading of their own.
    """
    groups: dict[str, list[Option]] = {"": []}
    for option in options:
        if option.name not in main:
            groups.setdefault(option.name.rpartition(".")[0], [])
    for option in options:
        above = option.name.rpartition(".")[0]
        groups[above if above in groups else ""].append(option)
    return groups


def left_of(option: Option, short: str | None) -> str:
    """The flag as it is typed, under its short name if it has one."""
    if option.positional:
        return option.shown
    name = short or option.name
    return f"--{name}" if option.kind is bool else f"--{name} {metavar(option)}"


def metavar(option: Option) -> str:
    """What stands for the value."""
    kind = plain_type(get_args(option.kind)[0]) if option.many else option.kind
    text = "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else METAVARS.get(kind, "VALUE")
    return f"{text} ..." if option.many else text


def default_of(option: Option, value_of: Callable[[Option], Any]) -> str:
    """The default and the range, in brackets; nothing where there is nothing to say."""
    if option.positional or option.required:
        return ""
    value, said = value_of(option), []
    if option.range is not None and str(option.range):
        said.append(str(option.range))
    if option.kind is bool and value is True:
        above, dot, last = option.name.rpartition(".")
        said.append(f"--{above}{dot}no-{last} to leave it out")
    elif value not in (None, False, (), ""):
        words = [f"{part:g}" if isinstance(part, float) else str(part) for part in (value if isinstance(value, tuple | list) else [value])]
        said.append(f"default: {' '.join(words)}")
    return f"[{'; '.join(said)}]" if said else ""


def row(left: str, text: str) -> list[str]:
    """A name and its explanation, side by side where the name is short enough."""
    wrapped = textwrap.wrap(text, columns() - INDENT, break_on_hyphens=False) or [""]
    if len(left) + 4 <= INDENT:
        wrapped[0] = f"  {left}".ljust(INDENT) + wrapped[0]
    else:
        wrapped = [f"  {left}", " " * INDENT + wrapped[0], *wrapped[1:]]
    return [wrapped[0].rstrip(), *(line if line.startswith(" ") else " " * INDENT + line for line in wrapped[1:])]


def columns() -> int:
    """Width of the text: the terminal's, 80 where there is none."""
    return max(60, min(WIDEST, shutil.get_terminal_size((80, 24)).columns))


def document_of(option: Option) -> str:
    """What the function's docstring, or the lines under a dataclass' field, say about an option."""
    name = [part for part in option.path if part != ITEM][-1]
    if inspect.isfunction(option.owner):
        return document_arguments(option.owner).get(name, "")
    return document_fields(option.owner).get(name, "")


def document_arguments(function: Callable[..., object]) -> dict[str, str]:
    """The texts of `Args:` in a docstring."""
    texts: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[2].split("\n"):
        if line and not line.startswith(" "):
            break
        first, colon, rest = line.strip().partition(": ")
        if line.startswith("    ") and not line.startswith("     ") and colon:
            name, line = first, rest
        if name:
            texts[name] = f"{texts.get(name, '')} {line.strip()}".strip()
    return texts


def document_fields(owner: type) -> dict[str, str]:
    """The text under each field of a dataclass, its bases' among them."""
    texts: dict[str, str] = {}
    for kind in reversed([kind for kind in owner.__mro__ if is_dataclass(kind)]):
        texts |= document_own_fields(kind)
    return texts


def document_own_fields(owner: type) -> dict[str, str]:
    """The same of one class alone."""
    body = next(node for node in parse_module(owner.__module__).body if isinstance(node, ast.ClassDef) and node.name == owner.__name__).body
    texts: dict[str, str] = {}
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and isinstance(following, ast.Expr):
            if isinstance(following.value, ast.Constant) and isinstance(following.value.value, str):
                texts[statement.target.id] = " ".join(following.value.value.split())
    return texts


@cache
def parse_module(module: str) -> ast.Module:
    """The source of a loaded module."""
    return ast.parse(inspect.getsource(sys.modules[module]))
