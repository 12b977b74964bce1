from __future__ import annotations

import torch

from deja_vu.heads import load_head
from deja_vu.motion.appearance import FACES, SIDES, Appearance, pose_subject


def test_a_head_is_turned_as_its_appearance_says() -> None:
    head = load_head("toy")
    looks = [*SIDES, Appearance("up", pitch=30.0), *FACES]
    turned = pose_subject(head, head.neutral((1,)), looks)
    forward = turned.world_from_head[:, :3, 2]  # cameras look along +z
    half = 0.5**0.5
    torch.testing.assert_close(-forward[:4, 2], torch.tensor([half, half, -1.0, 0.75**0.5]), rtol=0, atol=1e-4)
    assert forward[0, 0] * forward[1, 0] < 0  # to different sides
    assert forward[3, 1] < 0  # y points down
