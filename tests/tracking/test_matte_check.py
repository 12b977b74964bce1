from __future__ import annotations

import numpy as np

from deja_vu.tracking.config import MatteCheckConfig
from deja_vu.tracking.matte_check import check_mattes, find_jumps

SIDE, FRAMES = 128, 20


def head(row: int, radius: int = 30) -> np.ndarray:
    """Mattes of a round head whose middle lies in a row, on the neck."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    person = ((rows - row) ** 2 + (columns - 64) ** 2 < radius**2) | ((rows > row) & (np.abs(columns - 64) < radius // 2))
    return np.repeat(np.where(person, 255, 0).astype(np.uint8)[None], FRAMES, 0)


def notes(alpha: np.ndarray, top: int = 0) -> tuple[str, ...]:
    valid = np.full((SIDE, SIDE), 255, np.uint8)
    valid[:top] = 0
    return check_mattes(np.where(valid, alpha, 0), valid, np.arange(FRAMES))


def test_a_head_in_the_picture_is_not_doubted() -> None:
    assert notes(head(64)) == ()
    assert notes(head(48), top=16) == (), "hair may touch the border"


def test_a_slab_up_to_the_filmed_border_is_told() -> None:
    alpha = head(64)
    alpha[:, :64, 40:90] = 255
    (note,) = notes(alpha, top=16)
    assert "upper border in 20 of 20 frames" in note


def test_some_frames_at_the_border_are_no_fault() -> None:
    alpha = head(64)
    alpha[:9, :64, 40:90] = 255
    assert not any("upper border" in note for note in notes(alpha))


def test_a_wall_that_comes_and_goes_is_told() -> None:
    alpha = head(64)
    alpha[7, 20:64, 80:120] = 255
    (note,) = notes(alpha)
    assert "jumps 2 times, first at frame 7" in note


def test_the_area_may_change_where_frames_are_missing() -> None:
    area, index = np.array([1.0, 1.0, 2.0, 2.0]), np.array([0, 1, 30, 31])
    assert find_jumps(area, index, MatteCheckConfig().max_jump).tolist() == []
    assert find_jumps(area, np.array([0, 2, 4, 6]), MatteCheckConfig().max_jump).tolist() == [4]
    assert find_jumps(area[:1], index[:1], MatteCheckConfig().max_jump).tolist() == []
