from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deja_vu.core.head import HeadParams
from deja_vu.heads import toy
from deja_vu.heads.base import HeadData, HeadModel, surface_points
from deja_vu.heads.skinning import axis_angle_to_matrix


@pytest.fixture
def head() -> HeadModel:
    """The toy head in float64, with random pose correctives added."""
    plain = toy.load()
    generator = torch.Generator().manual_seed(5)
    correctives = torch.randn(9 * plain.spec.num_joints, len(plain.template), 3, generator=generator) * 1e-3
    names = ("template", "shape_basis", "expression_basis", "joint_pivots", "joint_shape_basis", "skin_weights")
    data = HeadData(**{name: getattr(plain, name) for name in names}, parents=plain.parents, pose_basis=correctives)
    return HeadModel(plain.spec, plain.topology, data).double()


def random_params(head: HeadModel, *batch: int) -> HeadParams:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, *shape, dtype=torch.float64, generator=generator)

    pose = torch.eye(4, dtype=torch.float64).repeat(*batch, 1, 1)
    pose[..., :3, :3], pose[..., :3, 3] = axis_angle_to_matrix(random(3)), random(3)
    return HeadParams(random(head.spec.num_shape), random(head.spec.num_expression), 0.3 * random(head.spec.num_joints, 3), pose)


def skin_by_loops(head: HeadModel, params: HeadParams) -> np.ndarray:
    """Linear blend skinning of one head written out vertex by vertex, sharing no code with the model."""
    from scipy.spatial.transform import Rotation

    p = {name: getattr(params, name).numpy() for name in ("shape", "expression", "joints", "world_from_head")}
    d = {name: value.numpy() for name, value in head.named_buffers()}
    rotations = [Rotation.from_rotvec(joint).as_matrix() for joint in p["joints"]]
    features = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations])
    pivots = d["joint_pivots"] + sum(c * basis for c, basis in zip(p["shape"], d["joint_shape_basis"], strict=True))
    out = np.zeros_like(d["template"])
    for v in range(len(out)):
        rest = d["template"][v] + p["shape"] @ d["shape_basis"][:, v] + p["expression"] @ d["expression_basis"][:, v]
        rest = rest + features @ d["pose_basis"][:, v]
        for j in range(-1, len(rotations)):
            moved, joint = rest, j
            while joint >= 0:  # from the joint up to the root
                moved = rotations[joint] @ (moved - pivots[joint]) + pivots[joint]
                joint = head.parents[joint]
            out[v] += d["skin_weights"][v, j + 1] * moved
    return out @ p["world_from_head"][:3, :3].T + p["world_from_head"][:3, 3]


def test_agrees_with_skinning_written_out(head: HeadModel) -> None:
    params = random_params(head)
    np.testing.assert_allclose(head(params).numpy(), skin_by_loops(head, params), atol=1e-10)


def test_neutral_is_the_template(head: HeadModel) -> None:
    torch.testing.assert_close(head(head.neutral((2,))), head.template.expand(2, -1, -1))


def test_batch_and_single_agree(head: HeadModel) -> None:
    params = random_params(head, 3)
    vertices = head(params)
    assert vertices.shape == (3, len(head.template), 3)
    for frame in range(3):
        torch.testing.assert_close(head(params[frame]), vertices[frame])
    nested = HeadParams(*(torch.stack([getattr(params, name)] * 2) for name in ("shape", "expression", "joints", "world_from_head")))
    torch.testing.assert_close(head(nested), torch.stack([vertices] * 2))


def test_head_pose_moves_everything_rigidly(head: HeadModel) -> None:
    params = random_params(head)
    still = head(replace(params, world_from_head=torch.eye(4, dtype=torch.float64)))
    moved = still @ params.world_from_head[:3, :3].T + params.world_from_head[:3, 3]
    torch.testing.assert_close(head(params), moved)


def test_expressions_add_in_rest_pose(head: HeadModel) -> None:
    zero, one, two = head.neutral(), head.neutral(), head.neutral()
    one.expression[0], two.expression[:2] = 1.0, torch.tensor([1.0, 0.5])
    expected = head(one) + 0.5 * head.expression_basis[1]
    torch.testing.assert_close(head(two), expected)
    torch.testing.assert_close(head(one) - head(zero), head.expression_basis[0])


def test_gradients_reach_every_parameter(head: HeadModel) -> None:
    params = random_params(head)
    marks = head.topology.landmarks["mediapipe"]
    few = head.at_points(marks.faces, marks.bary)
    inputs = [getattr(params, name).requires_grad_() for name in ("shape", "expression", "joints", "world_from_head")]
    assert torch.autograd.gradcheck(lambda *tensors: few(HeadParams(*tensors)), inputs)


def test_few_points_move_like_the_surface(head: HeadModel) -> None:
    params, marks = random_params(head, 2), head.topology.landmarks["mediapipe"]
    params = replace(params, joints=params.joints * 0)
    points = surface_points(head(params), head.topology.faces[marks.faces], marks.bary.double())
    few = head.at_points(marks.faces, marks.bary.double())
    torch.testing.assert_close(few(params), points)


def test_model_data_stay_out_of_checkpoints(head: HeadModel) -> None:
    assert head.state_dict() == {}
    assert list(head.parameters()) == []


@pytest.mark.usefixtures("unchecked_types")
def test_sizes_that_disagree_are_refused() -> None:
    plain = toy.load()
    data = HeadData(
        plain.template,
        plain.shape_basis[1:],
        plain.expression_basis,
        plain.joint_pivots,
        plain.joint_shape_basis,
        plain.skin_weights,
        (-1, 0, 0, 0),
    )
    with pytest.raises(AssertionError):
        HeadModel(plain.spec, plain.topology, data)


def test_selected_and_displaced_points_move_as_the_whole_head_does(head: HeadModel) -> None:
    params, marks = random_params(head, 2), head.topology.landmarks["mediapipe"]
    few = head.at_points(marks.faces, marks.bary.double())
    some = torch.tensor([3, 0, 7])
    torch.testing.assert_close(few.select(some)(params), few(params)[:, some])
    offset = torch.randn(few.template.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1e-2
    before = few.template.clone()
    moved, linear = few.displace(offset)(params), few.pose(params)[1]
    torch.testing.assert_close(moved, few(params) + (linear @ offset[..., None])[..., 0])
    assert torch.equal(few.template, before)
    assert not hasattr(few, "topology")  # the triangles belong to another set of points
