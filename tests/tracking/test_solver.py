from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

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
from deja_vu.tracking.state import MAX_STEP, TrackState, Unknowns, project


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
        torch.testing.assert_close(found.frame_jacobian[..., column], (there - back) / 4e-3, rtol=2e-2, atol=2.0)
    wider = replace(state, log_focal=state.log_focal + 1e-3).camera(window).project(points(state.params()))[0]
    torch.testing.assert_close(found.video_jacobian[..., -1], (wider - found.pixels) / 1e-3, rtol=1e-2, atol=0.1)


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


def film_through(focal: float, distance: float) -> tuple[FaceSolver, TrackState]:
    """What a camera sees of the toy head, and the truth; the focal length is in widths of the picture."""
    head, state, window = truth(30)
    pose = state.world_from_head.clone()
    pose[:, 2, 3] += distance - 0.75
    state = replace(state, world_from_head=pose, log_focal=torch.tensor(focal).log())
    return FaceSolver.of(head, observe(head, state, window, noise=0.5), FitConfig()), state


@pytest.mark.parametrize(("focal", "distance"), [(0.5, 0.3), (0.86, 0.3), (1.6, 0.62), (4.0, 1.5)])
def test_a_head_is_found_before_any_lens(focal: float, distance: float) -> None:
    """From a wide lens near the face to a tele lens far away. Without a depth that cannot change its sign, the two wide ones ran away."""
    solver, state = film_through(focal, distance)
    found = fit_landmarks(solver, FitConfig())
    assert solver.landmark_errors(found).median() < 1  # half a pixel of noise along each axis
    # A tele lens flattens the face, so that its distance cannot be told from its size: there what is usual decides.
    assert (found.world_from_head[:, 2, 3] / state.world_from_head[:, 2, 3]).log().abs().max() < (0.4 if distance < 1 else 0.7)
    turned = found.world_from_head[:, :3, :3].transpose(1, 2) @ state.world_from_head[:, :3, :3]
    assert torch.acos(((turned.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1)).median() < 0.06


def test_motion_in_depth_does_not_ask_for_a_nearer_head() -> None:
    """The prior on change is the same for a film and for one of a head twice as far through a lens twice as long."""
    head, state, window = truth(30)
    priors = FaceSolver.of(head, observe(head, state, window, noise=0.0), FitConfig()).priors
    farther = state.world_from_head.clone()
    farther[:, 2, 3] *= 2
    twice = replace(state, world_from_head=farther, log_focal=state.log_focal + math.log(2))
    torch.testing.assert_close(priors.change(twice), priors.change(state), rtol=1e-4, atol=1e-6)
    assert priors.cost(twice, share_identity=False) == pytest.approx(priors.cost(state, share_identity=False), rel=1e-4)


def test_descending_never_raises_the_cost() -> None:
    """From a start half a turn of the focal length away, where plain steps overshoot; the slope that steps follow is that of the cost."""
    solver, state = film_through(0.6, 0.3)
    term = solver.landmark_term(FitConfig())
    start = solver.guess(torch.tensor(4.0).log())
    costs = [solver.cost(start, [term], share_identity=True)]
    for _ in range(16):
        start, cost = solver.descend(start, [term], 1, share_identity=True)
        costs.append(cost)
        assert cost == pytest.approx(solver.cost(start, [term], share_identity=True))
    assert all(later <= earlier for earlier, later in pairwise(costs))
    assert costs[-1] < solver.cost(state, [term], share_identity=True), "the noise fits better than the truth"


def test_steps_lead_down_the_cost() -> None:
    """The right side of the normal equations is minus the cost's slope, by differences, for landmarks and priors alike."""
    solver, state = film_through(1.2, 0.5)
    term, unknowns = solver.landmark_term(FitConfig()), solver.priors.unknowns
    solver = replace(solver, priors=replace(solver.priors, change_precision=torch.zeros_like(solver.priors.change_precision)))
    system = NormalEquations.zeros(len(solver.observations), unknowns.size, len(state.shape) + 1)
    term.add(system, state)
    solver.priors.add(system, state)
    for column in (0, 2, 3, 5, 6):
        step = torch.zeros(len(solver.observations), unknowns.size)
        step[:, column] = 1e-3
        none = torch.zeros(len(state.shape) + 1)
        ahead, behind = (solver.cost(unknowns.update(state, sign * step, none), [term], share_identity=True) for sign in (1, -1))
        slope = -float(system.frame_rhs[:, column].sum())
        assert (ahead - behind) / 2e-3 == pytest.approx(slope, rel=0.02, abs=2.0)


def test_a_step_is_never_longer_than_a_head_can_be_wrong() -> None:
    head, state, _ = truth(3)
    unknowns = Unknowns.of(head)
    step = torch.zeros(3, unknowns.size)
    step[0, 0], step[1, 5] = 100.0, -100.0
    moved = unknowns.update(state, step)
    assert (moved.world_from_head[:, 2, 3] > 0).all()
    assert float((moved.world_from_head[1, 2, 3] / state.world_from_head[1, 2, 3]).log()) == pytest.approx(-MAX_STEP)
    turned = moved.world_from_head[0, :3, :3] @ state.world_from_head[0, :3, :3].T
    assert float(torch.acos((turned.trace() - 1) / 2)) == pytest.approx(MAX_STEP, abs=1e-3)
