from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadModel
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.config import HeadMaskConfig
from deja_vu.tracking.masks import HeadMasks

SHAPE = HeadMaskConfig()
SIDE = 256
CAMERA = Camera.from_focal(380.0, SIDE, SIDE)
CLEAR = 7
"""Pixels of the borders' blur, twice its deviation on either side, beyond which masks must be pure."""


def posed(head: HeadModel, *turn: tuple[float, float, float]) -> HeadParams:
    still = head.neutral((len(turn),))
    pose = torch.eye(4).repeat(len(turn), 1, 1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(torch.tensor(turn))
    pose[:, 2, 3] = 0.5
    return replace(still, world_from_head=pose)


@pytest.fixture(scope="module")
def scene() -> tuple[HeadModel, HeadParams, torch.Tensor, np.ndarray, np.ndarray]:
    """Head, poses, the triangle behind every pixel, head weight and attention."""
    head = load_toy()
    params = posed(head, (0.0, 0.0, 0.0), (0.1, 0.4, 0.0), (-0.1, -0.3, 0.1))
    shown = rasterize_mesh(head(params), head.topology.faces, CAMERA).face_id
    return head, params, shown, *HeadMasks(head).render(params, CAMERA, SIDE)


def core(mask: torch.Tensor) -> np.ndarray:
    """A mask [B H W] without the pixels near its border."""
    return (torch.nn.functional.avg_pool2d(mask.float()[:, None], 2 * CLEAR + 1, 1, CLEAR)[:, 0] > 0.999).numpy()


def of_region(head: HeadModel, shown: torch.Tensor, *names: str) -> torch.Tensor:
    region = torch.stack([head.topology.regions[name] for name in names]).any(0)
    return (shown >= 0) & region[shown.clamp_min(0)]


def test_the_neck_does_not_count_and_the_face_does(scene) -> None:
    head, _, shown, weight, _ = scene
    assert weight.shape == (3, SIDE, SIDE)
    assert weight.dtype == np.uint8
    neck, face = core(of_region(head, shown, "neck")), core(of_region(head, shown, "face"))
    assert neck.sum() > 300
    assert face.sum() > 3000
    assert weight[neck].max() == 0
    assert weight[face].min() == 255


def test_the_border_between_them_is_soft(scene) -> None:
    _, _, shown, weight, _ = scene
    column = weight[0, :, SIDE // 2].astype(int)
    rows = np.flatnonzero((column > 10) & (column < 245))
    assert 2 <= len(rows) <= 3 * CLEAR
    assert (np.diff(column[rows[0] - 1 : rows[-1] + 2]) <= 0).all()
    assert (shown[0, :, SIDE // 2] >= 0)[torch.from_numpy(rows)].all()


def test_hair_beside_and_above_the_head_counts_and_shoulders_do_not(scene) -> None:
    head, params, shown, weight, _ = scene
    beside = core(shown < 0)
    pixels, _ = CAMERA.project(head(params))
    rows = np.arange(SIDE)[:, None]
    for frame in range(3):
        assert weight[frame][beside[frame] & (rows < float(pixels[frame, :, 1].min()))].min() == 255
    marks = head.topology.landmarks["mediapipe"]
    chin = head.at_points(marks.faces, marks.bary)(params)[0, marks.ids == 152]
    row = float(CAMERA.project(chin)[0][0, 1])
    columns = np.arange(SIDE)[None]
    middle = float(CAMERA.project(params.world_from_head[:1, None, :3, 3])[0][0, 0, 0])
    pixels_a_meter = float(CAMERA.intrinsics[0, 0] / params.world_from_head[0, 2, 3])
    out = np.abs(columns - middle) / pixels_a_meter
    # The plane rises by 2 cm, 15 pixels, from chin to ear, and beyond half the head's width it rises towards the shoulders.
    over_shoulders = (SHAPE.shoulder_rise * (out - SHAPE.half_width).clip(0)).clip(max=SHAPE.shoulder_top) * pixels_a_meter
    assert weight[0][beside[0] & (rows < row - 35 - over_shoulders)].min() == 255
    assert weight[0][beside[0] & (rows > row - over_shoulders + 20)].max() == 0
    assert weight[0][beside[0] & (rows > row - 10) & (out > SHAPE.half_width + 0.04)].max() == 0
    assert weight[0][beside[0] & (rows > row + 20)].max() == 0


def test_the_border_follows_the_head_through_space(scene) -> None:
    """Nearer and shifted: the same mask, larger and shifted, up to the grid."""
    head = scene[0]
    params = posed(head, (0.0, 0.0, 0.0))
    pose = params.world_from_head.clone()
    pose[:, 0, 3] += 0.05
    shifted = HeadMasks(head).render(replace(params, world_from_head=pose), CAMERA, SIDE)[0][0].astype(int)
    plain = scene[3][0].astype(int)
    pixels = round(0.05 * 380 / 0.5)
    assert np.abs(shifted[:, 80 + pixels : 176 + pixels] - plain[:, 80:176]).mean() < 3


def test_attention_is_on_eyes_and_mouth(scene) -> None:
    head, _, shown, _, eyes_mouth = scene
    watched = of_region(head, shown, "lips", "eye_left", "eye_right")
    assert eyes_mouth[watched.numpy()].min() > 100
    far = torch.nn.functional.max_pool2d(watched.float()[:, None], 25, 1, 12)[:, 0] == 0
    assert eyes_mouth[far.numpy()].max() == 0


def test_masks_come_in_any_resolution(scene) -> None:
    head, params, _, weight, eyes_mouth = scene
    for small, large in zip(HeadMasks(head).render(params, CAMERA.resize(64, 64), 64), (weight, eyes_mouth), strict=True):
        assert small.shape == (3, 64, 64)
        reduced = large.reshape(3, 64, 4, 64, 4).mean((2, 4))
        assert np.abs(small - reduced).mean() < 2
