from __future__ import annotations

import math
import socket

import numpy as np
import pytest

from deja_vu.viewer.camera import is_usable
from deja_vu.viewer.gate import Gate
from deja_vu.viewer.panel import clamp


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "192.0.2.7:8080", f"{socket.gethostname()}:8080", "LOCALHOST.:80"]
)
def test_numbers_and_own_names_are_answered(host) -> None:
    """A number cannot be made to mean another machine than the one that the visitor's browser reached by it."""
    gate = Gate("0.0.0.0")
    assert gate.refusal(host, None, talks=False) is None
    assert gate.refusal(host, f"http://{host}", talks=True) is None
    assert gate.refusal(host, f"https://{host}", talks=True) is None


@pytest.mark.parametrize(
    "host", [None, "", "elsewhere.example", "localhost.elsewhere.example:8080", "localhost, elsewhere.example", "[::1", "a@b"]
)
def test_other_names_are_not(host) -> None:
    assert Gate("127.0.0.1").refusal(host, None, talks=False)


@pytest.mark.parametrize(
    "origin", ["http://elsewhere.example", "null", "", "http://localhost:8081", "http://localhost:8080, http://localhost:8080", "file://"]
)
def test_other_pages_are_not(origin) -> None:
    assert Gate("127.0.0.1").refusal("localhost:8080", origin, talks=False)


def test_the_name_that_was_asked_for_is_answered() -> None:
    assert Gate("studio.example").refusal("studio.example:8080", None, talks=False) is None


def test_cameras_that_cannot_be_are_not_looked_through() -> None:
    usual = {"wxyz": np.array([1.0, 0, 0, 0]), "position": np.array([0.0, 0, -60]), "look_at": np.zeros(3), "fov": 0.5, "aspect": 1.5}
    assert is_usable(**usual)
    for name, value in {
        "wxyz": np.zeros(4), "position": np.zeros(3), "look_at": np.full(3, math.nan), "fov": math.pi, "aspect": 0.0,
    }.items():  # fmt: skip
        assert not is_usable(**usual | {name: value}), name
    assert not is_usable(**usual | {"position": np.array([0.0, 0, 1e30])})
    assert not is_usable(**usual | {"fov": math.inf})


def test_controls_hold_what_a_program_sends() -> None:
    assert [clamp(value, 0, 1) for value in (0.5, -3, 7, math.nan, math.inf)] == [0.5, 0, 1, 0, 0]
