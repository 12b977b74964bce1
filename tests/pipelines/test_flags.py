"""Words of a command line become arguments of a function."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest

from deja_vu.core.errors import ConfigError
from deja_vu.core.ranges import Count, Positive, Share, plain_type
from deja_vu.pipelines.cli import COMMANDS, load_command
from deja_vu.pipelines.command import Command
from deja_vu.pipelines.flags import FLAT, Option, convert, options_of


@dataclass(frozen=True)
class Stage:
    steps: Positive = 5
    rate: Share = 0.5


@dataclass(frozen=True)
class Inner:
    gain: float = 1.0
    masks: bool = True


@dataclass(frozen=True)
class Config:
    inner: Inner = field(default_factory=lambda: Inner(gain=3.0))
    flat: Annotated[Stage, FLAT] = field(default_factory=Stage)
    stages: tuple[Stage, ...] = (Stage(1), Stage(2))
    limit: Count | None = None
    mode: Literal["auto", "on", "off"] = "auto"
    spins: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scored: Positive | Literal["all"] = 12


def called(*words: str) -> dict[str, object]:
    """What a command was called with."""
    seen: dict[str, object] = {}

    def run(
        first: Path, more: tuple[Path, ...], *, out: Path, resume: bool = False, names: tuple[str, ...] = (), config: Config = Config()
    ) -> None:
        """Do it."""
        seen.update(first=first, more=more, out=out, resume=resume, names=names, config=config)

    Command(run=run, example="deja-vu do a --out b", main={"inner.gain": "gain"})("do", words)
    return seen


def test_arguments_are_those_of_the_signature() -> None:
    seen = called("a", "b", "--out=c", "d", "--names", "x", "y", "--resume")
    assert (seen["first"], seen["more"], seen["out"]) == (Path("a"), (Path("b"), Path("d")), Path("c"))
    assert (seen["resume"], seen["names"]) == (True, ("x", "y"))
    assert seen["config"] == Config()


def test_a_number_may_be_a_word_instead() -> None:
    assert called("a", "--out", "c", "--scored", "all")["config"] == Config(scored="all")
    assert called("a", "--out", "c", "--scored=7")["config"] == Config(scored=7)


def test_flags_reach_every_depth_and_leave_the_rest() -> None:
    config = called(
        *("a", "--out", "c", "--inner.gain", "-2.5", "--inner.no-masks", "--steps", "9", "--stages.1.steps", "7", "--limit", "4"),
        *("--mode", "off", "--spins", "1", "-2", "3e-1"),
    )["config"]
    assert config == Config(Inner(-2.5, False), Stage(9), (Stage(1), Stage(7)), 4, "off", (1.0, -2.0, 0.3))


def test_a_flag_has_one_value_under_both_its_names() -> None:
    for name in ("--gain", "--inner.gain", "--inner.gain="):
        words = [f"{name}8"] if name.endswith("=") else [name, "8"]
        assert called("a", "--out", "c", *words)["config"] == Config(Inner(8.0))


def test_none_undoes_a_limit() -> None:
    assert called("a", "--out", "c", "--limit", "4", "--limit", "None")["config"] == Config()


def test_words_after_two_dashes_are_no_flags() -> None:
    assert called("a", "--out", "c", "--", "--steps")["more"] == (Path("--steps"),)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--out c", "needs FIRST"),
        ("a", "needs --out"),
        ("a --out", "--out needs a value: a path"),
        ("a --out=", "--out : expected a path"),
        ("a --out c --steps 0", "--steps 0: expected a whole number from 1 up"),
        ("a --out c --steps 2.5", "--steps 2.5: expected a whole number"),
        ("a --out c --rate 1.01", "--rate 1.01: expected a number from 0 to 1"),
        ("a --out c --gain nan", "--gain nan: expected a number"),
        ("a --out c --gain inf", "--gain inf: expected a number"),
        ("a --out c --limit -1", "--limit -1: expected a whole number from 0 up"),
        ("a --out c --scored 0", "--scored 0: expected a whole number from 1 up or all"),
        ("a --out c --mode of", "--mode of: expected auto, on or off. Did you mean off?"),
        ("a --out c --stages.2.steps 3", "--stages.2.steps: items are counted from 0, and the recipe has 2 here"),
        ("a --out c --stages.0.stps 3", "Did you mean --stages.N.steps?"),
        ("a --out c --spins 1 2", "--spins takes 3 values, not 2"),
        ("a --out c --resume=maybe", "expected true or false"),
    ],
)
def test_what_means_nothing_is_refused_with_the_flag_and_what_it_takes(words, expected) -> None:
    with pytest.raises(ConfigError) as refusal:
        called(*words.split())
    assert expected in str(refusal.value)


def numeric(command: str) -> list[Option]:
    """Options of a command that take numbers."""
    kinds = [(option, get_args(option.kind)[0] if option.many else option.kind) for option in options_of(load_command(command).run)]
    return [option for option, kind in kinds if plain_type(kind) in (int, float)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_of_every_command_has_a_range(command):
    """Below, above, and what is no quantity at all: refused with the flag's name before anything starts, in under 500 characters."""
    for option in numeric(command):
        assert option.range is not None, option.name
        assert option.range.least is not None or option.range.above is not None, f"{option.name} has no lower end"
        parts = get_args(option.kind)
        count = len(parts) if option.many and parts[-1] is not Ellipsis else 1
        senseless = ["nan", "inf", "-inf", "1e300", "-1e300", "9" * 400, "-" + "9" * 400, "1e9999", "0x10", "", "1,5"]
        for word in senseless:
            with pytest.raises(ConfigError, match=re.escape(f"{option.shown} {word[:20]}")) as refused:
                convert([word] * count, option, option.shown)
            assert len(str(refused.value)) < 500
