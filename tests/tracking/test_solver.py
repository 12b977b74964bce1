from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.tracking.config import FitConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.solver import FaceSolver, fit_landmarks, refuse_untrackable
from deja_vu.tracking.state import TrackState, Unknowns, project


def truth(frames: int) -> tuple[object, TrackState, Camera]:
    """A toy head that turns, comes nearer and talks, in front of a 512-pixel camera."""
    head = load_toy()
    time = torch.linspace(0, 1, frames)
    turn = torch.stack([0.2 * torch.sin(6 * time), 0.5 * torch.sin(4 * time), 0.1 * torch.cos(5 * time)], -1)
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, :3, 3] = torch.stack([0.02 * torch.sin(3 * time), 0.01 * time, 0.75 - 0.05 * time], -1)
    expression = torch.zeros(frames, head.spec.num_expression)
    expression[:, 0] = 0.5 + 0.5 * torch.sin(9 * time)
    shape = torch.linspace(-1, 1, head.spec.num_shape)
    state = TrackState(shape, torch.tensor(1100.0 / 512).log(), expression, torch.zeros(frames, head.spec.num_joints, 3), pose)
    return head, state, Camera.from_focal(900.0, 512, 512)


def observe(head: object, state: TrackState, window: Camera, noise: float) -> Observations:
    marks = head.topology.landmarks["mediapipe"]
    points = head.at_points(marks.faces, marks.bary)
    pixels, _ = state.camera(window).project(points(state.params()))
    landmarks = torch.zeros(len(pixels), 478, 2)
    landmarks[:, marks.ids] = pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    names = head.spec.expression_names
    return Observations(landmarks, state.expression.clone(), names, window, torch.arange(len(pixels)) / 30)


def test_derivatives_agree_with_differences_of_the_projection() -> None:
    head, state, window = truth(3)
    marks = head.topology.landmarks["mediapipe"]
    points, unknowns = head.at_points(marks.faces, marks.bary), Unknowns.of(head)
    found = project(points, state.params(), state.camera(window), unknowns, share_identity=True)
    for column in range(unknowns.size):
        step = torch.zeros(3, unknowns.size)
        step[:, column] = 2e-3
        there = state.camera(window).project(points(unknowns.update(state, step).params()))[0]
        back = state.camera(window).project(points(unknowns.update(state, -step).params()))[0]
        # Joints are differentiated one-sidedly with a step of 0.01 rad: half a percent of slopes that reach 300 pixels a radian.
        torch.testing.assert_close(found.by_frame[..., column], (there - back) / 4e-3, rtol=2e-2, atol=2.0)
    wider = replace(state, log_focal=state.log_focal + 1e-3).camera(window).project(points(state.params()))[0]
    torch.testing.assert_close(found.by_video[..., -1], (wider - found.pixels) / 1e-3, rtol=1e-2, atol=0.1)


def test_fit_recovers_a_known_motion_without_noise() -> None:
    head, state, window = truth(40)
    observations = observe(head, state, window, noise=0.0)
    solver = FaceSolver.of(head, observations, FitConfig(steps=12))
    found = fit_landmarks(solver, FitConfig(steps=12))
    # Priors pull the fit from the truth by far less than a landmark's deviation.
    assert solver.landmark_errors(found).median() < 0.3
    turned = found.world_from_head[:, :3, :3].transpose(1, 2) @ state.world_from_head[:, :3, :3]
    angle = torch.acos(((turned.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1))
    assert angle.max() < 0.05


def test_smoothing_has_no_batch_borders() -> None:
    """The solved steps of a video equal a dense solution of the same system, so every neighbor is coupled."""
    torch.manual_seed(0)
    frames, size, shared = 6, 5, 3
    system = NormalEquations.zeros(frames, size, shared)
    system.add(
        slice(0, frames),
        torch.randn(frames, 30, size),
        torch.randn(frames, 30, shared),
        torch.randn(frames, 30),
        torch.rand(frames, 30) + 0.1,
    )
    coupling, difference = torch.rand(frames - 1, size) + 0.5, torch.randn(frames - 1, size)
    step, video = system.solve(coupling, difference)
    dense, rhs = torch.zeros(frames * size + shared, frames * size + shared).double(), torch.zeros(frames * size + shared).double()
    for t in range(frames):
        own = slice(t * size, (t + 1) * size)
        dense[own, own] += system.frame[t].double()
        dense[own, frames * size :] += system.cross[t].double()
        dense[frames * size :, own] += system.cross[t].double().T
        rhs[own] += system.frame_rhs[t].double()
    dense[frames * size :, frames * size :] += system.video.double()
    rhs[frames * size :] += system.video_rhs.double()
    for t in range(frames - 1):
        for k in range(size):
            a, b, c = t * size + k, (t + 1) * size + k, float(coupling[t, k])
            dense[a, a] += c
            dense[b, b] += c
            dense[a, b] -= c
            dense[b, a] -= c
            rhs[a] += c * float(difference[t, k])
            rhs[b] -= c * float(difference[t, k])
    expected = torch.linalg.solve(dense, rhs).float()
    torch.testing.assert_close(step.flatten(), expected[: frames * size], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(video, expected[frames * size :], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", [1.0])
def test_noise_in_landmarks_is_smoothed(noise: float) -> None:
    head, state, window = truth(40)
    noisy, clean = (FaceSolver.of(head, observe(head, state, window, deviation), FitConfig()) for deviation in (noise, 0.0))
    found = fit_landmarks(noisy, FitConfig())
    assert clean.landmark_errors(found).mean() < noisy.landmark_errors(found).mean()


def test_a_head_without_what_tracking_needs_is_refused() -> None:
    head = load_toy()
    head.topology = replace(head.topology, regions={"skin": head.topology.regions["skin"]}, landmarks={})
    with pytest.raises(ConfigError, match=r"region face.*MediaPipe landmarks"):
        refuse_untrackable(head)
    refuse_untrackable(load_toy())
