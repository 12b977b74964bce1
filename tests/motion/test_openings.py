from __future__ import annotations

from dataclasses import replace

import torch

from deja_vu.motion.openings import LIDS, Openings


def test_openings_are_those_of_the_posed_surface(anny, talker) -> None:
    """Against distances taken on the full mesh's landmarks in the world."""
    params = talker(4, 8)
    openings = Openings.of(anny)
    assert openings.names == ("eyeBlinkLeft", "eyeBlinkRight", "jawOpen")
    marks = anny.topology.landmarks["mediapipe"]
    ids = marks.ids.tolist()
    vertices = anny(params)
    corners = vertices[:, anny.topology.faces[marks.faces]]
    points = (corners * marks.bary[..., None]).sum(-2)
    up = params.world_from_head[:, :3, 1]
    for column, used in enumerate(((386, 374, 362, 263), (159, 145, 33, 133), (13, 14, 61, 291))):
        upper, lower, one, other = (points[:, ids.index(mark)] for mark in used)
        expected = ((upper - lower) * up).sum(-1) / (one - other).norm(dim=-1)
        torch.testing.assert_close(openings.measure(params)[:, column], expected, rtol=0, atol=1e-4)


def test_a_goal_is_reached_by_the_named_expressions_alone(anny, talker) -> None:
    params = talker(4, 8)
    openings = Openings.of(anny)
    goal = torch.tensor([0.0, 0.2]).expand(8, 2)
    reached = openings.reach(params, goal, LIDS)
    torch.testing.assert_close(openings.measure(reached)[:, :2], goal, rtol=0, atol=2e-3)
    changed = (reached.expression != params.expression).any(0)
    assert {anny.spec.expression_names[column] for column in changed.nonzero()[:, 0].tolist()} == set(LIDS)


def test_lids_that_pass_through_each_other_count_as_negative(anny) -> None:
    neutral = anny.neutral((1,))
    expression = neutral.expression.clone()
    expression[:, anny.spec.expression_names.index("eyeBlinkLeft")] = 1.0
    assert Openings.of(anny).measure(replace(neutral, expression=expression))[0, 0] < -0.03
