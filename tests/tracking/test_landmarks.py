from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.errors import InputError
from deja_vu.io.assets import find
from deja_vu.io.video import InputWarning, write_video
from deja_vu.tracking.crop import find_crop
from deja_vu.tracking.detector import FaceObservation, LandmarkDetector, overlap
from deja_vu.tracking.landmarks import detect_video

needs_model = pytest.mark.skipif(find("face_landmarker") is None, reason="the landmarker was not fetched: python -m deja_vu.io.assets")
HEIGHT, WIDTH = 240, 240


@pytest.fixture(scope="module")
def portrait():
    """NASA's portrait of Eileen Collins (public domain) from scikit-image; the face is about 95 px wide."""
    return pytest.importorskip("skimage.data").astronaut()[:HEIGHT, 100 : 100 + WIDTH]


def scene(portrait, size, places, scale=1.0):
    """Copies of the portrait at (x, y) on a gray ground of (width, height)."""
    canvas = np.full((size[1], size[0], 3), 110, np.uint8)
    part = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for x, y in places:
        canvas[y : y + len(part), x : x + part.shape[1]] = part
    return canvas


def test_names_are_arkits():
    assert len(ARKIT_NAMES) == len(set(ARKIT_NAMES)) == 52
    assert sum(name.endswith("Left") for name in ARKIT_NAMES) == sum(name.endswith("Right") for name in ARKIT_NAMES)


def test_overlap():
    a = np.array([0.0, 0, 2, 2])
    assert overlap(a, a) == 1
    assert overlap(a, a + 2) == 0
    assert overlap(a, np.array([1.0, 0, 3, 2])) == pytest.approx(1 / 3)


@needs_model
class TestDetector:
    def test_shapes_ranges_and_anatomy(self, portrait):
        with LandmarkDetector() as detector:
            face = detector.detect(portrait)
        assert face is not None
        assert face.landmarks.shape == (478, 3)
        assert face.blendshapes.shape == (52,)
        assert face.blendshapes.min() >= 0
        assert face.blendshapes.max() <= 1
        assert face.blendshapes[ARKIT_NAMES.index("tongueOut")] == 0
        # She smiles with open eyes.
        assert face.blendshapes[ARKIT_NAMES.index("mouthSmileLeft")] > 0.4
        assert face.blendshapes[ARKIT_NAMES.index("eyeBlinkLeft")] < 0.3
        hairline, chin, nose = face.landmarks[[10, 152, 1]]
        assert hairline[1] < nose[1] < chin[1]
        assert nose[2] < chin[2], "the nose tip is nearest to the camera"
        left, right = face.landmarks[263], face.landmarks[33]
        assert left[0] > right[0], "her left eye is to the right in the picture"
        np.testing.assert_allclose(np.linalg.det(face.transform[:3, :3]), 1, atol=1e-3)

    def test_landmarks_move_and_scale_with_the_picture(self, portrait):
        with LandmarkDetector() as detector:
            base = detector.detect(scene(portrait, (400, 400), [(60, 60)]))
            moved = detector.detect(scene(portrait, (400, 400), [(97, 81)]))
        with LandmarkDetector() as detector:
            doubled = detector.detect(scene(portrait, (800, 800), [(120, 120)], scale=2.0))
        # Detector noise is about 0.7 px on a face of this size (its own resampling of the face to 256 px).
        assert np.abs(moved.landmarks[:, :2] - base.landmarks[:, :2] - [37, 21]).mean() < 1.0
        assert np.abs(doubled.landmarks[:, :2] / 2 - base.landmarks[:, :2]).mean() < 1.0

    def test_no_smoothing_delay(self, portrait):
        # A face that jumps is found where it is, not where it was.
        with LandmarkDetector() as detector:
            for _ in range(5):
                still = detector.detect(scene(portrait, (400, 400), [(60, 60)]))
            jumped = detector.detect(scene(portrait, (400, 400), [(72, 60)]))
        assert abs(float((jumped.landmarks - still.landmarks)[:, 0].mean()) - 12) < 1.0

    def test_nothing_in_an_empty_picture(self):
        with LandmarkDetector() as detector:
            assert detector.detect(np.full((200, 200, 3), 127, np.uint8)) is None

    def test_the_largest_of_several_then_the_same_one(self, portrait):
        small = cv2.resize(portrait, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
        picture = scene(portrait, (520, 300), [(20, 20)])
        picture[40 : 40 + len(small), 320 : 320 + small.shape[1]] = small
        with LandmarkDetector() as detector:
            face = detector.detect(picture)
            assert face.num_faces == 2
            assert face.landmarks[:, 0].max() < 260
            other = np.ascontiguousarray(picture)
            other[:, :260] = 110
            assert detector.detect(other).landmarks[:, 0].min() > 320, "alone, the small one is taken"

    def test_the_terminal_stays_clean(self, portrait, capfd):
        with LandmarkDetector() as detector:
            detector.detect(portrait)
        assert capfd.readouterr() == ("", "")


@needs_model
class TestVideo:
    def test_a_clip(self, portrait, tmp_path):
        frames = [scene(portrait, (400, 360), [(60 + 2 * i, 60)]) for i in range(12)]
        frames[5] = np.full_like(frames[5], 110)
        write_video(tmp_path / "clip.mp4", frames, fps=25)
        calls = []
        found = detect_video(tmp_path / "clip.mp4", progress=lambda done, total: calls.append((done, total)))
        assert found.frames_read == 12
        assert found.found.tolist() == [i != 5 for i in range(12)]
        assert np.isnan(found.landmarks[5]).all()
        assert np.isfinite(found.landmarks[found.found]).all()
        assert calls[-1] == (12, 12)
        np.testing.assert_allclose(found.times, np.arange(12) / 25, atol=1e-6)
        center = found.landmarks[found.found, :, 0].mean(1)
        np.testing.assert_allclose(np.polyfit(found.index[found.found], center, 1)[0], 2, atol=0.1)
        crop = found.crop
        inside = (found.landmarks[found.found, :, :2] - [crop.x0, crop.y0]) / crop.size
        assert inside.min() > 0.05
        assert inside.max() < 0.95

    def test_a_small_face_in_a_large_picture_is_searched_for(self, portrait, tmp_path):
        # 95 px of 1280: MediaPipe's detector, which sees the picture at 128 px, finds nothing.
        frames = [scene(portrait, (1280, 720), [(800 + i, 300)]) for i in range(4)]
        with LandmarkDetector() as detector:
            assert detector.detect(frames[0]) is None
        write_video(tmp_path / "far.mp4", frames, fps=25)
        found = detect_video(tmp_path / "far.mp4")
        assert found.found.all()
        assert 800 < np.nanmean(found.landmarks[..., 0]) < 800 + WIDTH

    def test_the_main_person_is_followed_and_the_other_mentioned(self, portrait, tmp_path):
        small = cv2.resize(portrait, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
        frames = []
        for _ in range(6):
            picture = scene(portrait, (520, 300), [(20, 20)])
            picture[40 : 40 + len(small), 320 : 320 + small.shape[1]] = small
            frames.append(picture)
        write_video(tmp_path / "two.mp4", frames, fps=25)
        with pytest.warns(InputWarning, match="2 faces"):
            found = detect_video(tmp_path / "two.mp4")
        assert found.found.all()
        assert found.landmarks[..., 0].max() < 260

    def test_refusals(self, portrait, tmp_path):
        empty = np.full((240, 240, 3), 110, np.uint8)
        write_video(tmp_path / "nobody.mp4", [empty] * 4, fps=25)
        with pytest.raises(InputError, match="no face was found in any of its 4 frames"):
            detect_video(tmp_path / "nobody.mp4")
        write_video(tmp_path / "rarely.mp4", [portrait] + [empty] * 9, fps=25)
        with pytest.raises(InputError, match="only 1 of 10 frames"):
            detect_video(tmp_path / "rarely.mp4")
        write_video(tmp_path / "far.mp4", [scene(portrait, (160, 160), [(30, 30)], scale=0.4)] * 3, fps=25)
        with pytest.raises(InputError, match="pixels wide; at least 64"):
            detect_video(tmp_path / "far.mp4")


def face_at(x, y, length=100.0):
    """Landmarks of an upright frontal face; those that the crop looks at are placed, the others lie on the nose."""
    points = np.tile(np.array([x, y, 0.0]), (478, 1))
    points[10], points[152] = (x, y - length / 2, 0), (x, y + length / 2, 0)
    points[234], points[454] = (x - 0.4 * length, y, 0.2 * length), (x + 0.4 * length, y, 0.2 * length)
    return points


class TestCrop:
    def test_holds_hair_and_chin_of_every_frame(self):
        frames = np.stack([face_at(300 + dx, 250) for dx in range(-50, 51)])
        crop = find_crop(frames, 640, 480)
        assert crop.x0 < 250 - 0.7 * 100 + 2  # the leftmost head's hair, less the outer percent
        assert crop.x0 + crop.size > 350 + 0.7 * 100 - 2
        assert crop.y0 < 250 - 50 - 35
        assert crop.y0 + crop.size > 250 + 50 + 10

    def test_moves_inside_the_picture_where_it_fits(self):
        crop = find_crop(face_at(60, 250)[None], 640, 480)
        assert crop.x0 == 0
        assert crop.y0 > 0

    def test_may_reach_beyond_a_narrow_picture(self):
        crop = find_crop(face_at(60, 250)[None], 120, 480)
        assert crop.x0 < 0
        assert crop.x0 + crop.size > 120

    def test_scales_and_shifts_with_the_face(self):
        one = find_crop(face_at(300, 300)[None], 2000, 2000)
        two = find_crop(face_at(600, 600, 200.0)[None], 4000, 4000)
        assert abs(two.size - 2 * one.size) <= 2
        assert abs(two.x0 - 2 * one.x0) <= 2

    def test_one_false_detection_does_not_widen_it(self):
        frames = np.stack([face_at(300, 250)] * 300 + [face_at(900, 250)])
        assert find_crop(frames, 1280, 480).size == find_crop(frames[:300], 1280, 480).size


CLIPS = Path(__file__).parents[3] / "shared" / "clips"


@needs_model
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not on this machine")
def test_every_frame_of_a_real_clip():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = detect_video(CLIPS / "selfie_portrait_phone.mp4", max_frames=40)
    assert found.found.all()
    assert isinstance(found.info.fps, float)
    width = np.median(np.ptp(found.landmarks[..., 0], axis=1))
    assert 350 < width < 420  # the clips' table says 385


def test_width_of_an_observation():
    box = np.full((478, 3), 50, np.float32)
    box[0], box[1] = (10, 20, 0), (90, 120, 0)
    face = FaceObservation(box, np.zeros(52, np.float32), np.eye(4, dtype=np.float32))
    assert face.width == 80
