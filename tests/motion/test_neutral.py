from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.errors import InputError
from deja_vu.heads import load_head
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.motion.neutral import estimate_neutral, face_camera, mean_rotation, take_neutral
from deja_vu.motion.openings import Openings
from deja_vu.motion.tracked import TrackedMotion
from tests.helpers.people import FACING, as_sequence


def test_the_rest_has_closed_lips_and_open_eyes(anny, talker) -> None:
    """This person's lips are parted in four frames of five, and the eyes blink with the lips closed."""
    params = talker(1)
    openings = Openings.of(anny)
    names = openings.names
    measured = openings.measure(params)
    rest = openings.measure(estimate_neutral(params, anny))[0]
    lips, eye = names.index("jawOpen"), names.index("eyeBlinkLeft")
    assert rest[lips] < measured[:, lips].quantile(0.15) + 0.01
    assert rest[eye] > 0.9 * measured[:, eye].quantile(0.9)
    assert measured[:, eye].min() < 0.5 * rest[eye]


def test_a_passing_expression_is_not_the_rest(anny, talker) -> None:
    params = talker(1)
    column = anny.spec.expression_names.index("mouthSmileLeft")
    acted = params.expression.clone()
    acted[::4, column] += 0.8
    rest = estimate_neutral(replace(params, expression=acted), anny).expression[0, column]
    assert rest == pytest.approx(float(params.expression[0, column]), abs=1e-6)


def test_a_single_frame_says_nothing_about_rest_but_the_pose(anny, talker) -> None:
    frame = talker(1)[:1]
    rest = estimate_neutral(frame, anny)
    assert not rest.expression.any()
    torch.testing.assert_close(rest.shape, frame.shape)
    torch.testing.assert_close(rest.world_from_head, frame.world_from_head, rtol=0, atol=1e-6)


def test_the_mean_rotation_is_a_rotation_between_its_frames(talker) -> None:
    turn = mean_rotation(talker(1).world_from_head)
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), rtol=0, atol=1e-5)
    assert torch.linalg.det(turn) == pytest.approx(1, abs=1e-5)


def test_a_torso_that_stays_while_the_head_turns_rests_where_it_is(anny, talker) -> None:
    params = talker(1)
    place = axis_angle_to_matrix(torch.tensor([0.1, -0.2, 0.05]))
    world = torch.eye(4)
    world[:3, :3], world[:3, 3] = FACING @ place, torch.tensor([0.02, 0.01, 0.6])
    still = replace(params, torso=torch.linalg.inv(params.world_from_head) @ world)
    torch.testing.assert_close(estimate_neutral(still, anny).world_from_torso[0], world, rtol=0, atol=1e-5)
    torch.testing.assert_close(estimate_neutral(params, anny).torso[0], torch.eye(4), rtol=0, atol=1e-5)


def test_facing_the_camera_keeps_the_place(anny, talker) -> None:
    rest = estimate_neutral(talker(1), anny)
    faced = face_camera(rest)
    assert torch.equal(faced.world_from_head[0, :3, :3], FACING)
    assert torch.equal(faced.world_from_head[0, :3, 3], rest.world_from_head[0, :3, 3])


def test_a_moment_can_be_declared_the_rest(talker) -> None:
    sequence = as_sequence(talker(1), "anny")
    motion = TrackedMotion(sequence, neutral_at=0.8)
    assert torch.equal(motion.neutral.expression, sequence.params.expression[20:21])
    with pytest.raises(InputError, match=r"from 0 to 2\.36 s"):
        TrackedMotion(sequence, neutral_at=3.0)
    with pytest.raises(InputError, match="-1 s"):
        take_neutral(sequence.params, sequence.times, -1.0)


def test_a_tracked_motion_gives_every_frame_once() -> None:
    params = replace(load_head("toy").neutral((7,)), expression=torch.rand(7, 6))
    motion = TrackedMotion(as_sequence(params, "toy", fps=30.0))
    assert len(motion) == 7
    assert motion.fps == 30.0
    torch.testing.assert_close(torch.cat([frame.expression for frame in motion.frames()]), params.expression)
