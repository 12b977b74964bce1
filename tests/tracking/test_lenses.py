"""Films through other lenses and in other frames: a few of the forty of tests/helpers/film_matrix.py, by their landmarks alone."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.core.errors import TrackingError
from deja_vu.heads.base import HeadModel
from deja_vu.io.assets import find
from deja_vu.io.video import write_video
from deja_vu.tracking.config import PhotometricConfig, QualityConfig, TrackConfig
from deja_vu.tracking.landmarks import detect_video
from deja_vu.tracking.tracker import fit_video, track_video
from tests.helpers.lenses import Setting, film, make_subject

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find("face_landmarker") is None or find("selfie_segmenter") is None, reason="a model is not here: python -m deja_vu.io.assets"
    ),
]
CONFIG = TrackConfig()


@pytest.mark.parametrize(
    "setting",
    [
        Setting(focal=0.5, frames=10, room=(0, 124)),
        Setting(focal=4.0, frames=10),
        Setting(focal=0.75, frames=10, bars=(0, 184)),
        Setting(focal=518 / 1280, frames=10, room=(480, 200), zoom=0.75, turn=2),
    ],
    ids=["wide 9:16", "tele", "letterbox", "small, upside down"],
)
def test_a_head_is_found_through_any_lens_and_in_any_frame(anny: HeadModel, tmp_path: Path, setting: Setting) -> None:
    """All but the tele lens ended with millions of pixels of error before; see also the table of forty films in the docs."""
    made = film(tmp_path / "film.mp4", setting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the turn
        detections = detect_video(made.path)
    detections, state, notes = fit_video(made.path, anny, detections, CONFIG)
    assert detections.turn == setting.turn  # two quarters, or none
    assert notes == ()
    assert len(state.expression) == setting.frames
    index = torch.from_numpy(detections.index)
    truth = made.params[index]
    relative = state.world_from_head[:, :3, :3] @ truth.world_from_head[:, :3, :3].mT
    angle = torch.rad2deg(torch.acos(((relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
    assert angle.mean() < 8  # the detector's own bias; 3 to 5.5 are measured
    crop, side = detections.crop, CONFIG.resolution
    window = made.camera.crop(crop.x0, crop.y0, crop.size, crop.size).resize(side, side)
    face = anny.topology.faces[anny.topology.regions["face"]].unique()
    own = crop.camera(CONFIG.fit.focal_ratio, detections.info.width, detections.info.height, side)
    there, here = window.project(anny(truth)[:, face])[0], state.camera(own).project(anny(state.params())[:, face])[0]
    assert (here - there).norm(dim=-1).mean() < 7  # pixels of 512; 3 to 4 are measured


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("short") / "me.mp4"
    write_video(path, make_subject(8, 256, 2, 6.0).frames(), 6.0)
    return path


@pytest.mark.parametrize("quality", [QualityConfig(video_error=1e-4), QualityConfig(color=1e-6)], ids=["by landmarks", "by pixels"])
def test_a_video_that_could_not_be_followed_is_refused_and_nothing_of_it_stays(short: Path, tmp_path: Path, quality: QualityConfig) -> None:
    quick = PhotometricConfig(resolution=128, rounds=1, steps=1, video_frames=0)
    with pytest.raises(TrackingError, match=r"the head could not be followed: .*\. (Film|Lock)"):
        track_video(short, tmp_path / "out", replace(CONFIG, resolution=128, quality=quality, photometric=quick))
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()] if (tmp_path / "out").exists() else []
    assert left == []
