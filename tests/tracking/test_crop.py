"""The window that holds neck and torso."""

from __future__ import annotations

import pytest

from deja_vu.tracking.crop import Crop, find_person_crop
from deja_vu.tracking.letterbox import Filmed

PORTRAIT, LANDSCAPE, SMALL = Filmed(0, 0, 720, 1280), Filmed(0, 40, 1280, 680), Filmed(0, 0, 300, 300)


@pytest.mark.parametrize("filmed", [PORTRAIT, LANDSCAPE, SMALL])
@pytest.mark.parametrize("head", [Crop(100, 60, 280), Crop(-30, -20, 400), Crop(250, 90, 200), Crop(0, 41, 64)])
def test_it_holds_the_heads_window_and_is_no_larger_than_asked(head: Crop, filmed: Filmed) -> None:
    person = find_person_crop(head, filmed, 1.6)
    x0, y0, x1, y1 = person.box
    assert x0 <= head.box[0]
    assert y0 <= head.box[1]
    assert x1 >= head.box[2]
    assert y1 >= head.box[3]
    assert head.size <= person.size <= round(1.6 * head.size)


def test_it_goes_on_downwards_and_to_both_sides() -> None:
    assert find_person_crop(Crop(200, 300, 200), PORTRAIT, 1.6) == Crop(140, 300, 320)


def test_where_the_picture_ends_it_is_moved_inside() -> None:
    assert find_person_crop(Crop(600, 1000, 120), PORTRAIT, 2.0) == Crop(480, 1000, 240)
    assert find_person_crop(Crop(600, 1100, 120), PORTRAIT, 2.0) == Crop(480, 1040, 240)


def test_a_head_that_fills_the_picture_leaves_no_room() -> None:
    assert find_person_crop(Crop(-20, -30, 340), SMALL, 1.6) == Crop(-20, -30, 340)
