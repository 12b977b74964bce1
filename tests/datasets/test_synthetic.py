from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
import torch

from deja_vu.bench.around import orbit
from deja_vu.core.camera import Camera
from deja_vu.datasets.synthetic import PARTS, SyntheticSubject
from deja_vu.datasets.synthetic.acting import SCRIPT_SHARE, act
from deja_vu.datasets.synthetic.noise import value_noise
from deja_vu.datasets.synthetic.shade import IRIS_ANGLE, paint_eye
from deja_vu.heads import load_head
from deja_vu.io import assets
from deja_vu.tracking.face_mesh import FaceMeshes

SIZE = 256


@pytest.fixture(scope="module")
def subject() -> SyntheticSubject:
    return SyntheticSubject(frames=100, size=SIZE)


def at_most(subject: SyntheticSubject, expression: str) -> int:
    """Frame in which an expression is strongest."""
    return int(subject.params.expression[:, subject.head.spec.expression_names.index(expression)].argmax())


def test_the_same_seed_gives_the_same_clip(subject):
    again = SyntheticSubject(frames=100, size=SIZE)
    assert np.array_equal(subject.render(7).image, again.render(7).image)
    assert np.array_equal(subject.render(7).image, next(itertools.islice(subject.frames(), 7, None)))


def test_another_seed_gives_another_person_and_room(subject):
    other = SyntheticSubject(frames=100, size=SIZE, seed=6)
    assert (subject.params.shape[0] - other.params.shape[0]).abs().mean() > 0.3
    assert np.abs(subject.render(0).image.astype(int) - other.render(0).image).mean() > 5


def test_light_and_haircut_vary_where_asked_for(subject):
    shown = [SyntheticSubject(1, size=SIZE, seed=seed, random_style=True) for seed in (2, 6, 7)]
    assert len({(person.lighting, len(person.figure.hair.vertices)) for person in shown}) == 3
    pictures = [person.render(0) for person in shown]
    plain, other = subject.render(0), pictures[0]
    skin = (plain.parts == PARTS.index("skin")) & (other.parts == PARTS.index("skin"))
    assert skin.mean() > 0.05, "the same person stands in the same place"
    assert np.abs(plain.image[skin].astype(int) - other.image[skin]).mean() > 4
    sides = [picture.image[..., 0][picture.parts == PARTS.index("skin")].mean() for picture in pictures]
    assert min(sides) > 25, "nobody stands in the dark"


def test_a_clip_starts_neutral_and_facing_the_camera(subject):
    start = subject.params[0]
    assert start.expression.abs().max() == 0
    assert start.joints.abs().max() == 0
    assert torch.equal(start.world_from_head[:3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])))


@pytest.mark.parametrize("frames", [150, 450])
def test_the_last_fifth_resembles_what_came_before_without_repeating_it(frames):
    head = load_head("anny")
    params = act(head, torch.zeros(head.spec.num_shape), frames, 25.0, seed=0)
    split = round(SCRIPT_SHARE * frames)
    expression, neck = params.expression, params.joints[:, head.spec.joint_names.index("neck")]
    assert (expression[split:].amax(0) <= expression[:split].amax(0) + 0.2).all()  # gaze, and with it the lids, strays by up to 2 degrees
    turn = torch.rad2deg(torch.cdist(neck[split:], neck[:split]))
    assert turn.amin(1).max() < 5
    state = torch.cat([expression, neck], dim=1)
    assert torch.cdist(state[split + 2 :], state[:split]).amin() > 1e-3
    assert torch.rad2deg(neck[:, 1].abs().max()) > 24
    assert (expression[1:] - expression[:-1]).abs().max() < 0.8  # a blink closes in a tenth of a second, 2.5 frames


def test_the_figure_fills_the_pixels_that_its_vertices_project_to(subject, monkeypatch):
    monkeypatch.setattr(subject, "camera", Camera.from_focal(0.5 * SIZE, SIZE, SIZE))  # wide enough for the whole figure
    for index in (0, 30):
        vertices, _, _ = subject.figure.pose(subject.params[index])
        pixels, _ = subject.camera.project(vertices[subject.figure.faces.unique()])
        rows, columns = np.nonzero(subject.render(index).foreground)
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        expected = torch.cat([pixels.amin(0).floor(), pixels.amax(0).ceil()])
        assert (found - expected).abs().max() <= 3  # the last centimeter of a strand is thinner than a sample and may fall between two


def test_the_shirt_hangs_on_the_torso_whose_pose_is_known(subject):
    shirt = slice(subject.figure.first_shirt, None)
    bust = subject.figure.bust
    rigid = subject.figure.shirt.spread(torch.cat([bust.skin_weights[:, :1], bust.template[:, 1:2]], 1))
    rigid = (rigid[:, 0] == 1) & (rigid[:, 1] < -0.16)  # normals at the neck's base turn with what bends beside it
    assert rigid.float().mean() > 0.8
    start = subject.figure.pose(subject.params[0])[0][shirt][rigid]
    for index in (17, 60, 95):
        motion = subject.params[index].world_from_torso @ torch.linalg.inv(subject.params[0].world_from_torso)
        now = subject.figure.pose(subject.params[index])[0][shirt][rigid]
        torch.testing.assert_close(now, start @ motion[:3, :3].T + motion[:3, 3], rtol=0, atol=1e-5)


def test_the_torso_moves_a_little_below_the_head(subject):
    torso = subject.params.torso
    assert torch.equal(torso[0], torch.eye(4))
    turn = torch.rad2deg(torch.acos(((torso[:, :3, :3].diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
    base = torch.tensor([0.0, -0.13, -0.01])
    shift = (torso[:, :3, :3] @ base + torso[:, :3, 3] - base).norm(dim=1)
    assert 1.5 < turn.max() < 4
    assert 0.002 < shift.max() < 0.006
    assert torch.rad2deg((torso[1:, :3, :3] - torso[:-1, :3, :3]).norm(dim=(1, 2)) / 2**0.5).max() < 0.5  # slow: a frame is 40 ms


def test_neck_and_shirt_leave_no_gap_from_any_side(subject):
    for index in (0, 30):
        middle = subject.params.world_from_head[index, :3, 3] + torch.tensor([0.0, 0.08, 0.0])
        for yaw in range(0, 360, 45):
            parts = subject.render(index, orbit(subject.camera, middle, math.radians(yaw))).parts
            count, label = cv2.connectedComponents((parts == PARTS.index("background")).astype(np.uint8), connectivity=4)
            for one in range(1, count):
                gap = label == one
                rim = parts[cv2.dilate(gap.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0]
                outside = gap[0].any() or gap[:, 0].any() or gap[:, -1].any()
                assert outside or (rim == PARTS.index("hair")).any(), "between strands the room shows through, elsewhere it does not"
            assert parts[-1, SIZE // 2] == PARTS.index("shirt"), "it goes on below the picture"


def test_the_shirt_is_patterned_in_both_directions(subject):
    frame = subject.render(0)
    gray = cv2.GaussianBlur(frame.image.astype(np.float32).mean(2), (0, 0), 1.0)
    inside = cv2.erode((frame.parts == PARTS.index("shirt")).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    dy, dx = np.gradient(gray)
    tensor = np.cov(np.stack([dx[inside], dy[inside]]))
    assert inside.mean() > 0.05
    assert np.sqrt(np.linalg.eigvalsh(tensor)[0]) > 2  # of 255, a pixel; the sensor's noise leaves 0.2


def test_skin_of_head_and_neck_meet_in_one_color(subject):
    """The texture of the bust goes on where that of the head ends."""
    figure = subject.figure
    head, neck = (figure.faces[mask] for mask in (~figure.body & (figure.part == PARTS.index("skin")), figure.body))
    seam = np.intersect1d(head.unique(), neck.unique())
    seam = seam[seam > 0]  # what is folded away lies on the first vertex
    assert len(seam) > 50
    colors = []
    for mask in (~figure.body & (figure.part == PARTS.index("skin")), figure.body & (figure.part == PARTS.index("skin"))):
        corner = torch.isin(figure.faces[mask], torch.from_numpy(seam))
        place = (figure.uv[mask][corner].numpy() * [1024, 2048] - 0.5).round().astype(int)
        order = np.argsort(figure.faces[mask][corner].numpy(), kind="stable")
        vertex = figure.faces[mask][corner].numpy()[order]
        color = subject._skin[place[order, 1].clip(0, 2047), place[order, 0].clip(0, 1023), :3]
        colors.append(np.stack([color[vertex == one].mean(0) for one in seam]))
    assert np.abs(colors[0] / colors[1] - 1).mean() < 0.06  # texels are half a millimeter wide, blotches and hairs finer


def test_pupils_are_dark_and_lie_where_the_truth_says(subject):
    for index in (0, 4):
        image = subject.render(index)
        pixels, _ = subject.camera.project(subject.pupils(index))
        gray = image.image.mean(2)
        skin = np.median(gray[image.parts == PARTS.index("skin")])
        for x, y in pixels.long().tolist():
            assert image.parts[y, x] == PARTS.index("eyes")
            around = gray[y - 1 : y + 2, x - 1 : x + 2]
            assert np.sort(around.ravel())[:2].mean() < 0.35 * skin  # a pupil is three pixels wide, and part of it mirrors the lamp


def test_paint_sits_on_the_face_in_every_pose(subject):
    marks = subject.head.topology.landmarks["mediapipe"]
    turned = int(subject.params.joints[:, subject.head.spec.joint_names.index("neck"), 1].abs().argmax())
    for index in (0, turned):
        vertices = subject.head(subject.params[index])
        points, _ = subject.camera.project((vertices[subject.head.topology.faces[marks.faces]] * marks.bary[..., None]).sum(1))
        image = subject.render(index).image.astype(np.float32)

        def color(*pairs, points=points, image=image):
            middles = [points[torch.isin(marks.ids, torch.tensor(pair))].mean(0).long().tolist() for pair in pairs]
            return np.mean([image[y, x] for x, y in middles], axis=0)

        brows = color((105, 52), (66, 65), (334, 282), (296, 295))  # upper and lower edge
        forehead, lips, chin = color((151, 9), (108, 337)), color((0, 11), (16, 17)), color((199, 200))
        assert brows.mean() < 0.75 * forehead.mean()
        assert lips[0] / lips[1] > 1.15 * chin[0] / chin[1]  # redder


def test_closed_lids_hide_the_eyes(subject):
    closed = at_most(subject, "eyeBlinkLeft")
    shown = [(subject.render(index).parts == PARTS.index("eyes")).sum() for index in (0, closed)]
    assert shown[0] > 50
    assert shown[1] < 0.1 * shown[0]


def test_an_open_jaw_shows_the_mouth(subject):
    opened = at_most(subject, "jawOpen")
    shown = [(subject.render(index).parts == PARTS.index("mouth")).sum() for index in (0, opened)]
    assert shown[1] > 5 * shown[0] + 50


def test_noise_is_smooth_and_fills_its_range():
    points = np.random.default_rng(0).uniform(-5, 5, (20000, 3)).astype(np.float32)
    value = value_noise(points, 0.5, 3)
    assert value.min() >= 0
    assert value.max() <= 1
    assert value.mean() == pytest.approx(0.5, abs=0.02)  # 8,000 cells of deviation 0.29
    step = value_noise(points + np.float32(1e-3), 0.5, 3) - value
    assert np.abs(step).max() < 3 * 1.5 * 1e-3 / 0.5 * 1.1  # the easing's slope is at most 1.5 a cell on each axis
    assert np.corrcoef(value, value_noise(points, 0.5, 4))[0, 1] == pytest.approx(0, abs=0.05)


def test_an_eye_has_a_black_pupil_in_a_colored_iris_in_a_white_ball():
    angle = torch.tensor([0.0, 0.6 * IRIS_ANGLE, 1.3 * IRIS_ANGLE])
    direction = torch.stack([angle.sin(), torch.zeros(3), angle.cos()], dim=1)
    color, _ = paint_eye(direction, torch.tensor([0.05, 0.1, 0.3]))
    pupil, iris, white = color
    assert pupil.max() < 0.02
    assert iris[2] > 1.5 * iris[0]
    assert white.min() > 0.35


def test_mediapipe_finds_the_face_where_the_truth_says(subject):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    model = assets.find("face_landmarker")
    if model is None:
        pytest.skip("the face landmarker has not been fetched (python -m deja_vu.io.assets)")
    marks = subject.head.topology.landmarks.get("mediapipe")
    if marks is None:
        pytest.skip("the head has no MediaPipe landmarks")
    find = FaceMeshes(model, 3)
    for index in (0, at_most(subject, "jawOpen"), int(subject.params.joints[:, 0, 1].argmax())):
        (face,) = find(subject.render(index).image)
        seen = torch.from_numpy(face.landmarks[:, :2])
        vertices = subject.head(subject.params[index])
        corners = subject.head.topology.faces[marks.faces]
        truth, _ = subject.camera.project((vertices[corners] * marks.bary[..., None]).sum(1))
        eyes = torch.isin(marks.ids, torch.tensor([33, 133, 263, 362]))
        distance = (seen[marks.ids] - truth).norm(dim=1)
        # At this size a pixel is 1.5 mm; the correspondences scatter by 1 to 2 mm and the detector by about a pixel.
        assert distance[eyes].max() < 5
        assert distance.median() < 3
