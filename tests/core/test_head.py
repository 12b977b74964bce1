from __future__ import annotations

import torch

from deja_vu.core.head import HeadParams, HeadSpec


def test_spec_counts_its_names() -> None:
    spec = HeadSpec("some", 5, ("jawOpen", "mouthSmileLeft"), ("neck", "jaw", "eye_left"))
    assert (spec.num_shape, spec.num_expression, spec.num_joints) == (5, 2, 3)


def test_params_select_frames_and_change_precision() -> None:
    params = HeadParams(torch.rand(4, 5), torch.rand(4, 2), torch.rand(4, 3, 3), torch.rand(4, 4, 4))
    assert len(params) == 4
    one, some = params[2], params[torch.tensor([3, 0])]
    assert torch.equal(one.joints, params.joints[2])
    assert torch.equal(some.world_from_head, params.world_from_head[[3, 0]])
    assert len(params[1:3]) == 2
    double = params.to(torch.float64)
    assert {value.dtype for value in vars(double).values()} == {torch.float64}


def test_batches_of_params_are_joined_one_after_the_other() -> None:
    params = HeadParams(torch.rand(5, 3), torch.rand(5, 2), torch.rand(5, 3, 3), torch.rand(5, 4, 4))
    joined = HeadParams.cat([params[:2], params[2:]])
    assert all(torch.equal(getattr(joined, name), value) for name, value in vars(params).items())


def test_a_torso_not_given_follows_the_head_as_one_piece() -> None:
    params = HeadParams(torch.rand(2, 4, 5), torch.rand(2, 4, 2), torch.rand(2, 4, 3, 3), torch.rand(2, 4, 4, 4))
    assert torch.equal(params.torso, torch.eye(4).expand(2, 4, 4, 4))
    assert torch.equal(params.world_from_torso, params.world_from_head)
    assert params[0].torso.shape == (4, 4, 4)
    assert HeadParams(*(value.to("meta") for value in vars(params).values())).torso.device.type == "meta"


def test_a_torso_given_is_selected_joined_and_moves_with_the_head() -> None:
    torso = torch.rand(4, 4, 4)
    params = HeadParams(torch.rand(4, 5), torch.rand(4, 2), torch.rand(4, 3, 3), torch.rand(4, 4, 4), torso)
    assert torch.equal(params[1].torso, torso[1])
    assert torch.equal(HeadParams.cat([params[2:], params[:2]]).torso, torso[[2, 3, 0, 1]])
    torch.testing.assert_close(params.world_from_torso[3], params.world_from_head[3] @ torso[3])
    one_piece = HeadParams(params.shape, params.expression, params.joints, params.world_from_head)
    assert torch.equal(HeadParams.cat([params, one_piece]).torso[4:], torch.eye(4).expand(4, 4, 4))
