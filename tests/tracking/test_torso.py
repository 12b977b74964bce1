"""The torso's tracker against torsos that were drawn, against finite differences, and where there is little or nothing to see."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from deja_vu.core.camera import Camera
from deja_vu.core.head import TORSO_SHAPE
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BustModel, load_bust
from deja_vu.heads.skinning import axis_angle_to_matrix, invert_motion, matrix_to_axis_angle
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.config import TorsoConfig
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.state import POSE, TrackState
from deja_vu.tracking.texture import Crops
from deja_vu.tracking.torso import track_torso
from deja_vu.tracking.torso_priors import TorsoPriors, TorsoState
from deja_vu.tracking.torso_surface import TorsoSurface
from deja_vu.uv.attach import vertex_normals

SIDE, FRAMES = 192, 32
WINDOW = Camera.from_focal(2.2 * SIDE, SIDE, SIDE).crop(0, SIDE // 8, SIDE, SIDE)
CONFIG = TorsoConfig()
UPRIGHT = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
TRAIN = torch.arange(FRAMES) < 26
TIMES = torch.arange(FRAMES) / 15


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("anny")


@pytest.fixture(scope="module")
def bust() -> BustModel:
    return load_bust()


def poses(turn: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    pose = torch.eye(4).repeat(len(turn), 1, 1)
    pose[:, :3, :3] = UPRIGHT @ axis_angle_to_matrix(turn)
    pose[:, :3, 3] = place
    return pose


def acted(head: HeadModel, sway: float = 1.0) -> TrackState:
    """A torso that sways by centimeters and degrees, and a head that turns on it by twenty degrees about the neck."""
    time = torch.linspace(0, 1, FRAMES)
    lean = sway * torch.stack([0.01 * torch.sin(5 * time), 0.02 * torch.sin(4 * time + 1), 0.03 * torch.cos(5 * time)], -1)
    place = sway * torch.stack([0.01 * torch.sin(6 * time), 0.005 * torch.cos(4 * time), 0.01 * time], -1)
    torso = poses(lean, place + torch.tensor([0.0, -0.04, 0.7]))
    turn = torch.stack([0.1 * torch.sin(7 * time), 0.35 * torch.sin(6 * time), 0.05 * torch.cos(5 * time)], -1)
    neck = head.joint_pivots[head.spec.joint_names.index("neck")]
    nod = torch.eye(4).repeat(FRAMES, 1, 1)
    nod[:, :3, :3] = axis_angle_to_matrix(turn)
    nod[:, :3, 3] = neck - nod[:, :3, :3] @ neck
    skull = torso @ nod
    neutral = head.neutral((FRAMES,))
    log_focal = (WINDOW.intrinsics[0, 0] / SIDE).log()
    return TrackState(neutral.shape[0], log_focal, neutral.expression, neutral.joints, skull, torso=invert_motion(skull) @ torso)


def film(head: HeadModel, bust: BustModel, state: TrackState, *, plain: bool = False, side: int = SIDE) -> Crops:
    """Draw head and dressed bust at twice the size and average; the shirt has waves a few centimeters long, or none."""
    camera, params = state.camera(WINDOW).resize(2 * side, 2 * side), state.params()
    skin = bust(params, state.torso_shape.expand(FRAMES, -1))
    clothes = skin + bust.clothing[:, None] * vertex_normals(skin, bust.topology.faces)
    x, y, z = bust.template.T
    shirt = torch.full_like(bust.template, 0.3)
    if not plain:
        shirt = 0.5 + 0.3 * torch.stack([torch.sin(140 * x + 1), torch.sin(150 * y), torch.cos(120 * x + 130 * z)], -1)
    shirt[bust.skin_weights[:, 0] < 0.5] = torch.tensor([0.8, 0.6, 0.5])
    color = torch.cat([torch.tensor([0.8, 0.6, 0.5]).expand(len(head.template), 3), shirt])
    faces = torch.cat([head.topology.faces, bust.topology.faces + len(head.template)])
    shown = rasterize_mesh(torch.cat([head(params), clothes], 1), faces, camera)
    covered = (shown.face_id >= 0).float()[..., None]
    image = (color[faces[shown.face_id.clamp_min(0)]] * shown.bary[..., None]).sum(-2) * covered + 0.9 * (1 - covered)
    planes = torch.cat([image, covered], -1).permute(0, 3, 1, 2)
    small = (255 * torch.nn.functional.avg_pool2d(planes, 2)).round().to(torch.uint8).permute(0, 2, 3, 1)
    rgb, alpha = (small[..., :3].contiguous(), small[..., 3].contiguous())
    return Crops(rgb, alpha, torch.full((side, side), 255, dtype=torch.uint8), state.camera(WINDOW))


def errors(found: TrackState, truth: TrackState) -> tuple[float, float, float]:
    """Root mean square of what differs at the neck's base, mm; of its motion across the view, mm; of the turn's motion, degrees."""
    here, there = (state.params().world_from_torso for state in (found, truth))
    base = torch.tensor([0.0, -0.13, 0.0])
    away = (here[:, :3, :3] - there[:, :3, :3]) @ base + here[:, :3, 3] - there[:, :3, 3]
    turn = torch.rad2deg(matrix_to_axis_angle(there[:, :3, :3].mT @ here[:, :3, :3]))
    moved, turned = (away - away.mean(0))[:, :2], turn - turn.mean(0)
    return tuple(float(value.square().sum(1).mean().sqrt()) for value in (1e3 * away, 1e3 * moved, turned))  # type: ignore[return-value]


def forget(state: TrackState) -> TrackState:
    """What the tracker knows of it: the head alone."""
    return replace(state, torso=torch.eye(4).expand(FRAMES, 4, 4), torso_shape=torch.zeros(TORSO_SHAPE))


def test_a_torso_in_a_patterned_shirt_is_found_to_the_millimeter_while_the_head_turns(head: HeadModel, bust: BustModel) -> None:
    truth = acted(head)
    found, notes = track_torso(head, forget(truth), film(head, bust, truth), TRAIN, TIMES, CONFIG)
    place, motion, turn = errors(found, truth)
    assert notes == ()
    assert place < 8
    assert motion < 0.4
    assert turn < 0.6
    still = errors(replace(found, torso=forget(truth).torso), truth)
    assert motion < still[1] / 8  # of what it would be if the torso followed the head
    assert turn < still[2] / 8
    torch.testing.assert_close(found.world_from_head, truth.world_from_head, atol=0, rtol=0)  # the head stays as it was


def test_a_plain_shirt_is_held_by_its_outline(head: HeadModel, bust: BustModel) -> None:
    truth = acted(head)
    found, notes = track_torso(head, forget(truth), film(head, bust, truth, plain=True), TRAIN, TIMES, CONFIG)
    place, motion, turn = errors(found, truth)
    assert notes == ()
    assert place < 10
    assert motion < 3
    assert turn < 1.5


def test_a_hand_before_the_chest_does_not_take_the_torso_along(head: HeadModel, bust: BustModel) -> None:
    truth = acted(head)
    crops = film(head, bust, truth)
    rows = torch.arange(32)[:, None]
    for frame in range(4, 20):  # a striped box crosses the chest
        left = 20 + 6 * frame
        crops.rgb[frame, 140:172, left : left + 32] = (120 + 100 * torch.sin(rows / 2)).to(torch.uint8)[..., None]
    found, _ = track_torso(head, forget(truth), crops, TRAIN, TIMES, CONFIG)
    _, motion, turn = errors(found, truth)
    assert motion < 1.5
    assert turn < 1


def test_raised_shoulders_in_a_narrow_picture_do_not_lose_the_torso(head: HeadModel, bust: BustModel) -> None:
    """Four centimeters above usual ones, and the arms beyond the picture's sides, as when somebody holds up a phone."""
    tips = ((bust.template[:, 0].abs() - 0.17).abs() < 0.01) & (bust.template[:, 1] > -0.2)
    rise = bust.own_basis[:, tips, 1].mean(1)
    truth = replace(acted(head), torso_shape=0.04 * rise / rise.square().sum())
    crops = film(head, bust, truth)
    crops.valid[:, :48] = crops.valid[:, 144:] = crops.alpha[:, :, :48] = crops.alpha[:, :, 144:] = 0
    found, _ = track_torso(head, forget(truth), crops, TRAIN, TIMES, CONFIG)
    _, motion, turn = errors(found, truth)
    assert motion < 0.8
    assert turn < 1.0


def test_a_torso_that_nobody_filmed_stays_below_the_head_and_is_said(head: HeadModel, bust: BustModel) -> None:
    """The picture ends at the chin: the priors alone must give a torso that stands where the neck hangs."""
    truth = acted(head, sway=0)
    crops = film(head, bust, truth)
    crops.valid[100:] = crops.alpha[:, 100:] = 0
    found, notes = track_torso(head, forget(truth), crops, TRAIN, TIMES, CONFIG)
    assert len(notes) == 1
    assert "0% of the torso's front" in notes[0]
    place, motion, _ = errors(found, truth)
    assert place < 25
    assert motion < 3
    assert found.torso_shape.abs().max() < 0.1


def test_a_head_without_a_bust_keeps_its_torso(head: HeadModel, bust: BustModel) -> None:
    truth = acted(head)
    crops = film(head, bust, truth)
    toy = load_toy()
    neutral = toy.neutral((FRAMES,))
    state = TrackState(neutral.shape[0], truth.log_focal, neutral.expression, neutral.joints, truth.world_from_head)
    found, notes = track_torso(toy, state, crops, TRAIN, TIMES, CONFIG)
    assert found is state
    assert notes == ()


def surface_and_priors(head: HeadModel, bust: BustModel, state: TrackState) -> tuple[TorsoSurface, TorsoPriors]:
    surface = TorsoSurface.of(bust, torch.zeros(FRAMES, 96, 96, dtype=torch.bool), 64, CONFIG)
    return surface, TorsoPriors.of(head, state, surface.pivot, TIMES, CONFIG)


def test_points_move_as_their_derivatives_say(head: HeadModel, bust: BustModel) -> None:
    """Against central differences; clothes are left out, whose normals turn a little with the shape."""
    state = TorsoState(acted(head), torch.eye(4))
    surface, priors = surface_and_priors(head, bust, state.track)
    surface = replace(surface, clothing=torch.zeros_like(surface.clothing))
    points, camera = torch.arange(0, len(surface.layout), 37), state.track.camera(WINDOW)
    shared = POSE + TORSO_SHAPE
    projection = surface.differentiate(points, state.track, slice(None), camera, shared)
    size = 1e-3

    def pixels(unknown: int, step: float) -> torch.Tensor:
        frames, video = torch.zeros(FRAMES, POSE), torch.zeros(shared)
        if unknown < POSE:
            frames[:, unknown] = step
        else:
            video[unknown] = 100 * step
        return surface.project(priors.step(state, frames, video).track, slice(None), camera)[:, points]

    assert projection.video_jacobian is not None
    assert not projection.video_jacobian[..., :POSE].any()  # the mean pose moves no point by itself
    for unknown in (*range(POSE), POSE, shared - 1):
        slope = (pixels(unknown, size) - pixels(unknown, -size)) / (2 * size * (1 if unknown < POSE else 100))
        ours = projection.frame_jacobian[..., unknown] if unknown < POSE else projection.video_jacobian[..., unknown]
        assert (slope - ours).abs().max() < 0.01 * ours.abs().max() + 0.02, unknown


def test_the_priors_pull_down_the_energy_that_they_stand_for(head: HeadModel, bust: BustModel) -> None:
    """Their right-hand side is minus half the gradient of the energy, which is written down here by itself, with scipy's rotations."""
    state = acted(head)
    _, priors = surface_and_priors(head, bust, state)
    mean = priors.start.clone()
    mean[:3, :3] = axis_angle_to_matrix(torch.tensor([0.03, -0.05, 0.02])) @ mean[:3, :3]
    shape = 0.3 * torch.ones(TORSO_SHAPE)
    full = TorsoState(replace(state, torso_shape=shape), mean)
    system = NormalEquations.zeros(FRAMES, POSE, POSE + TORSO_SHAPE)
    priors.add(system, full)
    base, joint = priors.base.double().numpy(), priors.joint.double().numpy()
    start, heads = priors.start.double().numpy(), state.world_from_head.double().numpy()

    def move(pose: np.ndarray, step: np.ndarray) -> np.ndarray:
        moved = pose.copy()
        moved[:3, :3] = Rotation.from_rotvec(step[:3]).as_matrix() @ pose[:3, :3]
        moved[:3, 3] = pose[:3, :3] @ base + pose[:3, 3] + step[3:] - moved[:3, :3] @ base
        return moved

    def turn(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.degrees(Rotation.from_matrix(first[:3, :3].T @ second[:3, :3]).as_rotvec())

    def at(pose: np.ndarray, point: np.ndarray) -> np.ndarray:
        return pose[:3, :3] @ point + pose[:3, 3]

    def energy_of_frame(torso: np.ndarray, middle: np.ndarray, head_pose: np.ndarray) -> float:
        parts = (
            (at(torso, joint) - at(head_pose, joint)) / CONFIG.neck,
            turn(torso, head_pose) / CONFIG.relative_turn,
            turn(middle, torso) / CONFIG.sway_turn,
            (at(torso, base) - at(middle, base)) / CONFIG.sway,
        )
        return sum(float((part**2).sum()) for part in parts)

    torsos, middle = full.track.params().world_from_torso.double().numpy(), mean.double().numpy()

    def energy_of_video(step: np.ndarray) -> float:
        moved = move(middle, step)
        parts = (turn(start, moved) / CONFIG.video_turn, (at(moved, base) - at(start, base)) / CONFIG.video)
        frames = sum(energy_of_frame(torso, moved, pose) for torso, pose in zip(torsos, heads, strict=True))
        return frames + sum(float((part**2).sum()) for part in parts)

    for unknown in range(POSE):
        step = np.zeros(POSE)
        step[unknown] = 1e-5
        after, before = (energy_of_frame(move(torsos[9], sign * step), middle, heads[9]) for sign in (1, -1))
        slope = (after - before) / 2e-5
        assert float(system.frame_rhs[9, unknown]) == pytest.approx(-slope / 2, rel=2e-3, abs=0.5)
        slope = (energy_of_video(step) - energy_of_video(-step)) / 2e-5
        assert float(system.video_rhs[unknown]) == pytest.approx(-slope / 2, rel=2e-3, abs=5)
    torch.testing.assert_close(system.video_rhs[POSE:], -shape / CONFIG.shape**2)


def test_a_change_costs_what_the_time_between_two_frames_allows(head: HeadModel, bust: BustModel) -> None:
    state = TorsoState(acted(head), torch.eye(4))
    _, priors = surface_and_priors(head, bust, state.track)
    assert priors.coupling[0, 3] == pytest.approx(CONFIG.change**-2 / 2, rel=1e-4)  # 15 frames a second: twice the time
    assert priors.coupling[0, 0] == pytest.approx(math.radians(CONFIG.change_turn) ** -2 / 2, rel=1e-4)
    step = torch.zeros(FRAMES, POSE)
    step[5] = torch.tensor([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])
    still = replace(state.track, torso=invert_motion(state.track.world_from_head) @ torch.eye(4))
    moved = priors.change(priors.step(TorsoState(still, state.mean), step, torch.zeros(POSE)))
    torch.testing.assert_close(moved[4], step[5], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[5], -step[5], atol=1e-5, rtol=0)
    assert moved[:4].abs().max() < 1e-5


def test_the_bust_has_as_many_components_as_a_folder_stores(bust: BustModel) -> None:
    assert bust.num_own == TORSO_SHAPE
