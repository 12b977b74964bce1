from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from deja_vu.datasets.synthetic import SyntheticSubject
from deja_vu.io.assets import find
from deja_vu.tracking.alpha import Trimap, _solve_symmetric, guided_filter, spread_color
from deja_vu.tracking.config import MatteConfig
from deja_vu.tracking.crop import crop_frame, crop_valid, find_crop
from deja_vu.tracking.letterbox import Filmed
from deja_vu.tracking.matte import Matting, _keep_connected, plain_background

needs_model = pytest.mark.skipif(find("selfie_segmenter") is None, reason="the segmenter was not fetched: python -m deja_vu.io.assets")
SIDE = 256


def disc(radius, soft=2.0, center=(SIDE / 2, SIDE / 2)):
    """Coverage of a soft-edged disc."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return np.clip((radius - np.hypot(x - center[0], y - center[1])) / soft + 0.5, 0, 1).astype(np.float32)


def cutout(rgb, matte, background):
    """The matte's foreground over another color."""
    alpha = matte.alpha[..., None] / 255
    return matte.foreground * alpha + np.array(background) * (1 - alpha)


@pytest.fixture(scope="module")
def portrait():
    """Head of NASA's public-domain portrait from scikit-image, 512 px, and a rough hull of its face."""
    image = pytest.importorskip("skimage.data").astronaut()[0:230, 110:340]
    face = np.array([(70, 60), (160, 60), (165, 110), (115, 180), (70, 120)], np.float32)
    return cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC), face * 512 / 230


def test_symmetric_systems_agree_with_lapack():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 6, 3, 3))
    matrix = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(3)
    right = rng.normal(size=(5, 6, 3))
    entries = [matrix[..., i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    np.testing.assert_allclose(_solve_symmetric(entries, right), np.linalg.solve(matrix, right[..., None])[..., 0], rtol=1e-9)


def test_guided_filter_keeps_what_is_a_linear_function_of_color():
    # Its model is exact then; what is left is the regularization (1e-4 beside a variance near 0.02) and the work at half size.
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.random((32, 32, 3), dtype=np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    coarse = image @ np.array([0.3, 0.2, 0.1], np.float32) + 0.2
    nowhere = np.zeros((SIDE, SIDE), bool)
    refined = guided_filter(image, Trimap(nowhere, nowhere, ~nowhere, coarse, np.ones_like(coarse)))
    assert np.abs(refined - coarse).max() < 0.02


def test_guided_filter_smooths_where_the_picture_is_flat():
    coarse = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    nowhere = np.zeros((SIDE, SIDE), bool)
    flat = np.full((SIDE, SIDE, 3), 0.4, np.float32)
    refined = guided_filter(flat, Trimap(nowhere, nowhere, ~nowhere, coarse, np.ones_like(coarse)))
    # A mean of about 5x5 half-size pixels, twice: the deviation of 0.29 falls by more than ten.
    assert refined.std() < 0.03
    assert abs(float(refined.mean() - coarse.mean())) < 0.01


def test_spread_color_is_the_mean_of_known_pixels():
    image = np.full((SIDE, SIDE, 3), 0.9, np.float32)
    image[:, : SIDE // 2] = (0.2, 0.4, 0.6)
    known = np.zeros((SIDE, SIDE), bool)
    known[:, : SIDE // 2 - 16] = True
    color = spread_color(image, known)
    # Everywhere, near or far, only known pixels count; they are all alike, so their variance is 0.
    np.testing.assert_allclose(color.mean, np.broadcast_to((0.2, 0.4, 0.6), image.shape), atol=2e-3)
    assert color.variance.max() < 2e-3


def test_only_what_hangs_together_with_the_face_is_kept():
    face, stranger = disc(50), disc(20, center=(30, 30))
    kept = _keep_connected(np.maximum(face, stranger), disc(10) > 0.5)
    assert kept[30, 30] == 0
    np.testing.assert_array_equal(kept[80:180, 80:180], face[80:180, 80:180])
    hole = face.copy()
    hole[120:124, 120:124] = 0
    assert _keep_connected(hole, disc(5) > 0.5)[121, 121] == 1


def test_plain_backgrounds_are_told_from_others():
    white = np.ones((SIDE, SIDE, 3), np.float32)
    white[140:] = 0.3
    everywhere = np.ones((SIDE, SIDE), bool)
    np.testing.assert_allclose(plain_background(white, everywhere, MatteConfig()), 1)
    textured = np.random.default_rng(0).random((SIDE, SIDE, 3), dtype=np.float32)
    assert plain_background(textured, everywhere, MatteConfig()) is None
    ramp = np.broadcast_to(np.linspace(0, 1, SIDE, dtype=np.float32)[None, :, None], (SIDE, SIDE, 3))
    assert plain_background(ramp, everywhere, MatteConfig()) is None


def test_only_filmed_pixels_speak_of_a_plain_background():
    filmed = np.zeros((SIDE, SIDE), bool)
    filmed[40:, 30:-30] = True
    textured = np.random.default_rng(0).random((SIDE, SIDE, 3), dtype=np.float32)
    in_white = np.where(filmed[..., None], textured, 1)
    assert plain_background(in_white, filmed, MatteConfig()) is None
    gray_in_texture = np.where(filmed[..., None], np.float32(0.5), textured)
    np.testing.assert_allclose(plain_background(gray_in_texture, filmed, MatteConfig()), 0.5)
    filmed[:120] = filmed[:, :80] = filmed[:, -80:] = False  # too little of the upper border to tell
    assert plain_background(gray_in_texture, filmed, MatteConfig()) is None


def test_color_that_nothing_is_known_of_counts_for_nothing():
    image = np.random.default_rng(0).random((SIDE, SIDE, 3), dtype=np.float32)
    color = spread_color(image, np.zeros((SIDE, SIDE), bool))
    np.testing.assert_array_equal(color.mean, image)
    assert np.isinf(color.variance).all()


@needs_model
@pytest.mark.parametrize("bars", [False, True])
def test_a_head_that_fills_the_picture_is_told_from_its_wall(bars):
    """Oracle: the coverage with which a made-up person was drawn. With a white margin a quarter of the picture was wrong."""
    subject = SyntheticSubject(1, size=SIDE, close=True)
    drawn, filmed = subject.render(0), Filmed(0, 0, SIDE, SIDE)
    image, person = drawn.image.copy(), drawn.foreground
    if bars:
        filmed = Filmed(20, 0, SIDE - 25, SIDE)
        image[:, : filmed.left] = image[:, filmed.right :] = 0
    marks = subject.head.topology.landmarks["mediapipe"]
    pixels, depth = subject.camera.project(subject.head.at_points(marks.faces, marks.bary)(subject.params))
    crop = find_crop(torch.cat([pixels, depth[..., None]], -1).numpy(), SIDE, SIDE)
    assert crop.y0 < -10
    assert crop.size > SIDE + 20
    valid = crop_valid(filmed, crop, SIDE)
    landmarks = (pixels[0].numpy() - [crop.x0, crop.y0]) * np.float32(SIDE / crop.size)
    with Matting() as matting:
        alpha = matting(crop_frame(image, crop, SIDE, filmed=filmed), landmarks, valid=valid).alpha / 255
    truth = crop_frame(person, crop, SIDE, filmed=filmed, border=0) / 255
    shown = valid == 255
    # Single strands are what is missed, the same as in a film that shows the whole head (0.004).
    assert np.abs(alpha - truth)[shown].mean() < 0.008
    rim = shown & ~cv2.erode(shown.astype(np.uint8), np.ones((7, 7)), borderValue=0).astype(bool)
    rim[SIDE // 2 :] = False
    assert np.clip(alpha - truth, 0, 1)[rim].mean() < 0.005
    assert alpha[valid == 0].max() == 0


@needs_model
class TestMatting:
    def test_known_composite_over_white(self, portrait):
        # Oracle: cut the head out with one matte, paste it over white, and matte that picture again.
        image, face = portrait
        with Matting() as matting:
            first = matting(image, face)
        over_white = np.rint(cutout(image, first, (255, 255, 255))).astype(np.uint8)
        with Matting() as matting:
            again = matting(over_white, face)
        difference = np.abs(again.alpha.astype(float) - first.alpha) / 255
        assert difference.mean() < 0.02
        # Over white, recovered color and coverage give the picture back: what is not white is explained.
        assert np.abs(cutout(over_white, again, (255, 255, 255)) - over_white).mean() < 1.5

    def test_face_is_whole_and_far_background_gone(self, portrait):
        image, face = portrait
        with Matting() as matting:
            matte = matting(image, face)
        hull = cv2.fillConvexPoly(np.zeros(image.shape[:2], np.uint8), face.astype(np.int32), 1).astype(bool)
        assert matte.alpha.dtype == np.uint8
        assert matte.foreground.shape == image.shape
        assert matte.alpha[hull].min() > 250
        assert matte.alpha[:40, :40].max() == 0
        inside = matte.alpha == 255
        np.testing.assert_array_equal(matte.foreground[inside], image[inside])

    def test_no_background_color_bleeds_into_the_edge(self, portrait):
        image, face = portrait
        with Matting() as matting:
            alpha = matting(image, face).alpha[..., None] / 255
        # On a saturated ground a wrong edge color shows at once.
        ground = np.array([0, 255, 0])
        on_green = np.rint(image * alpha + ground * (1 - alpha)).astype(np.uint8)
        with Matting() as matting:
            matte = matting(on_green, face)
        edge = (matte.alpha > 64) & (matte.alpha < 230)
        edge[300:] = False  # below the hair a dark collar, whose own coverage is uncertain
        assert edge.sum() > 100
        excess = lambda rgb: (rgb[edge][:, 1].astype(float) - rgb[edge][:, [0, 2]].max(1)).clip(0).mean()  # noqa: E731
        assert excess(matte.foreground) < 0.5 * excess(on_green)

    def test_still_pictures_do_not_flicker(self, portrait):
        image, face = portrait
        rng = np.random.default_rng(0)
        with Matting() as matting:
            mattes = [matting(np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8), face).alpha for _ in range(4)]
        change = np.abs(mattes[-1].astype(float) - mattes[-2]) / 255
        assert change.mean() < 0.004

    def test_sure_foreground_is_kept(self, portrait):
        image, face = portrait
        held = np.zeros(image.shape[:2], bool)
        held[300:330, 250:280] = True
        with Matting() as matting:
            assert matting(image, face, held).alpha[held].min() == 255

    def test_the_terminal_stays_clean(self, portrait, capfd):
        with Matting() as matting:
            matting(*portrait)
        assert capfd.readouterr() == ("", "")
