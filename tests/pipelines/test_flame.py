"""A made-up model of FLAME's size and layout goes the whole way: tracker, avatar, driver, viewer, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.avatars import GaussianAvatar, GaussianConfig, load_avatar, save_avatar
from deja_vu.avatars.gaussian.config import ReaderConfig
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.head import HeadParams
from deja_vu.core.image import over
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.core.subject import Subject
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.io.frames import FrameSource
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence
from deja_vu.motion.labels import sections
from deja_vu.pipelines.cli import main
from deja_vu.pipelines.export import page_controls
from deja_vu.pipelines.person import load as load_person
from deja_vu.tracking.config import FitConfig
from deja_vu.tracking.masks import HeadMasks, head_alpha
from deja_vu.tracking.observations import Observations
from deja_vu.tracking.solver import FaceSolver, fit_landmarks
from deja_vu.tracking.state import TrackState
from deja_vu.training.gaussian import train_gaussian
from deja_vu.training.gaussian_config import GaussianPhase, GaussianTrainConfig, LiftConfig, NovelViewConfig
from deja_vu.training.gaussian_init import init_avatar
from deja_vu.viewer.stage import Performer, Wish
from tests.motion.test_arkit_csv import write as write_capture

SIDE = 96
FRAMES = 15
RECIPE = GaussianTrainConfig(
    crop="head",
    init="lifted",
    avatar=GaussianConfig(uv_size=96, blend_size=64, blendmaps=4, correction=False),
    lift=LiftConfig(frames=4, resolution=96),
    novel_views=NovelViewConfig(every=0),
    phases=(
        GaussianPhase(steps=12, resolution=64, learning_rate=0.02, batch=2, perceptual_every=0),
        GaussianPhase(steps=12, resolution=96, learning_rate=0.01, batch=2, perceptual_every=0, blendmaps=True),
    ),
    reader=ReaderConfig(frames=0),
)


@pytest.fixture
def dense_flame(dense_flame_file: Path, monkeypatch: pytest.MonkeyPatch) -> HeadModel:
    monkeypatch.setenv("DEJA_VU_FLAME2020", str(dense_flame_file))
    return load_head("flame2020")


def acted(head: HeadModel, frames: int) -> HeadParams:
    """The head nods and turns, speaks with its jaw, and moves its components by deviations."""
    time = torch.linspace(0, 1, frames)
    still = head.neutral((frames,))
    turn = torch.stack([0.1 * torch.sin(9 * time), 0.3 * torch.sin(6 * time), 0.05 * torch.cos(5 * time)], -1)
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    pose[:, 2, 3] = 0.5
    expression, joints = still.expression.clone(), still.joints.clone()
    expression[:, 3], expression[:, 4] = 2.5 * torch.sin(7 * time), -2.0 * torch.cos(5 * time)
    joints[:, head.spec.joint_names.index("jaw"), 0] = 0.15 - 0.15 * torch.cos(11 * time)
    shape = torch.zeros(head.spec.num_shape)
    shape[:6] = torch.linspace(-1, 1, 6)
    return HeadParams(shape.expand(frames, -1), expression, joints, pose)


@torch.no_grad()
def film(head: HeadModel, folder: Path) -> TrackedSequence:
    """Write a tracked folder of a striped head."""
    params, camera = acted(head, FRAMES), Camera.from_focal(150.0, SIDE, SIDE)
    painted = GaussianAvatar(head, params.shape[0], GaussianConfig(uv_size=128, blend_size=64, blendmaps=0))
    points = painted.surface(head.neutral((1,))).points[0]
    waves = torch.stack([torch.sin(80 * points[:, 0] + 0.5), torch.sin(70 * points[:, 1]), torch.cos(60 * points[:, 2])], -1)
    painted.base[:, CHANNELS["color"]] = 0.3 * waves / SH_C0
    out, masks = painted.render(params, camera, torch.zeros(3)), HeadMasks(head)
    straight = (out.rgb / out.alpha.clamp_min(0.02)).clamp(0, 1)
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    for frame in range(FRAMES):
        alpha = np.rint(255 * out.alpha[frame, ..., 0].numpy()).astype(np.uint8)
        weight, eyes_mouth = masks.render(params[frame : frame + 1], camera, SIDE)
        planes = np.stack([alpha, head_alpha(alpha, weight[0]), eyes_mouth[0], np.full_like(alpha, 255)], -1)
        write_frame(folder, frame, np.rint(255 * straight[frame].numpy()).astype(np.uint8))
        write_masks(folder, frame, planes)
    info = TrackInfo("made up", "flame2020", 25.0, "a.mp4", "0" * 64, FRAMES, (0, 0, SIDE, SIDE), SIDE, "tail")
    index = torch.arange(FRAMES)
    sequence = TrackedSequence(folder, info, params, camera, index, index / 25, index >= 12)
    write_sequence(sequence)
    return sequence


def test_the_tracker_finds_jaw_and_components_beyond_what_weights_may_be(dense_flame: HeadModel) -> None:
    truth = acted(dense_flame, 30)
    state = TrackState(truth.shape[0], torch.tensor(900.0 / 512).log(), truth.expression, truth.joints, truth.world_from_head)
    window = Camera.from_focal(900.0, 512, 512)
    marks = dense_flame.topology.landmarks["mediapipe"]
    pixels, _ = state.camera(window).project(dense_flame.at_points(marks.faces, marks.bary)(state.params()))
    landmarks = torch.zeros(30, 478, 2)
    landmarks[:, marks.ids] = pixels
    jaw = truth.joints[:, dense_flame.spec.joint_names.index("jaw"), 0]
    observations = Observations(landmarks, jaw[:, None] / 0.3, ("jawOpen",), window, torch.arange(30) / 30)
    solver = FaceSolver.of(dense_flame, observations, FitConfig(steps=12))
    found = fit_landmarks(solver, FitConfig(steps=12))
    assert solver.landmark_errors(found).median() < 0.5
    ours = found.joints[:, dense_flame.spec.joint_names.index("jaw"), 0]
    assert (ours - jaw).abs().mean() < 0.04
    assert ours.max() > 0.2
    assert found.expression.min() < -1.0, "weights could not be less than -0.5"
    assert found.expression.abs().max() <= 3.5


def test_a_film_becomes_an_avatar_that_is_driven_shown_and_exported(dense_flame: HeadModel, tmp_path: Path) -> None:
    sequence = film(dense_flame, tmp_path / "tracked")
    learned, file = sequence.train_part(), tmp_path / "avatar.safetensors"
    avatar = init_avatar(learned, RECIPE)
    train_gaussian(avatar, learned, RECIPE, tmp_path, device=torch.device("cpu"), resume=False)
    subject = Subject("made up", "flame2020", sequence.params[:1], sequence.camera, 25.0)
    save_avatar(avatar, file, {}, subject)
    loaded = load_avatar(file)
    assert isinstance(loaded, GaussianAvatar)
    test = FrameSource(sequence.test_part(), SIDE).batch(torch.arange(3))
    target = over(test.image, test.head, 1.0)
    seen = FrameSource(learned, SIDE).batch(torch.arange(12))
    mean = over(seen.image, seen.head, 1.0).mean(0)
    with torch.no_grad():
        ours = loaded.render(test.params, test.camera, torch.ones(3)).rgb
    errors = [float(((picture - target) * test.loss_mask).square().mean()) for picture in (ours, mean)]
    assert errors[0] < 0.6 * errors[1]

    capture = write_capture(tmp_path / "a.csv", frames=12, values={"JawOpen": np.linspace(0, 1, 12)})
    main(["drive", str(file), "--motion", str(capture), "--out", str(tmp_path / "driven.mp4")])
    assert (tmp_path / "driven.mp4").stat().st_size > 1000

    person = load_person(file)
    closed, opened = (person.params(face) for face in ("neutral", {"jawOpen": 1.0}))
    jaw = dense_flame.spec.joint_names.index("jaw")
    assert opened.joints[0, jaw, 0] > closed.joints[0, jaw, 0] + 0.15
    with torch.no_grad():
        pictures = [loaded.render(params, sequence.camera, torch.ones(3)).rgb for params in (closed, opened)]
    assert (pictures[0] - pictures[1]).abs().max() > 0.1

    performer = Performer("made up", loaded, subject)
    shown = performer.params(Wish(weights={"expr_003": -2.0, "jawOpen": 0.5}), None)
    assert shown.expression[0, 3] == pytest.approx(float(performer.neutral.expression[0, 3]) - 2.0, abs=0.3)
    assert shown.joints[0, jaw, 0] > performer.neutral.joints[0, jaw, 0]

    main(["export", str(file), "--format", "npz", "--out", str(tmp_path / "rig.npz")])
    main(["export", str(file), "--format", "web", "--out", str(tmp_path / "page")])
    with np.load(tmp_path / "rig.npz", allow_pickle=False) as rig:
        assert rig["pose_morphs"].shape[0] == 36
        assert rig["morphs"].shape[0] == 50
    assert (tmp_path / "page" / "index.html").is_file()


def test_the_page_knows_the_models_own_units(dense_flame: HeadModel) -> None:
    rest = replace(dense_flame.neutral((1,)), expression=torch.full((1, 50), 0.5))
    controls = page_controls(dense_flame, rest)
    torch.testing.assert_close(controls.swing, torch.ones(50), rtol=0, atol=1e-5)
    assert controls.jaws["a"][0] > 0.1
    assert controls.jaws["neutral"].abs().max() < 1e-6
    (others,) = sections(dense_flame.spec.expression_names, dense_flame.spec.expression_limits)
    assert {(control.low, control.limit) for control in others.controls} == {(-3.0, 3.0)}
