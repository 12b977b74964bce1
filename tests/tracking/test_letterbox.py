from __future__ import annotations

import numpy as np

from deja_vu.tracking.letterbox import Filmed, LetterboxFinder


def found(frames: list[np.ndarray]) -> Filmed:
    finder = LetterboxFinder()
    for frame in frames:
        finder.add(frame)
    return finder.find_filmed(*frames[0].shape[:2])


def textured(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (60, 80, 3)).astype(np.uint8)


def test_letterbox_bars_are_not_filmed_nor_is_what_is_mixed_with_them() -> None:
    frames = [textured(seed) for seed in range(3)]
    for frame in frames:
        frame[:7] = frame[-9:] = 0
    assert found(frames) == Filmed(0, 9, 80, 49)


def test_bars_at_either_side_are_told_apart() -> None:
    frame = textured(0)
    frame[:, :5] = frame[:, -12:] = 255
    assert found([frame]) == Filmed(7, 0, 66, 60)


def test_a_full_picture_is_filmed_everywhere() -> None:
    assert found([textured(seed) for seed in range(3)]) == Filmed(0, 0, 80, 60)


def test_a_bar_must_be_there_in_every_frame() -> None:
    barred, free = textured(0), textured(1)
    barred[:12] = 255
    assert found([barred, free]) == Filmed(0, 0, 80, 60)


def test_a_round_head_before_a_white_wall_ends_no_bar() -> None:
    """The wall above a head is as uniform as a bar, but the head's top comes into it narrow, not cut off."""
    rows, columns = np.mgrid[:200, :200]
    head = (rows - 130) ** 2 + (columns - 100) ** 2 < 60**2
    wall = np.full((200, 200, 3), 255, np.uint8)
    wall[head] = 60
    assert found([wall]) == Filmed(0, 0, 200, 200)
    cut = wall.copy()
    cut[:100] = 255
    assert found([cut]).top >= 100
