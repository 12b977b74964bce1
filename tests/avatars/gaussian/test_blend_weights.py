from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars.gaussian.blend_weights import JOINT_SCALE, ROTATION_SCALE, LinearCode, code_features
from deja_vu.avatars.gaussian.softmax_code import SoftmaxCode
from deja_vu.core.head import HeadParams
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy

FEATURES = 6 + 3 * 4 + 3
"""Of the toy head: expressions, joints, and the turn of the head."""


def motion(frames: int = 50, seed: int = 0) -> HeadParams:
    """Random expressions, joints and turns of the toy head, in front of a camera that it faces."""
    generator = torch.Generator().manual_seed(seed)
    still = load_toy().neutral((frames,))
    pose = torch.eye(4).repeat(frames, 1, 1)
    turn = 0.3 * torch.randn(frames, 3, generator=generator)
    pose[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(turn)
    expression = torch.rand(still.expression.shape, generator=generator) * torch.tensor([1.0, 0.8, 0.5, 0.3, 0.2, 0.1])
    return HeadParams(still.shape, expression, 0.05 * torch.randn(still.joints.shape, generator=generator), pose)


def test_features_measure_the_turn_by_the_sine_of_its_angle() -> None:
    rest = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    params = load_toy().neutral((3,))
    turn = torch.tensor([[0.4, 0.0, 0.0], [0.0, -0.7, 0.0], [0.0, 0.0, 0.1]])
    pose = params.world_from_head.clone()
    pose[:, :3, :3] = axis_angle_to_matrix(turn) @ rest
    features = code_features(replace(params, world_from_head=pose), rest)
    assert features.shape == (3, FEATURES)
    torch.testing.assert_close(features[:, -3:], turn.sin() * ROTATION_SCALE)
    assert torch.equal(features[:, :-3], torch.zeros(3, FEATURES - 3))


def test_features_weigh_joints() -> None:
    params = motion(4)
    features = code_features(params, torch.eye(3))
    assert torch.equal(features[:, :6], params.expression)
    assert torch.equal(features[:, 6:-3], params.joints.flatten(1) * JOINT_SCALE)


def test_coordinates_are_whitened_and_weighed_by_their_spread() -> None:
    code, params = LinearCode(FEATURES, 5), motion(400)
    code.fit(params)
    features = code_features(params, code.rest_rotation)
    raw = (features - code.mean) @ code.components.T
    covariance = raw.T @ raw / (len(raw) - 1)
    torch.testing.assert_close(raw.mean(0), torch.zeros(5), rtol=0, atol=1e-4)  # float32 sums of 400 values near one
    torch.testing.assert_close(covariance, torch.eye(5), rtol=0, atol=1e-3)
    assert code.weight[0] == pytest.approx(1, abs=1e-6)
    assert (code.weight[1:] <= code.weight[:-1]).all()


def test_coordinates_are_held_to_the_range_of_training() -> None:
    code, params = LinearCode(FEATURES, 5), motion(400)
    code.fit(params)
    wild = replace(params, expression=40 * params.expression - 20, joints=10 * params.joints)
    held = code.coordinates(wild) / code.weight
    tolerance = 1e-4  # of the division by the weight, in float32
    assert (held >= code.low - tolerance).all()
    assert (held <= code.high + tolerance).all()
    assert (held.norm(dim=1) <= code.reach + tolerance).all()
    assert (held.norm(dim=1) > 0.99 * code.reach).float().mean() > 0.5
    unheld = (code_features(params, code.rest_rotation) - code.mean) @ code.components.T
    # Half a percent of each of five coordinates is cut at either end, and one percent by the norm: at most six percent of the frames.
    assert torch.isclose(unheld, code.coordinates(params) / code.weight, atol=tolerance).all(1).float().mean() > 0.93


def test_fit_works_on_fewer_frames_than_maps() -> None:
    code, params = LinearCode(FEATURES, 16), motion(3)
    code.fit(params)
    weights = code(params)
    assert weights.shape == (3, 16)
    assert weights.isfinite().all()
    assert torch.equal(weights[:, 3:], torch.zeros(3, 13))


def test_noise_is_added_in_training_only() -> None:
    code, params = LinearCode(FEATURES, 5), motion(400)
    code.fit(params)
    code.noise = 0.2
    code.eval()
    assert torch.equal(code(params), code(params))
    quiet = code(params)
    code.train()
    assert (code(params) - quiet).std().item() == pytest.approx(0.2, rel=0.1)  # deviation of 2,000 draws: 2 % of itself


def test_the_mixture_is_learned_and_starts_as_the_coordinates() -> None:
    code, params = LinearCode(FEATURES, 5), motion()
    code.fit(params)
    assert torch.equal(code(params), code.coordinates(params))
    code(params).square().sum().backward()
    assert code.mix.grad is not None
    assert code.mix.grad.abs().sum() > 0


def test_softmax_weights_are_the_papers() -> None:
    code, params = SoftmaxCode(4), motion()
    weights = code(params)
    assert weights.shape == (50, 4)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(50))
    exponentials = params.expression[:, :4].exp()
    torch.testing.assert_close(weights, exponentials / exponentials.sum(-1, keepdim=True))
    assert list(code.parameters()) == []


def test_what_training_rarely_shows_is_rare() -> None:
    """One blink among many frames of slow talk is the rarest of all."""
    params = load_toy().neutral((60,))
    expression = params.expression.clone()
    expression[:, 0] = 0.3 + 0.2 * torch.sin(torch.arange(60) / 4)
    expression[37, 3] = 1.0
    params = replace(params, expression=expression)
    code = LinearCode(code_features(params, torch.eye(3)).shape[-1], 4)
    code.fit(params)
    assert int(code.rarity(params).argmax()) == 37
