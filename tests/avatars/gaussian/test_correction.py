from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.correction import EXPRESSION_STEP, ROTATION_STEP, TRANSLATION_STEP, ParamCorrection
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy


def test_an_untrained_correction_changes_nothing() -> None:
    head = load_toy()
    params = replace(head.neutral((2,)), expression=torch.rand(2, 6))
    corrected = ParamCorrection(3, 6)(params, torch.randn(2, 3))
    assert torch.equal(corrected.expression, params.expression)
    assert torch.equal(corrected.world_from_head, params.world_from_head)


def test_a_constant_correction_turns_moves_and_bends_by_its_steps() -> None:
    correction, params = ParamCorrection(3, 6), load_toy().neutral((2,))
    with torch.no_grad():
        correction.weight[3, 1], correction.weight[3, 5], correction.weight[3, 6] = 2.0, -1.0, 0.5
    corrected = correction(params, torch.zeros(2, 3))
    turn = axis_angle_to_matrix(torch.tensor([0, 2 * ROTATION_STEP, 0]))
    torch.testing.assert_close(corrected.world_from_head[1, :3, :3], turn)
    torch.testing.assert_close(corrected.world_from_head[0, :3, 3], torch.tensor([0, 0, -TRANSLATION_STEP]))
    torch.testing.assert_close(corrected.expression[0, 0], torch.tensor(0.5 * EXPRESSION_STEP))


def test_a_corrected_head_leaves_the_torso_in_its_place() -> None:
    correction, params = ParamCorrection(3, 6), load_toy().neutral((2,))
    torso = torch.eye(4).repeat(2, 1, 1)
    torso[:, :3, :3], torso[:, :3, 3] = axis_angle_to_matrix(torch.tensor([0.1, 0.3, -0.2])), torch.tensor([0.01, 0.02, 0.03])
    with torch.no_grad():
        correction.weight[3, :6] = torch.tensor([2.0, -1.0, 1.0, 0.5, -1.5, 1.0])
    corrected = correction(replace(params, torso=torso), torch.zeros(2, 3))
    torch.testing.assert_close(corrected.world_from_torso, torso, rtol=0, atol=1e-6)


def test_gradients_of_an_image_reach_the_correction(config, params, camera) -> None:
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), replace(config, correction=True))
    avatar.code.fit(params)
    avatar.render(params, camera, torch.zeros(3)).rgb.square().sum().backward()
    assert avatar.correction.weight.grad.abs().max() > 0
    assert "correction" in avatar.param_groups()


@pytest.mark.parametrize("change", [{"code": "softmax"}, {"blendmaps": 0}])
def test_an_avatar_without_coordinates_has_no_correction(config, change) -> None:
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), replace(config, correction=True, **change))
    assert avatar.correction is None
