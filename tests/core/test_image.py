from __future__ import annotations

import os

import numpy as np
import torch

from deja_vu.core.image import decode_picture, tile_images, to_uint8


def test_values_outside_are_clamped_and_the_rest_is_rounded() -> None:
    shown = to_uint8(torch.tensor([[[-1.0, 0.5, 2.0]]]))
    np.testing.assert_array_equal(shown, np.array([[[0, 128, 255]]], np.uint8))


def test_tiles_end_white() -> None:
    sheet = tile_images(torch.zeros(3, 2, 4, 3), 2)
    assert sheet.shape == (4, 8, 3)
    assert sheet[2:, 4:].min() == 1
    assert sheet[:2].max() == 0


def test_a_pipe_is_no_picture_and_nobody_waits_for_its_end(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert decode_picture(tmp_path / "a.png") is None
