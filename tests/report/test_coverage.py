from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from deja_vu.heads import load_head
from deja_vu.report.coverage import Course, count_blinks, find_shortcomings, follow
from tests.helpers.people import posed

FRAMES = 200


def course(**changes: torch.Tensor | None) -> Course:
    """Somebody who shows everything, but for some changes."""
    wave = torch.sin(torch.linspace(0, 4 * math.pi, FRAMES))
    shown = {
        "yaw": 30 * wave,
        "pitch": 12 * wave,
        "lips": 0.25 + 0.25 * wave,
        "eyes": torch.where(torch.arange(FRAMES) % 50 < 3, 0.1, 1.0),
        "smile": 0.3 + 0.3 * wave,
        "brows": 0.3 + 0.3 * wave,
    }
    return Course(**(shown | changes))


def lacks(what: Course, test: torch.Tensor | None = None, seconds: float = 20.0) -> str:
    test = torch.arange(FRAMES) >= 160 if test is None else test
    return " ".join(one.lack for one in find_shortcomings(what, test, seconds))


def test_nothing_is_said_of_a_video_that_shows_everything() -> None:
    assert lacks(course()) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"yaw": 30 * torch.sin(torch.linspace(0, 12, FRAMES)).clamp_min(-0.3)}, "only 9° to the right"),
        ({"yaw": torch.zeros(FRAMES)}, "0° to the left and 0° to the right"),
        ({"pitch": 3 * torch.sin(torch.linspace(0, 12, FRAMES))}, "hardly looks up or down (3° up, 3° down)"),
        ({"lips": torch.full((FRAMES,), 0.1)}, "never opens wide (10% of its width)"),
        ({"eyes": torch.ones(FRAMES)}, "eyes never close"),
        ({"smile": torch.zeros(FRAMES)}, "no smile"),
        ({"brows": torch.zeros(FRAMES)}, "brows are never raised"),
    ],
)
def test_what_is_missing_is_said(changes, expected) -> None:
    assert expected in lacks(course(**changes))
    assert lacks(course(**changes)).count(".") <= 2  # and nothing else is


def test_what_only_test_frames_show_is_missing() -> None:
    late = torch.where(torch.arange(FRAMES) >= 160, 0.5, 0.1)
    assert "never opens wide" in lacks(course(lips=late))
    yaw = torch.where(torch.arange(FRAMES) >= 160, 60.0, 1.0) * torch.sin(torch.linspace(0, 40, FRAMES)) * torch.linspace(0.2, 1, FRAMES)
    assert "further to the sides" in lacks(course(yaw=yaw))


def test_short_videos_and_unknowns() -> None:
    assert "short: 160 training frames in 5 s" in lacks(course(), seconds=5.0)
    blind = course(lips=None, eyes=None, smile=None, brows=None)
    assert lacks(blind) == ""


def test_blinks_are_counted() -> None:
    eyes = torch.tensor([0.1, 0.2, 1, 1, 0.3, 0.1, 0.5, 1, 0.0])
    assert count_blinks(eyes) == 3


def test_the_course_is_read_from_the_parameters(anny, talker) -> None:
    """Turns by hand; the talker opens the jaw and blinks once."""
    params = talker(2)
    turns = torch.zeros(60, 3)
    turns[:, 1] = -torch.linspace(-0.5, 0.5, 60)  # world axes: y points down, so a negative turn looks to the picture's right
    still = posed(params, turns, torch.tensor([0.0, 0.0, 0.6]).expand(60, 3))
    read = follow(still, anny)
    assert read.yaw[[0, -1]].tolist() == pytest.approx([-math.degrees(0.5), math.degrees(0.5)], abs=0.05)
    assert read.pitch.abs().max() < 0.05
    assert count_blinks(read.eyes) == 1
    assert read.lips.max() > 0.3 > read.lips.median() > read.lips.min()
    assert read.smile.abs().max() < 1e-5
    nod = torch.zeros(60, 3)
    nod[30:, 0] = 0.3  # y towards z: the nose, which points at the camera, goes up
    assert follow(posed(params, nod, torch.tensor([0.0, 0.0, 0.6]).expand(60, 3)), anny).pitch[-1] == pytest.approx(
        math.degrees(0.15), abs=math.degrees(0.16)
    )


def test_heads_without_landmarks_have_a_course_too() -> None:
    toy = load_head("toy")
    params = replace(toy.neutral((5,)), expression=torch.rand(5, 6))
    read = follow(posed(params, torch.zeros(5, 3), torch.tensor([0.0, 0.0, 0.5]).expand(5, 3)), toy)
    assert read.eyes is None
    assert read.smile is not None
