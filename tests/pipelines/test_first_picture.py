from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deja_vu.io.assets import ASSETS, find
from deja_vu.io.images import read_picture
from deja_vu.io.video import write_video
from deja_vu.pipelines.first_picture import SIDE, write_first_picture
from deja_vu.pipelines.recipes import Recipe

FACES = Path(__file__).parents[1] / "data" / "faces"

pytestmark = pytest.mark.skipif(any(find(name) is None for name in ASSETS), reason="models are not all here: python -m deja_vu.io.assets")


def test_the_first_frame_with_a_face_is_guessed_from_and_shown_beside_the_guess(tmp_path) -> None:
    face = cv2.resize(read_picture(FACES / "male_49.jpg").rgb, (512, 512), interpolation=cv2.INTER_AREA)
    wall = np.full_like(face, 200)
    write_video(tmp_path / "film.mp4", iter([wall] * 12 + [face] * 4), 25.0)
    found = write_first_picture(tmp_path / "film.mp4", tmp_path, Recipe())
    assert found == tmp_path / "preview.png"
    sheet = cv2.imread(str(found))
    assert sheet.shape[1] == 4 * SIDE
    frame, guess, *sides = np.split(sheet[-SIDE:], 4, axis=1)
    middle = slice(SIDE // 3, 2 * SIDE // 3)
    error = np.abs(frame[middle, middle].astype(float) - guess[middle, middle]).mean()
    assert error < 20, "the guess shows the person of the frame"
    assert all(np.abs(side.astype(float) - guess).mean() > 5 for side in sides), "from the sides it looks different"
    assert all((view[:8, :8] > 250).all() for view in (guess, *sides)), "over white"


def test_without_a_face_or_for_another_head_there_is_no_picture_and_no_file(tmp_path) -> None:
    write_video(tmp_path / "film.mp4", iter([np.full((96, 96, 3), 200, np.uint8)] * 4), 25.0)
    assert write_first_picture(tmp_path / "film.mp4", tmp_path, Recipe()) is None
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
