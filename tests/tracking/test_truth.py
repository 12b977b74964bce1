"""The tracker against the exact truth of a made-up person, which `deja-vu sample` writes beside its film."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.datasets.synthetic import SyntheticSubject
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix, invert_motion, matrix_to_axis_angle
from deja_vu.io.assets import find
from deja_vu.pipelines.sample import TRUTH_SUFFIX, save_truth, write_sample
from deja_vu.tracking.config import TrackConfig
from deja_vu.tracking.tracker import track_video

needs_models = pytest.mark.skipif(
    find("face_landmarker") is None or find("selfie_segmenter") is None, reason="a model is not here: python -m deja_vu.io.assets"
)

FRAMES, SIDE, FPS = 48, 320, 12.0
NECK_BASE = torch.tensor([0.0, -0.13, 0.0])
"""Between the collarbones' upper ends at rest, meters."""


@dataclass(frozen=True)
class Errors:
    """How far a track is from the truth. Pixels are those of a crop of 512."""

    reprojection_px: float
    """Mean distance of the face's vertices in the image."""
    motion_px: float
    """The same after each vertex's mean error is taken out: what a texture cannot absorb, and blurs an avatar."""
    turn_deg: float
    """Mean angle between the head's rotations."""
    side_mm: float
    """Mean distance of the face's middle, across the view."""
    depth_percent: float
    """Mean error of its distance, which goes with the focal length."""
    focal_percent: float
    """Error of the focal length."""
    expression: float
    """Mean absolute error of the expressions that the film moves by a tenth or more."""
    identity_mm: float
    """Mean distance of the neutral head's vertices after rigid alignment."""
    torso_side_mm: float
    """Mean distance of the neck's base, across the view."""
    torso_motion_mm: float
    """The same after its mean error is taken out."""
    torso_turn_deg: float
    """Mean error of the torso's turn after its mean error is taken out."""


MEASURED = Errors(
    reprojection_px=2.60,
    motion_px=1.48,
    turn_deg=4.12,
    side_mm=1.69,
    depth_percent=25.9,
    focal_percent=21.5,
    expression=0.0925,
    identity_mm=5.74,
    torso_side_mm=1.70,
    torso_motion_mm=0.51,
    torso_turn_deg=1.07,
)
"""Of the tracker as it is. Focal length and distance are poor because the detector's landmarks are: with the true ones, the fit finds the
focal length to 6 %, the turn to 0.8 degrees and the image to 0.3 pixels. That they get no poorer is all that is held here. The torso sways
by 10 mm and turns by 3.4 degrees (root mean square); priors on its change three times as stiff follow it to 2.7 mm and 3.1 degrees."""

TOLERANCE = 10 ** (1 / 20)
"""What each error may grow by: 12 %, which is 1 dB if all of an avatar's error came from a texture that does not lie still. Noise of
0.01 pixels in the landmarks, as much as another machine's rounding in the detector, moves no error by more than 0.4 %."""


def load_truth(film: Path, index: Tensor) -> tuple[HeadParams, Camera]:
    """Parameters of some frames as a tracker gives them, with the neck's turn in the pose, and the camera."""
    truth = load_file(film.with_suffix(".truth.safetensors"))
    shape = truth["shape"].expand(len(index), -1)
    joints = truth["joints"][index].clone()
    joints[:, load_head("anny").spec.joint_names.index("neck")] = 0
    skull = truth["world_from_skull"][index]
    params = HeadParams(shape, truth["expression"][index], joints, skull, invert_motion(skull) @ truth["world_from_torso"][index])
    return params, Camera(torch.eye(4), truth["intrinsics"], SIDE, SIDE)


def compare(head: HeadModel, sequence: TrackedSequence, film: Path) -> Errors:
    truth, camera = load_truth(film, sequence.index)
    found, skull = sequence.params, truth.world_from_head[:, :3, :3]
    x0, y0, x1, _ = sequence.info.crop
    true_window = camera.crop(x0, y0, x1 - x0, x1 - x0).resize(512, 512)
    window = sequence.camera.resize(512, 512)
    face = head.topology.faces[head.topology.regions["face"]].unique()
    there, here = head(truth)[:, face], head(found)[:, face]
    shift = window.project(here)[0] - true_window.project(there)[0]
    cosine = ((found.world_from_head[:, :3, :3] @ skull.mT).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    away = here.mean(1) - there.mean(1)
    moved = truth.expression.amax(0) - truth.expression.amin(0) >= 0.1
    return Errors(
        reprojection_px=float(shift.norm(dim=-1).mean()),
        motion_px=float((shift - shift.mean(0)).norm(dim=-1).mean()),
        turn_deg=float(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).mean()),
        side_mm=1e3 * float(away[:, :2].norm(dim=1).mean()),
        depth_percent=100 * float((away[:, 2] / there.mean(1)[:, 2]).abs().mean()),
        focal_percent=100 * abs(float(window.intrinsics[0, 0] / true_window.intrinsics[0, 0]) - 1),
        expression=float((found.expression - truth.expression)[:, moved].abs().mean()),
        identity_mm=identity_error(head, found.shape[0], truth.shape[0]),
        **torso_errors(found.world_from_torso, truth.world_from_torso),
    )


def torso_errors(found: Float[Tensor, "T 4 4"], truth: Float[Tensor, "T 4 4"]) -> dict[str, float]:
    away = (found[:, :3, :3] - truth[:, :3, :3]) @ NECK_BASE + found[:, :3, 3] - truth[:, :3, 3]
    turn = matrix_to_axis_angle(truth[:, :3, :3].mT @ found[:, :3, :3])
    return {
        "torso_side_mm": 1e3 * float(away[:, :2].norm(dim=1).mean()),
        "torso_motion_mm": 1e3 * float((away - away.mean(0))[:, :2].norm(dim=1).mean()),
        "torso_turn_deg": math.degrees(float((turn - turn.mean(0)).norm(dim=1).mean())),
    }


def identity_error(head: HeadModel, found: Float[Tensor, " S"], truth: Float[Tensor, " S"]) -> float:
    """Mean distance of two neutral heads' vertices, neck and teeth left out, after the best rigid motion (Kabsch), millimeters."""
    regions = head.topology.regions
    vertices = head.topology.faces[regions["face"] | regions["scalp"] | regions["ears"]].unique()
    here, there = (head(replace(head.neutral((1,)), shape=shape[None]))[0, vertices] for shape in (found, truth))
    here, there = here - here.mean(0), there - there.mean(0)
    u, _, v = torch.linalg.svd(here.T @ there)
    mirror = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ v).sign())]))
    return 1e3 * float((here @ (u @ mirror @ v) - there).norm(dim=1).mean())


@pytest.mark.slow
@needs_models
def test_a_made_up_person_is_tracked_as_closely_as_ever(tmp_path) -> None:
    """No error may grow by 12 %.

    Tried on this film, each of these is caught by the growth of the motion's error and of others: no silhouettes (25 %), no colors
    (24 %), one round instead of three (28 %), landmarks alone (41 %), scores left out (13 %), landmarks of the frame before (13-fold),
    priors on change four times as stiff (the fit falls apart).
    """
    film = tmp_path / "person.mp4"
    write_sample(film, FRAMES, size=SIDE, fps=FPS)
    sequence = track_video(film, tmp_path / "track", TrackConfig(resolution=256))
    assert len(sequence) == FRAMES
    errors = asdict(compare(load_head("anny"), sequence, film))
    grown = {name: value for name, value in errors.items() if value > TOLERANCE * asdict(MEASURED)[name]}
    assert not grown, f"{grown}, of {errors}"


def test_the_comparison_measures_what_was_put_in(tmp_path) -> None:
    """The truth given back as a track, with the neck's turn in its pose, has no error; moved by known amounts, it has those."""
    subject = SyntheticSubject(FRAMES, SIDE, fps=FPS)
    film = tmp_path / "person.mp4"
    save_truth(subject, film.with_suffix(TRUTH_SUFFIX))
    neck = subject.head.spec.joint_names.index("neck")
    skull = subject.head.world_from_parts(subject.params)[:, neck + 1]
    joints = subject.params.joints.clone()
    joints[:, neck] = 0
    torso = invert_motion(skull) @ subject.params.world_from_torso
    params = replace(subject.params, joints=joints, world_from_head=skull, torso=torso)
    info = TrackInfo("person", "anny", FPS, film.name, "", FRAMES, (40, 20, 280, 260), 256, "tail")
    camera = subject.camera.crop(40, 20, 240, 240).resize(256, 256)
    index = torch.arange(FRAMES)
    sequence = TrackedSequence(tmp_path, info, params, camera, index, index / FPS, index > 40)
    exact = compare(subject.head, sequence, film)
    assert max(asdict(exact).values()) < 0.05
    moved = skull.clone()
    moved[:, :3, :3] = axis_angle_to_matrix(torch.tensor([0.0, 0.1, 0.0])) @ moved[:, :3, :3]
    moved[:, :3, 3] *= 1.1
    intrinsics = camera.intrinsics * torch.tensor([1.1, 1.1, 1.0])[:, None]
    shape = params.shape + 0.1
    wrong = replace(params, shape=shape, expression=params.expression + 0.05, world_from_head=moved)
    errors = compare(subject.head, replace(sequence, params=wrong, camera=replace(camera, intrinsics=intrinsics)), film)
    assert errors.turn_deg == pytest.approx(math.degrees(0.1), rel=0.01)
    assert errors.focal_percent == pytest.approx(10, rel=0.01)
    assert errors.depth_percent == pytest.approx(10, abs=2)  # the face's middle turns about the head's origin
    assert errors.expression == pytest.approx(0.05, rel=0.01)
    assert 0.1 < errors.identity_mm < 10
    assert errors.reprojection_px > 5
    assert errors.torso_turn_deg < 0.2  # it turned along with the head, and by the same in all frames
    swung = torso @ pose_about_base(0.04 * torch.where(index % 2 > 0, 1.0, -1.0))
    swung[:, :3, 3] += 0.003 * skull[:, 0, :3]  # along the world's first axis
    errors = compare(subject.head, replace(sequence, params=replace(params, torso=swung)), film)
    assert errors.torso_turn_deg == pytest.approx(math.degrees(0.04), rel=0.01)
    assert errors.torso_side_mm == pytest.approx(3, rel=0.01)
    assert errors.torso_motion_mm < 0.05


def pose_about_base(angle: Float[Tensor, " T"]) -> Float[Tensor, "T 4 4"]:
    """Turns aside about the neck's base."""
    pose = torch.eye(4).repeat(len(angle), 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(torch.stack([0 * angle, angle, 0 * angle], -1))
    pose[:, :3, 3] = NECK_BASE - pose[:, :3, :3] @ NECK_BASE
    return pose
