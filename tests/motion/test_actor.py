from __future__ import annotations

import math

import pytest
import torch

from deja_vu.heads import load_head
from deja_vu.motion.actor import PRESETS, Actor, Angles
from deja_vu.motion.neutral import estimate_neutral
from deja_vu.motion.openings import Openings
from deja_vu.motion.retarget import Retargeter
from deja_vu.motion.turntable import EXPRESSIONS, act_turntable


def angles(frames: int = 1, **parts: tuple[float, float, float]) -> Angles:
    """Angles in degrees of some parts."""
    made = Angles.zeros(frames)
    for name, value in parts.items():
        getattr(made, name).copy_(torch.deg2rad(torch.tensor(value)).expand(frames, 3))
    return made


def nose(actor: Actor, params) -> torch.Tensor:
    """Direction out of the face in the camera's axes (x right, y down, z away)."""
    return params.world_from_head[0, :3, 2]


def test_angles_turn_the_way_they_say(anny) -> None:
    actor = Actor(anny)
    blank = actor.weights({})
    left = actor.act(blank, angles(head=(30, 0, 0)))
    assert nose(actor, left) == pytest.approx([0.5, 0, -math.cos(math.pi / 6)], abs=1e-4)  # the actor's left is the picture's right
    up = actor.act(blank, angles(head=(0, 30, 0)))
    assert nose(actor, up) == pytest.approx([0, -0.5, -math.cos(math.pi / 6)], abs=1e-4)
    rolled = actor.act(blank, angles(head=(0, 0, 30)))
    crown = rolled.world_from_head[0, :3, 1]
    assert crown == pytest.approx([-0.5, -math.cos(math.pi / 6), 0], abs=1e-4)  # the right shoulder is on the picture's left


def test_eyes_look_where_they_are_told(anny) -> None:
    """By the irises of the posed mesh: they move to the actor's left and up."""
    actor = Actor(anny)
    marks = anny.topology.landmarks["mediapipe"]
    rows = [marks.ids.tolist().index(mark) for mark in (468, 473)]
    pupils = anny.at_points(marks.faces[rows], marks.bary[rows])
    ahead, aside = (pupils(actor.act(actor.weights({}), made)) for made in (angles(), angles(left_eye=(15, 10, 0), right_eye=(15, 10, 0))))
    moved = (aside - ahead)[0]
    assert (moved[:, 0] > 1e-3).all()  # picture right
    assert (moved[:, 1] < -1e-3).all()  # picture up


def test_a_blink_of_one_shuts_the_eyes_and_no_more(anny) -> None:
    actor = Actor(anny)
    half = actor.act(torch.cat([actor.weights({"eyeBlinkLeft": v, "eyeBlinkRight": v}) for v in (0.0, 0.5, 1.0)]), Angles.zeros(3))
    opened = Openings.of(anny).measure(half)[:, 0]
    assert opened[2] == pytest.approx(0, abs=2e-3)
    assert 0 < opened[1] < opened[0]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_expressions_that_exist(anny, name) -> None:
    assert set(PRESETS[name]) <= set(anny.spec.expression_names)
    assert all(0 < value <= 1 for value in PRESETS[name].values())


def test_the_turntable_goes_once_round_and_faces_are_made_in_front(anny) -> None:
    turn = act_turntable(Actor(anny), 120)
    step = turn.yaw.diff()
    assert turn.yaw[0] == 0
    assert math.degrees(float(turn.yaw[-1] + step[0])) == pytest.approx(360, abs=0.1)  # the last frame leads into the first
    assert (step > 0).all()
    assert step[0] < step[60] / 2  # it lingers before the face
    acted = turn.params.expression.abs().amax(1) > 0.01
    side = torch.rad2deg(torch.minimum(turn.yaw, 2 * math.pi - turn.yaw))
    assert side[acted].max() < 75
    assert acted.float().mean() > 0.5
    assert (turn.params.expression - turn.params.expression.roll(-1, 0)).abs().max() < 0.3


def test_the_turntable_shows_every_expression_on_the_person(anny, talker) -> None:
    actor, me = Actor(anny), estimate_neutral(talker(2), anny)
    motion = Retargeter(anny, actor.neutral, me)(act_turntable(actor, 150).params)
    moved = (motion.expression - me.expression).amax(0)
    for shown in EXPRESSIONS:
        for name, value in shown.items():
            if not name.startswith("eye"):
                assert moved[anny.spec.expression_names.index(name)] > 0.9 * min(value, 1.0)
    assert Openings.of(anny).measure(motion)[:, 0].min() == pytest.approx(0, abs=0.02)  # a shut eye for the blink


def test_other_heads_act_with_what_they_have() -> None:
    toy = load_head("toy")
    actor = Actor(toy)
    params = actor.act(actor.weights({"jawOpen": 0.5, "mouthPucker": 1.0}), Angles.zeros(1))
    assert params.expression[0].tolist() == [0.5, 0, 0, 0, 0, 0]
