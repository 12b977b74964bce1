from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.avatars import Avatar, GaussianAvatar, GaussianConfig
from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.image import RenderOutput
from deja_vu.core.orbit import HEAD_ORBIT, PERSON_ORBIT, orbit
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.core.subject import Subject
from deja_vu.heads import load_head
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.pipelines.person import subject_of
from deja_vu.viewer.stage import Clip, Performer, Stage, Wish, view_camera

SIDE = 64


@pytest.fixture(scope="module")
def whole() -> Performer:
    """A whole person without color, filmed from 10 degrees to the right to 30 to the left."""
    head = load_head("anny")
    config = GaussianConfig(uv_size=64, blend_size=64, bust_size=64, bust_blend_size=64, blendmaps=0)
    neutral = head.neutral((1,))
    neutral.world_from_head.copy_(torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])))
    neutral.world_from_head[0, 2, 3] = 0.8
    subject = Subject("whole", "anny", neutral, Camera.from_focal(200.0, 96, 80), 25.0, (-10.0, 30.0))
    return Performer("whole", GaussianAvatar(head, torch.zeros(head.spec.num_shape), config).eval(), subject)


def test_one_may_look_at_a_person_from_all_sides_and_learns_where_nobody_filmed(whole: Performer) -> None:
    stage = Stage([whole], {})
    assert stage.orbit.yaw == 180
    assert whole.fov == pytest.approx(2 * math.atan(48 / 200))  # the wider side fits, too
    camera = replace(Camera.from_focal(200.0, 80, 80), camera_from_world=torch.eye(4))
    camera.camera_from_world[:3, 3] = -torch.from_numpy(stage.front)
    middle = torch.from_numpy(stage.center)
    for yaw, filmed in ((0, True), (-24, True), (-26, False), (44, True), (46, False), (180, False)):
        turned = orbit(camera, middle, math.radians(yaw))
        assert stage.is_filmed(Wish(), turned) == filmed, yaw
    assert not stage.is_filmed(Wish(head=(40, 0, 0)), camera)  # the head that turns left is seen from its right


def test_a_camera_is_kept_outside_a_person_and_lets_one_come_near_the_face(whole: Performer) -> None:
    stage = Stage([whole], {})
    with torch.no_grad():
        surface = whole.avatar.vertices(whole.neutral)[0].numpy()
    for yaw, pitch in ((0, 0), (90, 0), (180, 0), (0, 45), (180, 45), (0, -45)):
        a, b = math.radians(yaw), math.radians(pitch)
        toward = np.array([math.sin(a) * math.cos(b), -math.sin(b), -math.cos(a) * math.cos(b)])
        place = stage.center + toward * stage.nearest(stage.center, stage.center + 0.01 * toward)
        gap = np.linalg.norm(surface - place, axis=1).min()
        assert 0.06 < gap < 0.12, (yaw, pitch)


def test_a_head_that_its_neck_closes_is_seen_from_all_sides(whole: Performer) -> None:
    def standing(part: str, size: int) -> Stage:
        config = replace(whole.avatar.config, bust_part=part, bust_size=size, bust_blend_size=size)
        avatar = GaussianAvatar(whole.head, torch.zeros(whole.head.spec.num_shape), config).eval()
        return Stage([Performer("head", avatar, Subject("head", "anny", whole.neutral, Camera.from_focal(200.0, 96, 80), 25.0))], {})

    assert standing("neck", 64).orbit == PERSON_ORBIT
    assert standing("whole", 0).orbit == HEAD_ORBIT


def test_a_persons_torso_stays_under_a_head_that_turns(whole: Performer) -> None:
    turned, rest = (whole.params(Wish(head=angles), None) for angles in ((30.0, 10.0, 0.0), (0.0, 0.0, 0.0)))
    torch.testing.assert_close(turned.world_from_torso, rest.world_from_torso, rtol=0, atol=1e-6)
    assert (turned.world_from_head - rest.world_from_head).abs().max() > 0.3


def test_a_person_is_compared_in_the_window_with_the_torso_where_that_is_stored(whole: Performer) -> None:
    film = sequence()
    camera = Camera.from_focal(100.0, SIDE, SIDE)
    subject = Subject("whole", "anny", whole.neutral, camera, 25.0)
    assert Performer("whole", whole.avatar, subject, film).sequence is film
    wider = replace(film, info=replace(film.info, person_crop=(-20, 0, 84, 104)))
    shown = Performer("whole", whole.avatar, subject, wider).sequence
    assert shown is not None
    assert shown.window == "person"


def sequence(frames: int = 6) -> TrackedSequence:
    """A toy person half a meter away who opens the mouth, without pictures."""
    still = load_toy().neutral((frames,))
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose[:, :3, 3] = torch.tensor([0.02, 0.01, 0.5])
    expression = torch.zeros(frames, 6)
    expression[:, 0] = torch.linspace(0, 1, frames)
    params = replace(still, expression=expression, world_from_head=pose)
    info = TrackInfo("toy", "toy", 25.0, "toy.mp4", "", frames, (0, 0, SIDE, SIDE), SIDE, "tail")
    index = torch.arange(frames)
    return TrackedSequence(Path("nowhere"), info, params, Camera.from_focal(100.0, SIDE, SIDE), index, index / 25, index < 0)


def painted(red: float) -> GaussianAvatar:
    """A toy avatar whose left half is of one color."""
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blend_size=64, blendmaps=0))
    points = avatar.surface(head.neutral((1,))).points[0]
    color = torch.where(points[:, :1] > 0, torch.tensor([red, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.9]))
    avatar.base[:, CHANNELS["color"]] = (color - 0.5) / SH_C0
    return avatar.eval()


class Glow(Avatar):
    """An avatar without Gaussians, as a radiance field is."""

    def render(self, params, camera, background):
        count = len(params)
        return RenderOutput(torch.full((count, camera.height, camera.width, 3), 0.25), torch.ones(count, camera.height, camera.width, 1))

    def regularizers(self):
        return {}

    def param_groups(self):
        return {}


def performed_by(avatar: Avatar, video: TrackedSequence, name: str = "toy") -> Performer:
    return Performer(name, avatar, subject_of(video, avatar), video)


@pytest.fixture
def performer() -> Performer:
    return performed_by(painted(0.9), sequence())


def front(performer: Performer, side: int = SIDE) -> Camera:
    """The tracked crop's view of somebody who stands at the origin."""
    return view_camera(np.array([1.0, 0, 0, 0]), np.array([0, 0, -performer.distance]), performer.fov, side, side)


def test_the_picture_is_what_render_gives(performer) -> None:
    wish = Wish(weights={"jawOpen": 0.7}, head=(20.0, -5.0, 3.0), background=(10, 200, 30))
    camera = front(performer)
    picture = Stage([performer], {}).picture(wish, camera)
    with torch.no_grad():
        out = performer.avatar.render(performer.params(wish, None), camera, torch.tensor([10.0, 200.0, 30.0]) / 255)
    assert np.array_equal(picture, (out.rgb[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    assert picture[0, 0].tolist() == [10, 200, 30]


def test_the_front_view_is_the_tracked_one(performer) -> None:
    """Standing at the origin before a camera at the tracked distance looks as filmed, but for being in the middle."""
    assert performer.distance == pytest.approx(math.sqrt(0.02**2 + 0.01**2 + 0.5**2), abs=1e-6)
    picture = Stage([performer], {}).picture(Wish(), front(performer)).astype(int)
    centered = performer.neutral.world_from_head.clone()
    centered[:, :3, 3] = torch.tensor([0.0, 0.0, performer.distance])
    with torch.no_grad():
        camera = performer.sequence.camera
        filmed = performer.avatar.render(replace(performer.neutral, world_from_head=centered), camera, torch.ones(3)).rgb[0]
    assert np.abs(picture - (255 * filmed).round().numpy()).max() <= 2


def test_the_view_opens_framed_as_the_video_is(performer) -> None:
    """The head stands in the first picture as high as it stands, on average, in the tracked crop."""
    stage = Stage([performer], {})
    camera, place = performer.sequence.camera, performer.sequence.params.world_from_head[:, :3, 3].mean(0)
    filmed = float((camera.intrinsics[1, 1] * place[1] / place[2] + camera.intrinsics[1, 2]) / camera.height)
    focal = 0.5 / math.tan(performer.fov / 2)
    shown = 0.5 - focal * stage.front[1] / -stage.front[2]  # of the head's origin, from a camera that looks along z
    assert abs(filmed - 0.5) > 0.005  # there is something to see
    assert shown == pytest.approx(filmed, abs=0.002)


def test_a_camera_that_goes_around_sees_the_other_side(performer) -> None:
    """Half a turn of the camera about the vertical axis shows as much as half a turn of the head would: left and right change places."""
    stage = Stage([performer], {})
    behind = view_camera(np.array([0.0, 0, 1.0, 0]), np.array([0, 0, performer.distance]), performer.fov, SIDE, SIDE)
    ahead, back = (stage.picture(Wish(), camera).astype(int) for camera in (front(performer), behind))
    middle = slice(SIDE // 2 - 4, SIDE // 2 + 4)
    assert ahead[middle, SIDE // 2 + 6, 0].mean() > 150 > ahead[middle, SIDE // 2 - 7, 0].mean()  # red on the picture's right
    assert back[middle, SIDE // 2 - 7, 0].mean() > 150 > back[middle, SIDE // 2 + 6, 0].mean()


def test_view_cameras_are_rigid_and_have_the_angle_asked_for() -> None:
    turn = np.array([0.9, 0.1, -0.3, 0.2])
    camera = view_camera(turn, np.array([0.1, -0.2, 0.3]), 0.8, 80, 60)
    rotation = camera.camera_from_world[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), rtol=0, atol=1e-6)
    unit = torch.tensor(turn / np.linalg.norm(turn))
    angle = 2 * torch.acos(unit[0])
    expected = axis_angle_to_matrix((unit[1:] / unit[1:].norm() * angle)[None].float())[0]
    torch.testing.assert_close(rotation.T, expected, rtol=0, atol=1e-4)
    place = torch.tensor([[0.1, -0.2, 0.3]]) + rotation.T @ torch.tensor([0.0, math.tan(0.4), 1.0])
    pixel, _ = camera.project(place)
    assert pixel[0].tolist() == pytest.approx([40, 60], abs=1e-3)


def test_a_motion_overrules_the_sliders(performer) -> None:
    clip = Clip.of(TrackedMotion(performer.sequence))
    stage = Stage([performer], {"own": clip})
    opened = [performer.params(Wish(motion="own", frame=frame), clip).expression[0, 0].item() for frame in (0, 5, 99)]
    assert opened == pytest.approx([0, 1, 1], abs=1e-5)
    wish = Wish(weights={"jawOpen": 0.0}, motion="own", frame=5)
    assert np.abs(stage.picture(wish, front(performer)).astype(int) - stage.picture(Wish(), front(performer))).max() > 20


def test_several_stand_side_by_side(performer) -> None:
    other = performed_by(painted(0.4), sequence(), "other")
    stage = Stage([performer, other], {})
    camera = view_camera(np.array([1.0, 0, 0, 0]), np.array([0, 0, -performer.distance]), performer.fov, 2 * SIDE, SIDE)
    picture = stage.picture(Wish(), camera)
    assert np.array_equal(picture[:, :SIDE], Stage([performer], {}).picture(Wish(), front(performer)))
    assert np.array_equal(picture[:, SIDE:], Stage([other], {}).picture(Wish(), front(performer)))
    drawn = stage.gaussians(Wish())
    count = performer.avatar.num_gaussians
    assert drawn.means.shape == (1, 2 * count, 3)
    assert float(drawn.means[0, count:, 0].mean() - drawn.means[0, :count, 0].mean()) == pytest.approx(0.26, abs=1e-4)


@pytest.mark.parametrize("upright", [False, True])
def test_the_comparison_shows_the_filmed_frame_and_its_render_each_under_its_name(upright, film, painted_toy, tmp_path) -> None:
    """Side by side in a wide window, one above the other in a high one; 108 pixels are 96 and a band of 12 for the words."""
    filmed = film(tmp_path / "track")
    stage = Stage([performed_by(painted_toy, filmed)], {})
    width, height = (130, 216) if upright else (300, 108)
    canvas = stage.picture(Wish(compared=4, background=(0, 0, 0)), Camera.from_focal(100.0, width, height))
    assert canvas.shape == (height, width, 3)
    halves = (canvas[:108, 17:113], canvas[108:, 17:113]) if upright else (canvas[:, 54:150], canvas[:, 150:246])
    assert all(half[:12].max() > 100 for half in halves)  # words
    assert np.array_equal(halves[0][12:].astype(int), filmed.frame(4).image.numpy())
    with torch.no_grad():
        out = painted_toy.render(filmed.params[4:5], filmed.camera, torch.zeros(3))
    assert np.array_equal(halves[1][12:], (out.rgb[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    assert (canvas[:, :17] if upright else canvas[:, :54]).max() == 0


def test_avatars_without_gaussians_are_shown_as_pictures(performer) -> None:
    light = Glow()
    light.head = load_toy()
    glow = performed_by(light, sequence(), "glow")
    stage = Stage([glow], {})
    assert not stage.has_gaussians
    assert Stage([performer], {}).has_gaussians
    assert (stage.picture(Wish(), front(performer)) == 64).all()
