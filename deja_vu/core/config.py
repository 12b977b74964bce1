"""Recipes on disk: YAML that overrides dataclass defaults, and nothing else."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import dacite
import yaml

from deja_vu.core.documents import read_yaml
from deja_vu.core.errors import ConfigError, FormatError, refuse_other_version
from deja_vu.core.ranges import allows_none, check_config, describe_type, plain_type, words_beside
from deja_vu.core.upgrade import CONFIG_FORMAT, upgrade_recipe

Config = TypeVar("Config")


def load_config(kind: type[Config], path: Path) -> Config:
    """A config with some defaults overridden by a YAML file.

    Args:
        kind: frozen dataclass, every field with a default.
        path: YAML mapping of field names, nested like the dataclass. Without `format`, or with a lower one, it may use older names.

    Raises:
        ConfigError: no such file, not a mapping, an unknown key (the nearest known one is suggested), a value of another type,
            or a number out of its range.
        FormatError: a newer version wrote it.
    """
    if not path.is_file():
        raise ConfigError(f"There is no config file {path}.")
    try:
        overrides = read_yaml(path)
    except FormatError as error:
        raise ConfigError(str(error)) from error
    overrides = {} if overrides is None else overrides  # an empty file
    if not isinstance(overrides, dict):
        raise ConfigError(f"{path} must hold a mapping of option names to values, not {type(overrides).__name__}.")
    version = overrides.pop("format", None)
    if version is None or version in range(1, CONFIG_FORMAT):
        overrides = upgrade_recipe(overrides)
    else:
        refuse_other_version(f"{path} has recipe format", version, CONFIG_FORMAT, "Leave the line 'format' out.")
    _refuse_wrong(kind, overrides, str(path), "")
    try:
        config = dacite.from_dict(kind, _overlay(asdict(cast(Any, kind())), overrides), dacite.Config(strict=True, cast=[tuple, float]))
    except (dacite.DaciteError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    check_config(config, str(path))
    return config


def _overlay(defaults: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The default of every value that is not overridden, at every depth: a field's own default may differ from that of its class."""
    nested = {
        name: _overlay(defaults[name], value)
        for name, value in overrides.items()
        if isinstance(value, dict) and isinstance(defaults.get(name), dict)
    }
    return defaults | overrides | nested


def config_text(config: Any) -> str:
    """Every value of a config as YAML."""
    return yaml.safe_dump({"format": CONFIG_FORMAT} | _to_plain(asdict(config)), sort_keys=False)


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return value


def _refuse_wrong(kind: type, values: dict[str, Any], where: str, prefix: str) -> None:
    """Refuse keys that are not known and values of another type, by the whole name of their key."""
    known = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)]
    for key, value in values.items():
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1, cutoff=0.0)
            raise ConfigError(f"{where}: unknown option '{prefix}{key}'. Did you mean '{close[0]}'? Known here: {', '.join(names)}.")
        wanted = plain_type(known[key])
        many = get_origin(wanted) in (list, tuple)
        item = plain_type(get_args(wanted)[0]) if many else wanted
        if value is None and allows_none(known[key]):
            continue
        if many and not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: {prefix}{key} is {value!r}. Expected a list.")
        for place, part in enumerate(value if many else [value]):
            name = f"{prefix}{key}.{place}" if many else f"{prefix}{key}"
            if isinstance(item, type) and is_dataclass(item) and isinstance(part, dict):
                _refuse_wrong(item, part, where, f"{name}.")
            elif not (_fits(part, item) or part in words_beside(known[key])):
                raise ConfigError(f"{where}: {name} is {part!r}. Expected {describe_type(known[key])}.")


def _fits(value: Any, kind: Any) -> bool:
    """Whether YAML's value can be one of a plain type; numbers may be written as text, as YAML takes 1e-3 for one."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        try:
            return not isinstance(value, bool) and math.isfinite(float(value))
        except (TypeError, ValueError):
            return False
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in (bool, str) else not is_dataclass(kind)
