"""Both programs that run MediaPipe's networks give the same answers."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from deja_vu.core.errors import MissingAssetError
from deja_vu.io.assets import find, locate
from deja_vu.tracking.face_boxes import FaceSquare
from deja_vu.tracking.face_mesh import FaceMeshes
from deja_vu.tracking.face_pose import FacePose
from deja_vu.tracking.lite_model import LiteModel, read_member, warp_to_square
from deja_vu.tracking.runtimes import open_faces, open_segmenter

DATA = Path(__file__).parents[1] / "data"
PICTURES = ("upright", "lying", "cut", "two")
needs_models = pytest.mark.skipif(
    find("face_landmarker") is None or find("selfie_segmenter") is None, reason="models were not fetched: python -m deja_vu.io.assets"
)


def picture(name):
    """Two made-up people."""
    first, second = (cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted((DATA / "faces").glob("*.jpg")))
    made = {
        "upright": first,
        "lying": np.rot90(second),
        "cut": first[:, first.shape[1] // 4 :],
        "two": np.concatenate([first, second[::2, ::2].repeat(2, 0).repeat(2, 1)], 1),
    }
    return np.ascontiguousarray(made[name])


def angle(rotation):
    """Degrees."""
    return np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))


def agree(found, expected):
    """Rounding to 1/32 pixel in other places moves a landmark by 0.2 pixels at most, and the mean one by 0.02."""
    distance = np.abs(found.landmarks - expected.landmarks)
    assert distance[:, :2].mean() < 0.03
    assert distance[:, :2].max() < 0.3
    assert np.abs(found.scores - expected.scores).max() < 0.02
    # In a picture that is not square, the graph's depths have another scale (see below).
    assert angle(found.pose[:3, :3] @ expected.pose[:3, :3].T) < 1.5


@needs_models
@pytest.mark.parametrize("name", PICTURES)
def test_faces_are_where_mediapipes_graph_saw_them(name):
    """Its answers, of version 1.2.2, were stored once."""
    stored = load_file(DATA / "mediapipe_answers.safetensors")
    found = open_faces("litert", 3)(picture(name))
    assert len(found) == len(stored[f"{name}.landmarks"])
    for index, face in enumerate(found):
        agree(face, type(face)(*(stored[f"{name}.{part}"][index] for part in ("landmarks", "scores", "pose"))))


@needs_models
@pytest.mark.parametrize("name", PICTURES)
def test_persons_are_where_mediapipes_graph_saw_them(name):
    stored = load_file(DATA / "mediapipe_answers.safetensors")[f"{name}.coverage"]
    found = open_segmenter("litert")(picture(name))
    # Stored in steps of 1/255, at every eighth pixel.
    np.testing.assert_allclose(found[::8, ::8], stored / 255, atol=0.6 / 255)


@needs_models
@pytest.mark.parametrize("name", PICTURES)
def test_the_package_mediapipe_still_agrees(name):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    with closing(open_faces("mediapipe", 3)) as theirs, closing(open_segmenter("mediapipe")) as segmenter:
        expected, coverage = theirs(picture(name)), segmenter(picture(name))
    found = open_faces("litert", 3)(picture(name))
    assert len(found) == len(expected) > 0
    for face, other in zip(found, expected, strict=True):
        agree(face, other)
    np.testing.assert_allclose(open_segmenter("litert")(picture(name)), coverage, atol=1e-4)


@needs_models
def test_depth_is_at_the_scale_of_the_picture_whatever_its_shape():
    """MediaPipe's graph measures depth in another scale where a picture is not square and the face is turned in it."""
    square = cv2.warpAffine(picture("upright"), cv2.getRotationMatrix2D((192, 192), 30, 1), (384, 384), borderMode=cv2.BORDER_REPLICATE)
    wide = np.concatenate([square, np.full_like(square, 90)], 1)
    find_faces = open_faces("litert", 1)
    (alone,), (beside,) = find_faces(square), find_faces(wide)
    # The detector sees the second at half the size, so its square differs by some pixels; the other scale would be off by a fifth.
    np.testing.assert_allclose(np.ptp(beside.landmarks[:, 2]), np.ptp(alone.landmarks[:, 2]), rtol=0.05)


def test_a_square_is_cut_as_it_lies():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:20, 30:50, 0], picture[:, :, 1] = 200, np.arange(60)
    upright = FaceSquare(np.array([40.0, 15.0]), 20.0, 0.0)
    cut = warp_to_square(picture, upright.corners, 20, repeat_border=True)
    np.testing.assert_array_equal(cut, picture[5:25, 30:50])
    turned = FaceSquare(np.array([40.0, 15.0]), 20.0, np.pi / 2)
    # A face whose crown points to the right; its first row lies at x = 50.
    np.testing.assert_array_equal(warp_to_square(picture, turned.corners, 20, repeat_border=True), np.rot90(picture[5:25, 31:51]))


def test_beyond_the_border_all_is_black_or_as_the_border():
    white = np.full((10, 10, 3), 255, np.uint8)
    corners = np.array([[20.0, 20], [30, 20], [20, 30]])
    assert warp_to_square(white, corners, 8, repeat_border=False).max() == 0
    assert warp_to_square(white, corners, 8, repeat_border=True).min() == 255


@needs_models
def test_a_pose_is_found_again_from_its_own_picture():
    """Through the camera that the fit assumes, at a distance at which its two rounds of scale are exact."""
    pose = FacePose.read(read_member(locate("face_landmarker"), "geometry_pipeline_metadata_landmarks.binarypb"))
    turn = cv2.Rodrigues(np.array([0.2, -0.5, 0.1]))[0]
    shift = np.array([2.0, -3.0, -60.0])
    seen = pose.canonical @ turn.T + shift
    width, height = 640, 480
    focal = height / (2 * np.tan(np.radians(63) / 2))
    depth = -seen[:, 2]
    landmarks = np.column_stack(
        [width / 2 + focal * seen[:, 0] / depth, height / 2 - focal * seen[:, 1] / depth, focal * depth / depth.mean()]
    )
    found = pose.fit(landmarks, width, height)
    assert angle(found[:3, :3] @ turn.T) < 0.5
    np.testing.assert_allclose(found[:3, 3], shift, rtol=0.02, atol=0.1)


@needs_models
def test_scores_are_computed_from_146_landmarks():
    faces = FaceMeshes(locate("face_landmarker"), 1)
    assert len(faces._scored) == len(set(faces._scored)) == 146


def test_a_runtime_that_is_absent_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingAssetError, match="pip install"):
        LiteModel(b"")
