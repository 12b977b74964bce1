"""The head is fitted on another device as it is on the CPU: to landmarks, then to pixels, with all its terms."""

from __future__ import annotations

import pytest
import torch

from deja_vu.heads.toy import load as load_toy
from deja_vu.tracking.config import FitConfig, PhotometricConfig, QualityConfig
from deja_vu.tracking.photometric import PhotometricRefiner
from deja_vu.tracking.quality import any_fault, find_landmark_faults, find_pixel_faults
from deja_vu.tracking.solver import FaceSolver, fit_landmarks
from deja_vu.tracking.state import TrackState
from deja_vu.tracking.surface import HeadSurface
from deja_vu.tracking.texture import SurfaceTexture
from tests.helpers.elsewhere import Distant, elsewhere
from tests.tracking.test_photometric import acted, film, observe

FRAMES = torch.arange(0, 24, 3)
FIT = FitConfig(identity_frames=5, start_frames=2, steps=2, start_steps=1)
PIXELS = PhotometricConfig(rounds=2, steps=1, video_frames=4, texture_frames=4, hull_frames=4, point_grid=64)


def track(device: torch.device) -> tuple[TrackState, SurfaceTexture, list[torch.Tensor]]:
    """State and texture of an acted film, and which frames failed."""
    head = load_toy()
    truth = acted(head)
    crops = film(head, truth.select(FRAMES), lit=True).to(device)
    observations = observe(head, truth).select(FRAMES).to(device)
    there = head.copy().to(device)
    solver = FaceSolver.of(there, observations, FIT)
    state = fit_landmarks(solver, FIT)
    refiner = PhotometricRefiner(solver, crops, (torch.arange(len(FRAMES)) < 6).to(device), PIXELS, FIT)
    state, texture = refiner.refine(state)
    faults = find_landmark_faults(solver, state, QualityConfig())
    faults += find_pixel_faults(HeadSurface(there, PIXELS.point_grid), texture, crops, state, QualityConfig(), PIXELS)
    assert {type(value) for value in vars(state).values()} == {type(crops.rgb)}
    return state, texture, [any_fault(faults), *(fault.frames for fault in faults)]


def test_a_head_is_fitted_elsewhere_as_on_the_cpu() -> None:
    state, texture, faults = track(torch.device("cpu"))
    with elsewhere() as device:
        there, texture_there, faults_there = track(device)
        assert isinstance(there.expression, Distant)
        there = there.to(torch.device("cpu"))
        colors = texture_there.color.cpu()
    for name, value in vars(state).items():
        torch.testing.assert_close(getattr(there, name), value, rtol=1e-4, atol=1e-4)  # rounding, over some dozens of solved systems
    torch.testing.assert_close(colors, texture.color, rtol=1e-3, atol=1e-3)
    for value, expected in zip(faults_there, faults, strict=True):
        assert type(value) is torch.Tensor
        assert torch.equal(value, expected)


def test_what_lies_elsewhere_is_not_mixed_with_what_lies_here() -> None:
    with elsewhere() as device:
        far, near = torch.arange(4.0).to(device), torch.arange(4.0)
        assert (far * 2).cpu().tolist() == [0, 2, 4, 6]
        for mixed in (lambda: far + near, lambda: near.mul_(far), lambda: torch.cat([near, far])):
            with pytest.raises(RuntimeError, match="lies on the CPU"):
                mixed()
