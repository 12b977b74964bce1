from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deja_vu.core.errors import InputError
from deja_vu.io.names import distinct_names


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["clips/me.mp4"], ["me"]),
        (["a/track", "b/track"], ["a-track", "b-track"]),
        (["runs/a/track", "runs/b/track", "other"], ["a-track", "b-track", "other"]),
        (["me.mp4", "me.mov"], ["me.mp4", "me.mov"]),
        (["x/a/track", "y/a/track"], ["x-a-track", "y-a-track"]),
    ],
)
def test_names_are_the_shortest_tails_that_tell_inputs_apart(paths, expected) -> None:
    assert distinct_names([Path("/r", path) for path in paths]) == expected


def test_a_tail_that_is_another_inputs_name_grows() -> None:
    paths = [Path("/r/a/track"), Path("/r/b/track"), Path("/r/c/a-track")]
    assert distinct_names(paths) == ["r-a-track", "b-track", "c-a-track"]


def test_a_name_that_is_taken_is_not_given() -> None:
    assert distinct_names([Path("/r/lifted.safetensors")], taken=["lifted"]) == ["lifted.safetensors"]
    assert distinct_names([Path("/lifted")], taken=["lifted"]) == ["lifted-2"]


def test_one_input_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"track is given twice"):
        distinct_names([Path("a/track"), Path("a/track")])


PARTS = st.sampled_from(["a", "b", "a-b", "b-a", "track", "me.mp4", "me.mov", "me"])


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: Path("/", *parts)), max_size=8, unique=True), st.sets(PARTS))
def test_no_two_inputs_ever_share_a_name(paths, taken) -> None:
    names = distinct_names(paths, taken)
    assert len(set(names)) == len(paths)
    assert not set(names) & taken
    assert not any("/" in name for name in names)
