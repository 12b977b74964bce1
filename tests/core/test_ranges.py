from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from deja_vu.core.errors import ConfigError
from deja_vu.core.ranges import Count, Pixels, Positive, Range, Rate, Share, check_config, describe_type, range_of


@dataclass(frozen=True)
class Inner:
    share: Share = 0.5


@dataclass(frozen=True)
class Config:
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = (Inner(), Inner())
    sizes: tuple[Pixels, ...] = (64, 64)
    limit: Positive | None = None
    free: float = 0.0
    on: bool = True


def test_bounds_belong_to_a_range_and_above_does_not() -> None:
    assert [number in Range(0, 1) for number in (-1e-9, 0, 1, 1 + 1e-9)] == [False, True, True, False]
    assert [number in Range(above=0) for number in (0, 1e-30)] == [False, True]
    for nothing in (math.nan, math.inf, -math.inf):
        assert nothing not in Range()
        assert nothing not in Range(above=0)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Positive, "a whole number from 1 up"),
        (Pixels, "a whole number from 16 to 8192"),
        (Share | None, "a number from 0 to 1"),
        (Rate, "a number above 0"),
        (Annotated[float, Range(above=0, most=2)], "a number above 0 up to 2"),
        (tuple[Count, ...], "a whole number from 0 up"),
        (Literal["a", "b", "c"], "a, b or c"),
        (Positive | Literal["all"], "a whole number from 1 up or all"),
        (Path, "a path"),
        (int, "a whole number"),
    ],
)
def test_what_an_option_takes_is_said_in_words(annotation, words) -> None:
    assert describe_type(annotation) == words


def test_a_range_is_found_inside_optional_and_repeated_types() -> None:
    for annotation in (Positive, Positive | None, tuple[Positive, ...], list[Positive], tuple[Positive, Positive]):
        assert range_of(annotation) == Range(1)
    assert range_of(float) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(Inner(1.5)), "inner.share is 1.5. Expected a number from 0 to 1"),
        (Config(many=(Inner(), Inner(-1.0))), "many.1.share is -1"),
        (Config(sizes=(64, 0)), "sizes.1 is 0. Expected a number from 16 to 8192"),
        (Config(limit=0), "limit is 0"),
        (Config(free=math.nan), "free is nan. Expected a number that is finite"),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(config, message) -> None:
    with pytest.raises(ConfigError, match=f"^mine.yaml: {message}"):
        check_config(config, "mine.yaml")


@dataclass(frozen=True)
class Pair:
    low: int = 0
    high: int = 1

    def misfit(self) -> str:
        return f"low {self.low} is above high {self.high}" if self.low > self.high else ""


@dataclass(frozen=True)
class Pairs:
    pairs: tuple[Pair, ...] = (Pair(), Pair())


def test_values_that_do_not_go_together_are_refused_by_the_name_of_their_place() -> None:
    check_config(Pairs())
    with pytest.raises(ConfigError, match=r"^mine\.yaml: pairs\.1: low 3 is above high 2$"):
        check_config(Pairs((Pair(), Pair(3, 2))), "mine.yaml")


def test_what_is_in_range_passes() -> None:
    check_config(Config())
    check_config(Config(Inner(0.0), (), (16, 8192), 1, -1e9, False))
