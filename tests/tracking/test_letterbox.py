from __future__ import annotations

import numpy as np

from deja_vu.tracking.letterbox import BarFinder


def found(frames: list[np.ndarray]) -> np.ndarray:
    finder = BarFinder()
    for frame in frames:
        finder.add(frame)
    return finder.valid(*frames[0].shape[:2])


def textured(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (60, 80, 3)).astype(np.uint8)


def test_letterbox_bars_are_not_known() -> None:
    frames = [textured(seed) for seed in range(3)]
    for frame in frames:
        frame[:7] = frame[-9:] = 0
    valid = found(frames)
    assert not valid[:7].any()
    assert not valid[-9:].any()
    assert valid[7:-9].all()


def test_a_full_picture_is_known_everywhere() -> None:
    assert found([textured(seed) for seed in range(3)]).all()


def test_a_bar_must_be_there_in_every_frame() -> None:
    barred, free = textured(0), textured(1)
    barred[:12] = 255
    assert found([barred, free]).all()


def test_a_round_head_before_a_white_wall_ends_no_bar() -> None:
    """The wall above a head is as uniform as a bar, but the head's top comes into it narrow, not cut off."""
    rows, columns = np.mgrid[:200, :200]
    head = (rows - 130) ** 2 + (columns - 100) ** 2 < 60**2
    wall = np.full((200, 200, 3), 255, np.uint8)
    wall[head] = 60
    assert found([wall]).all()
    cut = wall.copy()
    cut[:100] = 255
    assert not found([cut])[:100].any()
