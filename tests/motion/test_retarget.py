from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.errors import InputError
from deja_vu.heads import load_head
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.motion.config import RetargetConfig
from deja_vu.motion.neutral import estimate_neutral
from deja_vu.motion.openings import LIDS, Openings
from deja_vu.motion.retarget import Retargeter, refuse_other_head


def relative(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angle between rotations, radians."""
    return torch.acos((((a.transpose(-1, -2) @ b).diagonal(dim1=-1, dim2=-2).sum(-1) - 1) / 2).clamp(-1, 1))


def carry(anny, mover, person, config=None):
    return Retargeter(anny, estimate_neutral(mover, anny), estimate_neutral(person, anny), config)(mover)


def test_ones_own_motion_is_carried_over_unchanged(anny, talker) -> None:
    me = talker(1)
    carried = carry(anny, me, me)
    # Lids are solved for; two affine steps leave 1e-3 of the eye's width.
    torch.testing.assert_close(carried.expression, me.expression, rtol=0, atol=2e-3)
    torch.testing.assert_close(carried.joints, me.joints, rtol=0, atol=1e-6)
    torch.testing.assert_close(carried.world_from_head, me.world_from_head, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("mover", "person"), [(1, 2), (3, 1), (4, 6)])
def test_a_shut_eye_arrives_shut_and_an_open_one_as_open_as_at_rest(anny, talker, mover, person) -> None:
    """The measure is the posed surface's, not the expression's: what shuts one person's eyes leaves another's open."""
    theirs, ours = talker(mover), talker(person)
    openings = Openings.of(anny)
    before, after = (openings.measure(params)[:, :2] for params in (theirs, carry(anny, theirs, ours)))
    rest_before, rest_after = (openings.measure(estimate_neutral(params, anny))[:, :2] for params in (theirs, ours))
    torch.testing.assert_close(after / rest_after, before / rest_before, rtol=0, atol=0.02)
    # Plain differences of expressions would not do: they miss by more than a tenth of an open eye for these people.
    plain = theirs.expression - estimate_neutral(theirs, anny).expression + estimate_neutral(ours, anny).expression
    missed = openings.measure(replace(theirs, shape=ours.shape, expression=plain))[:, :2] / rest_after - before / rest_before
    assert missed.abs().max() > 0.1


def test_a_resting_face_of_the_mover_is_not_carried_over(anny, talker) -> None:
    mover, me = talker(1), talker(2)
    names = anny.spec.expression_names
    smiling = mover.expression.clone()
    smiling[:, names.index("mouthSmileLeft")] += 0.15
    torch.testing.assert_close(
        carry(anny, replace(mover, expression=smiling), me).expression, carry(anny, mover, me).expression, rtol=0, atol=2e-3
    )


def test_turns_and_shifts_are_relative_to_both_rests(anny, talker) -> None:
    """A mover who sits elsewhere and looks aside at rest moves the person from where that one rests."""
    mover, me = talker(1), talker(2)
    aside = axis_angle_to_matrix(torch.tensor([0.1, 0.4, 0.0]))
    pose = mover.world_from_head.clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ aside  # the same movements of a head that rests at another angle, in head space
    pose[:, :3, 3] += torch.tensor([0.3, 0.1, 0.5])
    plain, shifted = carry(anny, mover, me), carry(anny, replace(mover, world_from_head=pose), me)
    torch.testing.assert_close(shifted.world_from_head, plain.world_from_head, rtol=0, atol=1e-5)
    torch.testing.assert_close(plain.world_from_head[:, :3, 3].mean(0), me.world_from_head[:, :3, 3].mean(0), rtol=0, atol=1e-6)
    there, here = plain.world_from_head[:, :3, :3], mover.world_from_head[:, :3, :3]
    torch.testing.assert_close(relative(there[1:], there[:-1]), relative(here[1:], here[:-1]), rtol=0, atol=1e-3)
    assert torch.equal(plain.shape, me.shape[:1].expand(60, -1))  # identity is kept


def test_gain_scales_expressions_and_leaves_lids(anny, talker) -> None:
    mover, me = talker(1), talker(2)
    plain, strong, still = (carry(anny, mover, me, RetargetConfig(gain=gain)) for gain in (1.0, 1.5, 0.0))
    rest = estimate_neutral(me, anny).expression
    jaw = anny.spec.expression_names.index("jawOpen")
    torch.testing.assert_close(strong.expression[:, jaw] - rest[0, jaw], 1.5 * (plain.expression[:, jaw] - rest[0, jaw]))
    torch.testing.assert_close(still.expression[:, jaw], rest[0, jaw].expand(60))
    openings = Openings.of(anny)
    lids = [openings.names.index(name) for name in LIDS]
    torch.testing.assert_close(openings.measure(still)[:, lids], openings.measure(plain)[:, lids], rtol=0, atol=0.01)


def test_without_turn_the_head_stays(anny, talker) -> None:
    me = talker(2)
    carried = carry(anny, talker(1), me, RetargetConfig(turn=False))
    assert torch.equal(carried.world_from_head, estimate_neutral(me, anny).world_from_head.expand(60, -1, -1))


def test_a_head_without_lids_to_measure_is_carried_by_differences() -> None:
    toy = load_head("toy")
    assert Openings.of(toy).names == ("jawOpen",)
    still = toy.neutral((4,))
    mover = replace(still, expression=0.9 * torch.rand(4, 6))
    rest, ours = still[:1], replace(still[:1], expression=torch.full((1, 6), 0.1))
    torch.testing.assert_close(Retargeter(toy, rest, ours)(mover).expression, mover.expression + 0.1)
    full = replace(still, expression=torch.ones(4, 6))
    assert Retargeter(toy, rest, ours)(full).expression.max() == 1, "a smile on a smile is a smile"


def test_a_motion_of_another_head_is_refused(anny) -> None:
    with pytest.raises(InputError, match="head 'toy', the avatar uses 'anny'"):
        refuse_other_head("toy", anny)
    refuse_other_head("anny", anny)
