"""The soft lower edge, and colors of what no frame shows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.spatial import cKDTree

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import CHANNELS
from deja_vu.heads.anny import load as load_anny
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.training.bust_init import fade_edge, hold_texels, limit_widening, raise_to_outline, stand_upright
from deja_vu.training.gaussian_config import BustConfig, LiftConfig
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.lift import fill_from_nearest


def surface(points: torch.Tensor) -> SurfaceFrames:
    count = len(points)
    return SurfaceFrames(points[None], torch.eye(3).expand(1, count, 3, 3), torch.ones(1, count))


def test_what_was_filmed_and_what_lies_behind_it_stays_whole() -> None:
    front = torch.stack([torch.zeros(5), torch.linspace(0, -0.2, 5), torch.full((5,), 0.1)], 1)
    back = front * torch.tensor([1.0, 1.0, -1.0])
    filmed = torch.tensor([True, True, True, False, False])
    shown = fade_edge(surface(torch.cat([front, back])), torch.cat([filmed, torch.zeros(5, dtype=torch.bool)]), BustConfig())
    assert shown.tolist() == [1, 1, 1, 0, 0] * 2


def test_it_fades_without_a_step_within_the_given_width() -> None:
    bust = BustConfig(edge=0.03)
    points = torch.stack([torch.zeros(200), -torch.linspace(0, 0.2, 200), torch.zeros(200)], 1)
    shown = fade_edge(surface(points), points[:, 1] > -0.1, bust)
    assert shown[points[:, 1] > -0.1].eq(1).all()
    assert shown[points[:, 1] < -0.131].eq(0).all()
    assert 0 < (shown[:-1] - shown[1:]).max() < 0.06  # a millimeter of three centimeters, at the steepest


def test_an_arm_that_the_film_cut_off_at_its_side_ends_as_low_as_the_chest() -> None:
    x, y = torch.meshgrid(torch.linspace(-0.3, 0.3, 61), torch.linspace(-0.3, 0, 61), indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.zeros(61 * 61)], 1)
    shown = fade_edge(surface(points), (points[:, 1] > -0.2) & (points[:, 0].abs() < 0.15), BustConfig())
    assert shown[points[:, 1] > -0.19].eq(1).all()
    assert shown[points[:, 1] < -0.24].eq(0).all()


def test_what_a_leaning_camera_filmed_below_the_edge_is_shown() -> None:
    x, y = torch.meshgrid(torch.linspace(-0.3, 0.3, 61), torch.linspace(-0.3, 0, 61), indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.zeros(61 * 61)], 1)
    filmed = points[:, 1] > -0.2 + 0.3 * points[:, 0]
    assert fade_edge(surface(points), filmed, BustConfig())[filmed].eq(1).all()


def test_a_film_that_shows_no_bust_draws_none() -> None:
    assert fade_edge(surface(torch.rand(9, 3)), torch.zeros(9, dtype=torch.bool), BustConfig()).eq(0).all()


def test_known_values_stay_and_unknown_ones_are_means_of_the_nearest() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.02, 0, 0], [1.0, 0, 0], [0.01, 0, 0], [0.99, 0, 0]])
    values = torch.tensor([[1.0], [3.0], [7.0], [50.0], [60.0]])
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    filled = fill_from_nearest(values, weight, points, known=0.5, neighbors=2)[:, 0]
    assert filled[:3].tolist() == [1, 3, 7]
    torch.testing.assert_close(filled[3], torch.tensor(2.0))  # both are one centimeter away
    assert 6.9 < filled[4] <= 7  # the second nearest is a hundred times as far


def test_nothing_known_is_left_as_it_is() -> None:
    values = torch.rand(4, 3)
    assert fill_from_nearest(values, torch.zeros(4), torch.rand(4, 3), known=0.5, neighbors=3).equal(values)


def film_coat(columns: slice) -> tuple[GaussianAvatar, Batch]:
    """An avatar in usual clothes, and a frame of 256² of it in a coat two centimeters thicker, of which these columns were filmed."""
    head = load_anny()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blend_size=64, bust_size=96, blendmaps=0))
    camera = Camera.from_focal(420.0, 256, 256)
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None]
    pose[:, 1:3, 3] = torch.tensor([-0.1, 1.0])
    params, usual = replace(head.neutral((1,)), world_from_head=pose), avatar.clothing_height()
    avatar.raise_surface(usual + 0.02 * (usual > 0))
    with torch.no_grad():
        alpha = avatar.render(params, camera, torch.zeros(3)).alpha
    avatar.raise_surface(usual)
    empty, valid = torch.zeros_like(alpha), torch.zeros_like(alpha)
    valid[:, :, columns] = 1
    return avatar, Batch(
        torch.zeros(1, dtype=torch.long), empty.expand(-1, -1, -1, 3), empty, alpha * valid, valid, valid, empty, params, camera
    )


def test_the_outline_says_how_far_clothes_stand_off() -> None:
    """Pictures of a coat two centimeters thicker than usual: shoulders are raised by that much, and not by what they are already."""
    avatar, frame = film_coat(slice(None))
    usual, (_, texels) = avatar.clothing_height(), avatar.charts.parts[1]
    height, known = raise_to_outline(avatar, [frame], LiftConfig(), BustConfig())
    assert avatar.bust is not None
    shoulder = avatar.bust.topology.regions["shoulder"][avatar.charts.parts[1][0].faces] & (usual[texels] > 0.004)
    top = shoulder & (avatar.rest_surface().frames[0, texels, 1, 2] > 0.9)
    assert top.sum() > 30
    assert known[top].mean() > 0.5
    correction = (height - usual[texels])[top].median()
    assert 0.012 < correction < 0.026  # steps of three millimeters, and the width of a Gaussian, which the hull only estimates


def test_shoulders_go_on_beyond_the_picture_as_high_as_they_end_in_it() -> None:
    """Pictures that cut off a coat two centimeters thicker than usual at the middle of its shoulders."""
    avatar, frame = film_coat(slice(128 - 50, 128 + 50))
    usual, (_, texels) = avatar.clothing_height(), avatar.charts.parts[1]
    correction = raise_to_outline(avatar, [frame], LiftConfig(), BustConfig())[0] - usual[texels]
    rest = avatar.rest_surface().part(texels)
    pixels, _ = frame.camera.project(avatar.surface(frame.params).part(texels).points)
    aside, top = (pixels[0, :, 0] - 128).abs(), rest.frames[0, :, 1, 2] > 0.8
    shown = (aside < 50) & (pixels[0, :, 1] < 250)
    distance, nearest = cKDTree(rest.points[0, shown].numpy()).query(rest.points[0].numpy())
    begins = top & (aside > 50.5) & (torch.from_numpy(distance) < 0.012)
    assert begins.sum() > 5
    assert (correction - correction[shown][torch.from_numpy(nearest)])[begins].abs().max() < 0.006  # neighbors are a centimeter apart
    ends, further = top & (aside > 44) & (aside < 50), top & (aside > 58)
    assert correction[ends].median() > 0.012
    assert 0.006 < correction[further].median() < correction[ends].median()


def test_training_may_move_what_faces_or_ends_in_the_pictures_and_color_what_faces_them() -> None:
    unseen, told = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 0.5])
    held = hold_texels(unseen, told, BustConfig())
    assert held[:, CHANNELS["position"]].mean(1).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.5])
    assert held[:, CHANNELS["color"]].mean(1).tolist() == pytest.approx([1.0, 1.0, 0.0, 1.0])


def test_a_torso_that_leans_ends_level_and_the_back_a_little_lower() -> None:
    """A body leaning back by 20 degrees, filmed in front down to 30 cm: sides end there in the film, not along the leaning body."""
    y, z = (axis.flatten() for axis in torch.meshgrid(torch.linspace(-0.6, 0, 121), torch.tensor([0.1, -0.1]), indexing="ij"))
    normals = torch.eye(3).repeat(len(y), 1, 1)
    normals[z < 0, :, 2] *= -1
    lean = axis_angle_to_matrix(torch.tensor([-math.radians(20), 0.0, 0.0]))
    stands = SurfaceFrames(torch.stack([torch.zeros_like(y), y, z], 1)[None], normals[None], torch.ones(1, len(y)))
    leaning = replace(stands, points=stands.points @ lean, frames=lean.T @ stands.frames)
    pose = torch.eye(4)[None]
    pose[0, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ lean
    upright = stand_upright(leaning, replace(load_anny().neutral((1,)), world_from_head=pose))
    torch.testing.assert_close(upright.points, stands.points, atol=1e-6, rtol=0)
    filmed = y > torch.where(z > 0, -0.3, -0.5)  # the border cuts off less of what is further away, and nobody saw it
    shown = fade_edge(upright, filmed, BustConfig(edge=0.03, longer_back=0.02))
    ends = [float(y[(z * side > 0) & (shown > 0.999)].min()) for side in (1, -1)]
    assert ends[0] == pytest.approx(-0.3, abs=0.006)
    assert ends[0] - ends[1] == pytest.approx(0.02, abs=0.006)


def test_a_shoulder_beside_a_neck_does_not_widen_it_but_hair_that_hangs_from_above_does() -> None:
    """On the left the outline leaves the neck where a shoulder begins; on the right it stands off all the way down."""
    y = -torch.linspace(0, 0.08, 81)
    shoulder, curtain = (0.08 * (y < -0.04)).float(), torch.full_like(y, 0.03)
    points = torch.stack([torch.cat([torch.full_like(y, -0.05), torch.full_like(y, 0.05)]), y.repeat(2), torch.zeros(162)], 1)
    bust = BustConfig()
    limited = limit_widening(points, torch.cat([shoulder, curtain]), bust)
    left, right = limited[:81], limited[81:]
    assert torch.equal(right, curtain)
    assert torch.equal(left[y > -0.04], shoulder[y > -0.04])
    assert left.max() <= 0.06 * bust.widening
    assert (limited <= torch.cat([shoulder, curtain])).all()
    slim = torch.where(y > -0.02, -0.006, 0.0).repeat(2)  # at the corners of the jaw
    assert torch.equal(limit_widening(points, slim, bust), slim)
