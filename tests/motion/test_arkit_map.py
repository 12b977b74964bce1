"""ARKit's expressions on heads with components."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from deja_vu.core.arkit import ARKIT_NAMES
from deja_vu.core.head import HeadParams, HeadSpec
from deja_vu.heads.base import HeadData, HeadModel
from deja_vu.heads.flame import load_2020
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.motion.actor import Actor, Angles
from deja_vu.motion.arkit_csv import ArkitCsvMotion
from deja_vu.motion.arkit_map import ArkitMap, align
from deja_vu.motion.retarget import Retargeter
from tests.motion.test_arkit_csv import write


@pytest.fixture(scope="module")
def flame_head(dense_flame_file: Path) -> HeadModel:
    return load_2020(dense_flame_file)


def landmark(head: HeadModel, params: HeadParams, number: int) -> torch.Tensor:
    marks = head.topology.landmarks["mediapipe"]
    place = (marks.ids == number).nonzero()[0]
    return head.at_points(marks.faces[place], marks.bary[place])(params)[:, 0]


def act(head: HeadModel, **named: float) -> HeadParams:
    actor = Actor(head)
    acted = actor.act(actor.weights(named), Angles.zeros(1))
    return replace(acted, world_from_head=torch.eye(4)[None])


def test_components_that_mix_arkits_shapes_make_arkits_faces(anny: HeadModel) -> None:
    """A head whose components are ARKit's shapes mixed and scaled, turned and shrunk: what each weight does must come back."""
    generator = torch.Generator().manual_seed(1)
    mixture = torch.linalg.qr(torch.randn(52, 52, generator=generator))[0] * 2.0
    motion = 0.9 * axis_angle_to_matrix(torch.tensor([0.2, -0.3, 0.1]))
    data = HeadData(**{field.name: getattr(anny, field.name) for field in fields(HeadData)})
    data = replace(
        data,
        template=data.template @ motion.T,
        expression_basis=(mixture @ anny.expression_basis.flatten(1)).unflatten(1, (-1, 3)) @ motion.T,
        joint_pivots=data.joint_pivots @ motion.T,
    )
    spec = HeadSpec("mixed", anny.spec.num_shape, tuple(f"c{k}" for k in range(52)), anny.spec.joint_names, in_deviations=True)
    mixed = HeadModel(spec, anny.topology, data)
    found = ArkitMap.fit(mixed)
    assert found is not None
    for name, bound in (("mouthSmileLeft", 0.1), ("browInnerUp", 0.1), ("jawOpen", 0.25)):
        params = mixed.neutral((1,))
        row = ARKIT_NAMES.index(name)
        joints = params.joints.clone()
        joints[:, spec.joint_names.index("jaw")] = found.jaw[row]
        marks = mixed.topology.landmarks["mediapipe"]
        points, theirs = (head.at_points(marks.faces, marks.bary) for head in (mixed, anny))
        moved = points(replace(params, expression=found.expression[row][None], joints=joints)) - points(params)
        wanted = theirs.expression_basis[anny.spec.expression_names.index(name)] @ motion.T
        assert (moved[0] - wanted).norm() < bound * wanted.norm(), name  # the priors take a little


def test_faces_of_a_made_up_flame_do_as_they_are_told(flame_head: HeadModel) -> None:
    still = act(flame_head)
    opened, smile = act(flame_head, jawOpen=1.0), act(flame_head, mouthSmileLeft=1.0)
    lips = [landmark(flame_head, params, 13)[0, 1] - landmark(flame_head, params, 14)[0, 1] for params in (still, opened)]
    assert lips[1] > lips[0] + 0.005
    jaw = opened.joints[0, flame_head.spec.joint_names.index("jaw")]
    assert 0.15 < jaw[0] < 0.8
    assert jaw[1:].abs().max() < 0.2 * jaw[0]
    left, right = (landmark(flame_head, smile, number) - landmark(flame_head, still, number) for number in (291, 61))
    assert left[0, 1] > 0.003
    assert right.norm() < 0.3 * left.norm()
    assert smile.expression.abs().max() <= 3


def test_components_move_by_their_own_names_too(flame_head: HeadModel) -> None:
    actor = Actor(flame_head)
    assert actor.names == (*flame_head.spec.expression_names, *ARKIT_NAMES)
    acted = act(flame_head, expr_004=-2.0)
    assert acted.expression[0, 4] == -2
    assert acted.expression.abs().sum() == 2


def test_a_capture_drives_a_head_with_components(flame_head: HeadModel, tmp_path: Path) -> None:
    import numpy as np

    motion = ArkitCsvMotion(write(tmp_path / "a.csv", values={"JawOpen": np.linspace(0, 1, 90)}), flame_head)
    neutral = flame_head.neutral((1,))
    carried = Retargeter(flame_head, motion.neutral, neutral)(HeadParams.cat(list(motion.frames())))
    jaw = carried.joints[:, flame_head.spec.joint_names.index("jaw"), 0]
    assert jaw[-1] > jaw[0] + 0.15
    assert (jaw[1:] >= jaw[:-1] - 1e-6).all()


def test_retargeted_components_keep_their_range(flame_head: HeadModel) -> None:
    neutral = flame_head.neutral((1,))
    mover = replace(neutral, expression=torch.linspace(-5, 5, 50)[None])
    carried = Retargeter(flame_head, neutral, neutral)(mover)
    assert (carried.expression.min(), carried.expression.max()) == (-3, 3)
    assert (carried.expression - mover.expression)[mover.expression.abs() < 3].abs().max() < 1e-6


def test_heads_that_have_arkits_names_need_no_map(anny: HeadModel) -> None:
    assert Actor(anny).arkit is None
    assert Actor(anny).names == anny.spec.expression_names


def test_points_are_aligned_by_a_similarity() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(9, 3, generator=generator)
    motion = 1.7 * axis_angle_to_matrix(torch.tensor([0.4, 1.2, -0.3]))
    torch.testing.assert_close(align(source, source @ motion.T + torch.tensor([1.0, 2, 3])), motion, rtol=1e-4, atol=1e-5)
