from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.ranges import check_config
from deja_vu.io.assets import find
from deja_vu.io.images import read_picture
from deja_vu.io.video import InputWarning, write_video
from deja_vu.tracking.detection_config import DetectionConfig
from deja_vu.tracking.detector import APPEARANCE_LANDMARKS, FaceObservation
from deja_vu.tracking.faces_picture import FOLLOWED, write_faces
from deja_vu.tracking.landmarks import detect_video, find_turn
from deja_vu.tracking.people import choose_person, drop_outliers
from tests.helpers.lenses import make_subject

needs_model = pytest.mark.skipif(find("face_landmarker") is None, reason="the landmarker was not fetched: python -m deja_vu.io.assets")
NAME = Path("two.mp4")
FRAMES, SIDE = 8, 256


def face_at(x: float, width: float = 100.0, color: float = 0.5) -> FaceObservation:
    """A face of one color whose box begins at x."""
    points = np.tile(np.array([x, 20, 0], np.float32), (478, 1))
    points[1] = (x + width, 20 + 1.25 * width, 0)
    appearance = np.full(3 * len(APPEARANCE_LANDMARKS), color, np.float32)
    return FaceObservation(points, np.zeros(52, np.float32), np.eye(4, dtype=np.float32), appearance=appearance)


def boxes(faces: list[FaceObservation | None]) -> list[float | None]:
    return [None if face is None else float(face.landmarks[0, 0]) for face in faces]


def follow(frames: list[list[FaceObservation]], face: str = "main") -> list[float | None]:
    return boxes(choose_person(NAME, frames, DetectionConfig(face=face)))  # type: ignore[arg-type]


def test_a_face_is_chosen_by_its_place_and_followed_when_it_gets_smaller() -> None:
    left, right = [face_at(0, 100 - 6 * t, 0.3) for t in range(8)], [face_at(300, 80 + 6 * t, 0.7) for t in range(8)]
    frames = [[right[t], left[t]] for t in range(8)]
    assert follow(frames, "left") == [0.0] * 8
    assert follow(frames, "right") == [300.0] * 8
    assert follow(frames, "largest") == [0.0] * 8, "by the first frame, though it is the smaller one from the second half on"
    assert follow(frames, "2") == [300.0] * 8
    assert follow(frames) == [300.0] * 8
    with pytest.raises(InputError, match=r"at most 2 faces are seen at once, and face 3 .* --face 1 to 2"):
        follow(frames, "3")


def test_a_face_is_chosen_by_a_place_in_it() -> None:
    """A click on its hair counts; of two that it may mean, the nearer; in the first frame with a face, else in the first with several."""
    first, second = face_at(200, color=0.3), face_at(330, color=0.7)
    frames = [[]] + [[first]] * 2 + [[first, second]] * 4
    assert follow(frames, "240,60") == [None] + [200.0] * 6
    assert follow(frames, "250,0") == [None] + [200.0] * 6, "hair"
    assert follow(frames, "380x90") == [None] * 3 + [330.0] * 4, "enters later"
    assert follow([[first, second]] * 2, "310,80") == [200.0] * 2, "the nearer one"
    with pytest.raises(InputError, match=r"no face at 20,20 where one is first seen.*: 1 at 250,82; 2 at 380,82\."):
        follow(frames, "20,20")
    with pytest.raises(InputError, match=r"--face 1 to 2: 1 at 250,82; 2 at 380,82\."):
        follow(frames, "3")


@pytest.mark.parametrize("word", ["lefft", "0", "7", "", "1.5", "12,", "-3,4", "nan", "1,2,3", "main "])
def test_words_that_name_no_face_are_refused(word) -> None:
    with pytest.raises(ConfigError, match="Expected main, left, right, largest, a number from 1 to 6, or X,Y in pixels"):
        check_config(DetectionConfig(face=word))


def test_people_who_change_places_in_a_cut_stay_who_they_are() -> None:
    before, after = [face_at(0, color=0.3), face_at(300, color=0.7)], [face_at(0, color=0.7), face_at(300, color=0.3)]
    assert follow([before] * 4 + [after] * 4, "left") == [0.0] * 4 + [300.0] * 4
    assert follow([before] * 4 + [after] * 4, "right") == [300.0] * 4 + [0.0] * 4


def test_a_face_that_enters_late_leaves_and_returns_is_one_person() -> None:
    other = face_at(300, 60, 0.7)
    frames = [[other], [other], [face_at(0, color=0.3), other], [face_at(5, color=0.3), other], [other], [face_at(150, color=0.32), other]]
    assert follow(frames, "left") == [None, None, 0.0, 5.0, None, 150.0]


def test_whoever_takes_the_place_of_the_one_who_left_is_not_followed() -> None:
    frames = [[face_at(0, color=0.3)]] * 5 + [[face_at(0, color=0.8)]] * 3
    assert follow(frames) == [0.0] * 5 + [None] * 3
    assert follow([[]] * 3) == [None] * 3


def test_an_answer_that_cannot_be_is_not_believed() -> None:
    steady = [face_at(10.0 * t) for t in range(6)]
    far, large = list(steady), list(steady)
    far[3], large[3] = face_at(900), face_at(30, 300)
    for faces in (far, large):
        assert boxes(drop_outliers(faces, DetectionConfig())) == [0.0, 10.0, 20.0, None, 40.0, 50.0]
    cut = steady[:3] + [face_at(900 + t) for t in range(3)]
    assert boxes(drop_outliers(cut, DetectionConfig())) == boxes(cut), "a cut is no mistake"
    assert drop_outliers([None, steady[0], None], DetectionConfig()) == [None, steady[0], None]


@pytest.mark.parametrize(("rolls", "turn"), [([], 0), ([3, -20, 8], 0), ([-90, -85, 88, -92], 3), ([95, 80], 1), ([178, -175, 4], 2)])
def test_most_faces_decide_how_a_video_is_turned(rolls, turn) -> None:
    assert find_turn(rolls) == turn


@pytest.fixture(scope="module")
def pair() -> list[list[np.ndarray]]:
    """Two made-up people, the second one smaller and paler."""
    people = [list(make_subject(FRAMES, SIDE, seed, 6.0).frames()) for seed in (2, 3)]
    return people


@needs_model
def test_of_two_people_side_by_side_the_wanted_one_is_followed_through_a_cut(pair, tmp_path) -> None:
    """In the second half they have changed places."""
    frames = [np.hstack([pair[0][t], pair[1][t]] if t < FRAMES // 2 else [pair[1][t], pair[0][t]]) for t in range(FRAMES)]
    write_video(tmp_path / "two.mp4", frames, 6.0)
    for name, start in (("left", 0), ("right", SIDE)):
        with pytest.warns(InputWarning, match="2 faces at once"):
            found = detect_video(tmp_path / "two.mp4", config=replace(DetectionConfig(), face=name))
        middle = found.landmarks[:, :, 0].mean(1)
        first, second = middle[: FRAMES // 2] // SIDE * SIDE, middle[FRAMES // 2 :] // SIDE * SIDE
        assert (first == start).all()
        assert (second == SIDE - start).all()


@needs_model
def test_the_faces_are_numbered_in_a_picture_by_which_a_user_can_choose(pair, tmp_path) -> None:
    """A click on the right face of the picture follows that one, whose box is then the green one."""
    write_video(tmp_path / "two.mp4", [np.hstack([pair[0][t], pair[1][t]]) for t in range(3)], 6.0)
    for click, followed in (("384,128", 1), ("128,128", 0)):
        with pytest.warns(InputWarning, match="see faces.png"):
            found = detect_video(tmp_path / "two.mp4", config=DetectionConfig(face=click))
        assert found.crowd is not None
        assert (found.crowd.index, found.crowd.followed, found.crowd.boxes[:, 0].tolist()) == (0, followed, sorted(found.crowd.boxes[:, 0]))
        write_faces(tmp_path / "two.mp4", found.crowd, found.turn, tmp_path / "faces.png")
        picture = read_picture(tmp_path / "faces.png").rgb
        assert picture.shape == (SIDE, 2 * SIDE, 3)
        green = (np.abs(picture.astype(int) - FOLLOWED).max(-1) < 6).nonzero()[1]
        assert (green // SIDE == followed).all()
        assert len(green) > 100
    write_video(tmp_path / "one.mp4", pair[0][:2], 6.0)
    assert detect_video(tmp_path / "one.mp4").crowd is None


@needs_model
@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_film_on_its_side_or_upside_down_is_turned_upright(pair, tmp_path, turn) -> None:
    """The landmarks are those of the upright film; upside down, the detector misses some faces and takes chins for foreheads."""
    write_video(tmp_path / "upright.mp4", pair[0], 6.0)
    write_video(tmp_path / "turned.mp4", [np.ascontiguousarray(np.rot90(image, turn)) for image in pair[0]], 6.0)
    upright = detect_video(tmp_path / "upright.mp4")
    with pytest.warns(InputWarning, match="is turned upright"):
        turned = detect_video(tmp_path / "turned.mp4")
    assert (upright.turn, turned.turn) == (0, 4 - turn)
    assert turned.found.all()
    # A codec's blocks lie otherwise in a turned picture: parts of a pixel.
    assert np.abs(turned.landmarks - upright.landmarks)[..., :2].mean() < 1
