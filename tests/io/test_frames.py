from __future__ import annotations

import torch

from deja_vu.io.frames import shuffle_positions


def test_every_frame_comes_once_before_any_comes_again() -> None:
    drawn = torch.cat(list(shuffle_positions(count=7, size=2, steps=7, seed=3)))
    assert sorted(drawn[:7].tolist()) == list(range(7))
    assert sorted(drawn[7:].tolist()) == list(range(7))


def test_a_resumed_order_continues_the_first() -> None:
    whole = [batch.tolist() for batch in shuffle_positions(count=5, size=3, steps=9, seed=1)]
    assert [batch.tolist() for batch in shuffle_positions(count=5, size=3, steps=9, seed=1, start=4)] == whole[4:]
    assert [batch.tolist() for batch in shuffle_positions(count=5, size=3, steps=9, seed=2)] != whole


def test_rare_frames_come_three_times_a_round() -> None:
    drawn = torch.cat(list(shuffle_positions(count=6, size=1, steps=10, seed=0, again=torch.tensor([4, 1]))))
    assert sorted(drawn.tolist()) == [0, 1, 1, 1, 2, 3, 4, 4, 4, 5]
