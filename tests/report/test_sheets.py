from __future__ import annotations

import numpy as np
import torch

from deja_vu.report.sheets import draw_label, label_height, label_sheet


def test_a_label_fills_its_strip_and_never_leaves_it() -> None:
    for width, text in ((96, "target"), (96, "a label that is much longer than the picture is wide"), (512, "error x 4, 45°")):
        strip = draw_label(text, width)
        assert strip.shape == (label_height(width), width, 3)
        ink = strip.min(-1) < 200
        assert 0.01 < ink.mean() < 0.5
        assert not ink[:, [0, -1]].any()


def test_different_labels_look_different() -> None:
    assert (draw_label("left 45°", 128) != draw_label("right 45°", 128)).any()


def test_every_picture_stands_under_its_label() -> None:
    images = torch.stack([torch.full((20, 40, 3), level) for level in (0.0, 0.5, 1.0)])
    sheet = label_sheet(images, ["a", "b", "c"], columns=2)
    tall = label_height(40)
    assert sheet.shape == (2 * (tall + 20), 80, 3)
    np.testing.assert_array_equal(sheet[:tall, :40], draw_label("a", 40))
    assert (sheet[tall : tall + 20, 40:] == 128).all()
    np.testing.assert_array_equal(sheet[tall + 20 : 2 * tall + 20, :40], draw_label("c", 40))
    assert (sheet[tall + 20 :, 40:] == 255).all()
