"""JSON and YAML written by others: read within a size limit, or refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from deja_vu.core.errors import FormatError

MAX_JSON = 64 << 20
"""Largest JSON file, bytes; an hour's log of a training has 2 MB."""
MAX_YAML = 256 << 10
"""Largest YAML file, bytes; it is read at 100 kB a second. A recipe has 8 kB, a script of an hour 100."""
UNREADABLE = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError)
"""What parsers of text raise at what they did not expect: PyYAML's constructors of dates and numbers raise any of these."""
OCTAL = re.compile(r"[-+]?0[0-9_]+")
"""Whole numbers that YAML 1.1 reads in eights."""


class _Loader(yaml.SafeLoader):
    """Plain values without aliases, by which a file of three hundred bytes can ask for all memory, and without keys that stand twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it holds an alias (*name); write the value out")
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: Any) -> int:
        """A number in tens: 0100 means 64 to YAML 1.1, a hundred to nearly everybody, and a text to YAML 1.2."""
        if OCTAL.fullmatch(node.value):
            raise yaml.YAMLError(f"'{node.value[:40]}' begins with a zero in line {node.start_mark.line + 1}; write it without")
        return int(super().construct_yaml_int(node))

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:  # of two values the last would count, and nobody would be told
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f"'{key.value[:40]}' occurs twice, again in line {key.start_mark.line + 1}; leave one out")
                seen.add(key.value)
        return node


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        FormatError: it cannot be read, is too large, no JSON, or nested too deeply.
    """
    return parse_json(_read_text(path, MAX_JSON), str(path))


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of some JSON.

    Args:
        text: JSON.
        where: it comes from, for the message.

    Raises:
        FormatError: no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except UNREADABLE as error:
        raise FormatError(f"{where} is damaged or not JSON ({in_short(error)}).") from error


def read_yaml(path: Path) -> Any:
    """The value of a YAML file: mappings, lists, texts, numbers, dates.

    Raises:
        FormatError: it cannot be read, is too large, no YAML, nested too deeply, or holds aliases.
    """
    text = _read_text(path, MAX_YAML)
    try:
        return yaml.load(text, Loader=_Loader)
    except UNREADABLE as error:
        raise FormatError(f"{path} is not valid YAML ({in_short(error)}).") from error


def in_short(error: BaseException, length: int = 160) -> str:
    """What an error of a library says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def _read_text(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise FormatError(f"{path} is larger than {most >> 10} kB, which no such file is. Give the right file.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not text in UTF-8 ({in_short(error)}). Save it as UTF-8.") from error
