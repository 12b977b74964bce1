from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deja_vu.core.errors import InputError, TrackingError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.io.assets import find
from deja_vu.io.video import write_video
from deja_vu.tracking.config import FitConfig, PhotometricConfig, QualityConfig, TrackConfig
from deja_vu.tracking.quality import any_fault, describe_faults, find_landmark_faults, find_pixel_faults, landmark_shares, refuse_failed
from deja_vu.tracking.solver import FaceSolver
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.texture import lift_texture
from deja_vu.tracking.tracker import track_video
from tests.helpers.lenses import make_subject
from tests.tracking.test_photometric import acted, film
from tests.tracking.test_solver import observe, truth

CONFIG = QualityConfig()
needs_models = pytest.mark.skipif(
    find("face_landmarker") is None or find("selfie_segmenter") is None, reason="a model is not here: python -m deja_vu.io.assets"
)


@pytest.fixture(scope="module")
def fitted() -> tuple[FaceSolver, TrackState]:
    """A toy head in thirty frames, and the state that made their landmarks."""
    head, state, window = truth(30)
    return FaceSolver.of(head, observe(head, state, window, noise=0.5), FitConfig()), state


def test_a_good_fit_has_no_fault(fitted) -> None:
    solver, state = fitted
    faults = find_landmark_faults(solver, state, CONFIG)
    assert not any_fault(faults).any()
    refuse_failed(Path("a.mp4"), faults, landmark_shares(solver, state), CONFIG)
    assert describe_faults(faults, torch.arange(30)) == ()


def test_each_way_to_fail_is_found_in_its_frames(fitted) -> None:
    solver, state = fitted
    pose = state.world_from_head.clone()
    pose[3, 0, 3] += 0.1  # a tenth of a meter aside
    assert 3 in find_landmark_faults(solver, replace(state, world_from_head=pose), CONFIG)[0].frames.nonzero()
    for wrong in (0.01, 100.0, -0.7, float("nan")):
        pose = state.world_from_head.clone()
        pose[7, 2, 3] = wrong
        bad = [7 in fault.frames.nonzero() for fault in find_landmark_faults(solver, replace(state, world_from_head=pose), CONFIG)]
        assert bad[1], wrong


def test_a_frame_out_of_reach_of_both_neighbors_is_a_leap_and_a_cut_is_none(fitted) -> None:
    solver, state = fitted
    half = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 1.5]))
    flipped, cut = state.world_from_head.clone(), state.world_from_head.clone()
    flipped[5, :3, :3] = half @ flipped[5, :3, :3]
    cut[15:, :3, :3] = half @ cut[15:, :3, :3]
    assert find_landmark_faults(solver, replace(state, world_from_head=flipped), CONFIG)[2].frames.nonzero().tolist() == [[5]]
    assert not find_landmark_faults(solver, replace(state, world_from_head=cut), CONFIG)[2].frames.any()


def test_what_is_no_number_is_a_fault_whatever_is_compared(fitted) -> None:
    solver, state = fitted
    nothing = replace(state, world_from_head=torch.full_like(state.world_from_head, float("nan")))
    faults = find_landmark_faults(solver, nothing, CONFIG)
    assert faults[0].frames.all()
    assert faults[1].frames.all()
    with pytest.raises(TrackingError, match=r"a\.mp4: the head could not be followed: .* in 30 of 30 frames"):
        refuse_failed(Path("a.mp4"), faults, landmark_shares(solver, nothing), CONFIG)


def test_an_error_that_all_frames_share_is_refused_though_none_is_bad_alone(fitted) -> None:
    solver, state = fitted
    wrong = solver.observations.landmarks + 0.03 * torch.rand(478, 2) * 300
    blurred = replace(solver, observations=replace(solver.observations, landmarks=wrong))
    faults, error = find_landmark_faults(blurred, state, replace(CONFIG, frame_error=0.2)), landmark_shares(blurred, state)
    assert not any_fault(faults).any()
    with pytest.raises(TrackingError, match="Film one face") as refused:
        refuse_failed(Path("a.mp4"), faults, error, replace(CONFIG, video_error=0.01))
    assert len(str(refused.value)) < 500
    assert isinstance(refused.value, InputError), "every command ends with it as with other inputs"


def test_frames_left_out_are_named(fitted) -> None:
    solver, state = fitted
    pose = state.world_from_head.clone()
    pose[[2, 9], 0, 3] += 0.2
    faults = find_landmark_faults(solver, replace(state, world_from_head=pose), CONFIG)[:1]
    (note,) = describe_faults(faults, 10 + torch.arange(30))
    assert note.startswith("2 of 30 frames are left out (12, 19): the fitted head misses")


@needs_models
@pytest.mark.slow
def test_frames_that_cannot_be_right_are_left_out_and_said(tmp_path) -> None:
    """A film of one person into which two frames of a melted face and a negative were cut: they are neither trained on nor stored."""
    frames = list(make_subject(24, 256, 2, 12.0).frames())
    for place in (8, 15):
        frames[place] = melt(frames[place])
    frames[19] = 255 - frames[19]  # found as a face, in the wrong colors
    write_video(tmp_path / "melted.mp4", frames, 12.0)
    config = TrackConfig(resolution=128, photometric=PhotometricConfig(resolution=128, rounds=1, steps=1, video_frames=0))
    track_video(tmp_path / "melted.mp4", tmp_path / "track", config)
    sequence = TrackedSequence.load(tmp_path / "track")
    kept = set(sequence.index.tolist())
    assert kept.isdisjoint({8, 15, 19})
    assert len(kept) == len(sequence.times) == 21
    assert set(sequence.info.excluded) <= {8, 15, 19}
    assert {int(path.stem) for path in (tmp_path / "track" / "frames").iterdir()} == kept


def melt(image: np.ndarray) -> np.ndarray:
    """The lower half of the picture pulled to one side, as a broken stream shows it."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    shift = 90 * np.sin(rows / 14)
    return cv2.remap(image, columns + shift, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def test_pixels_tell_a_frame_of_another_color_and_a_head_beside_the_person() -> None:
    head = load_toy()
    state = acted(head)
    pictures, config = film(head, state, False), PhotometricConfig(resolution=256)
    rgb, alpha = pictures.rgb.clone(), pictures.alpha.clone()
    rgb[4] = 255 - rgb[4]
    alpha[11] = 0
    surface = HeadSurface(head, 64)
    texture = lift_texture(surface, pictures, state, torch.arange(len(rgb)), config)
    for seen, expected in ((pictures, ([], [])), (replace(pictures, rgb=rgb, alpha=alpha), ([4], [11]))):
        color, outside = find_pixel_faults(surface, texture, seen, state, CONFIG, config)
        assert color.frames.nonzero()[:, 0].tolist() == expected[0]
        assert outside.frames.nonzero()[:, 0].tolist() == expected[1]
