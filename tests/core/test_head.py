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
