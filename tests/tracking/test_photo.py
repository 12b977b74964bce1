"""The head in one photo: fitted where it can be, refused in words where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deja_vu.core.errors import InputError
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import load_bust
from deja_vu.heads.skinning import matrix_to_axis_angle
from deja_vu.io.assets import find
from deja_vu.io.images import Picture, read_picture
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.config import PhotoConfig
from deja_vu.tracking.photo import PhotoFitter, fit_photo
from deja_vu.uv.attach import vertex_normals
from tests.helpers.elsewhere import elsewhere

FACES = Path(__file__).parents[1] / "data" / "faces"
pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.skipif(find("face_landmarker") is None, reason="needs the landmarker: python -m deja_vu.io.assets")


@pytest.fixture(scope="module")
def anny() -> HeadModel:
    return load_head("anny")


@pytest.fixture(scope="module")
def fitter(anny) -> Iterator[PhotoFitter]:
    with PhotoFitter(anny, PhotoConfig(resolution=256)) as made:
        yield made


@pytest.fixture(scope="module")
def woman() -> np.ndarray:
    return read_picture(FACES / "female_00.jpg").rgb


def photo(rgb: np.ndarray) -> Picture:
    return Picture(np.ascontiguousarray(rgb), None, ())


def test_the_fit_meets_landmarks_and_outline(fitter, anny, woman):
    fitted = fitter.fit(photo(woman), "woman", "w")
    portrait = fitted.portrait
    assert fitted.error_px < 1.2  # the detector's own noise on such a crop is 0.4 to 0.7 pixels
    assert portrait.frame.image.shape == (256, 256, 3)
    shown = rasterize_mesh(anny(portrait.params), anny.topology.faces, portrait.camera).face_id[0]
    face = (shown >= 0) & ~anny.topology.regions["neck"][shown.clamp_min(0)]
    covered = portrait.frame.foreground[face] > 127
    assert covered.float().mean() > 0.97, "the bald head lies within the matte"
    assert portrait.frame.head.sum() < portrait.frame.foreground.sum(), "shoulders are no head"
    assert 0.3 < float(portrait.params.world_from_head[0, 2, 3]) < 2.0


def test_the_torso_below_the_head_fills_the_matte(fitter, anny, woman):
    fitted, alone = fitter.fit(photo(woman), "woman", "w", with_torso=True), fitter.fit(photo(woman), "woman", "w")
    assert alone.person is None
    torch.testing.assert_close(alone.portrait.params.world_from_head, fitted.portrait.params.world_from_head, rtol=0, atol=0)
    person, bust = fitted.person, load_bust()
    assert person is not None
    assert person.crop.size > fitted.crop.size
    portrait = person.portrait
    skin = bust(portrait.params, person.torso_shape[None])
    clothes = skin + bust.clothing[:, None] * vertex_normals(skin, bust.topology.faces)
    shown = rasterize_mesh(clothes, bust.topology.faces, portrait.camera).face_id[0] >= 0
    pixels, _ = portrait.camera.project(anny(portrait.params))
    below = int(pixels[0, anny.topology.faces[anny.topology.regions["face"]].unique(), 1].max()) + 10
    drawn, matte = shown[below:], portrait.frame.foreground[below:] > 127
    assert len(drawn) > 60
    overlap = float((drawn & matte).sum() / (drawn | matte).sum())
    assert overlap > 0.93, overlap  # braids hang beside the neck
    turned = matrix_to_axis_angle(portrait.params.torso[0, :3, :3])
    assert turned.norm() < 0.35  # she looks straight ahead


def test_a_photo_does_not_depend_on_the_one_before(fitter, woman):
    man = read_picture(FACES / "male_49.jpg").rgb
    first = fitter.fit(photo(woman), "woman", "w").portrait
    fitter.fit(photo(man), "man", "m")
    again = fitter.fit(photo(woman), "woman", "w").portrait
    assert torch.equal(first.params.shape, again.params.shape)
    assert torch.equal(first.frame.foreground, again.frame.foreground)


def test_the_crop_may_reach_beyond_the_picture(fitter, woman):
    close = woman[60:300, 90:300]
    portrait = fitter.fit(photo(close), "close", "c").portrait
    beyond = portrait.frame.valid == 0
    assert beyond.any()
    assert not portrait.frame.foreground[beyond].any()


def test_bars_about_a_photo_are_no_wall(fitter, woman):
    barred = np.zeros((woman.shape[0], woman.shape[1] + 120, 3), np.uint8)
    barred[:, 60:-60] = woman
    frame = fitter.fit(photo(barred[:, 20:-20]), "barred", "b").portrait.frame
    alone = fitter.fit(photo(woman), "alone", "a").portrait.frame
    assert not frame.foreground[frame.valid == 0].any()
    share = [float((each.foreground > 127).sum() / (each.valid > 127).sum()) for each in (frame, alone)]
    assert share[0] == pytest.approx(share[1], rel=0.05), "the same head, in a crop that lies a little otherwise"


def test_of_two_faces_the_largest_is_taken_and_said(fitter, woman):
    small = cv2.resize(woman, (250, 250), interpolation=cv2.INTER_AREA)
    both = np.full((400, 660, 3), 128, np.uint8)
    both[:384, :384], both[:250, 400:650] = woman, small
    fitted = fitter.fit(photo(both), "both", "b")
    assert "2 faces" in fitted.notes[0]
    assert fitted.crop.x0 < 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rgb: np.full_like(rgb, 120), "no face was found"),
        (lambda rgb: cv2.resize(rgb, (140, 140), interpolation=cv2.INTER_AREA), "no face was found|pixels wide"),
        (lambda rgb: rgb[:, 190:], "cut by the picture's border|no face was found"),
    ],
)
def test_refusals(fitter, woman, change, message):
    with pytest.raises(InputError, match=message):
        fitter.fit(photo(change(woman)), "it", "i")


def test_a_profile_is_refused(anny, woman):
    config = PhotoConfig(resolution=256, max_turn=0.5)  # nobody looks into the camera as exactly as that
    with pytest.raises(InputError, match="degrees away; 0 is the most"):
        fit_photo(anny, photo(woman), "it", "i", config)


def test_a_head_is_fitted_to_a_photo_elsewhere_as_on_the_cpu(anny, woman) -> None:
    """What comes back lies on the host: masks and torso are found there."""
    config = PhotoConfig(resolution=128, silhouette_steps=2)
    with PhotoFitter(anny, config) as fitter:
        here = fitter.fit(photo(woman), "it", "i")
    with elsewhere() as device, PhotoFitter(anny, config, device) as fitter:
        there = fitter.fit(photo(woman), "it", "i")
    for name in ("shape", "expression", "joints", "world_from_head"):
        value = getattr(there.portrait.params, name)
        assert type(value) is torch.Tensor, name
        torch.testing.assert_close(value, getattr(here.portrait.params, name), rtol=1e-3, atol=1e-3)  # rounding, over some solved systems
    assert there.error_px == pytest.approx(here.error_px, rel=1e-3)
