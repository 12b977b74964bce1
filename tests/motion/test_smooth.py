from __future__ import annotations

import math
from dataclasses import replace

import torch

from deja_vu.heads import load_head
from deja_vu.motion.config import OneEuroConfig
from deja_vu.motion.smooth import OneEuro
from tests.helpers.people import posed


def stream(expression: torch.Tensor, turn: torch.Tensor | None = None):
    frames = len(expression)
    still = load_head("toy").neutral((frames,))
    place = torch.tensor([0.0, 0.0, 0.6]).expand(frames, 3)
    params = replace(still, expression=expression[:, None].expand(frames, 6).clone())
    return posed(params, torch.zeros(frames, 3) if turn is None else turn, place)


def smoothed(params, fps=30.0, config=None):
    steady = OneEuro(fps, config)
    return [steady(params[place : place + 1]) for place in range(len(params))]


def test_it_is_the_published_filter() -> None:
    """Against the paper's recursion, written for one number."""
    torch.manual_seed(1)
    values = torch.randn(50).cumsum(0)
    fps, c = 30.0, OneEuroConfig(still=1.0, expression_haste=0.5, speed_cutoff=1.0)

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau * fps)

    x, dx, expected = float(values[0]), 0.0, [float(values[0])]
    for value in values[1:].tolist():
        dx = alpha(1.0) * (value - x) * fps + (1 - alpha(1.0)) * dx
        a = alpha(1.0 + 0.5 * abs(dx))
        x = a * value + (1 - a) * x
        expected.append(x)
    found = torch.stack([frame.expression[0, 0] for frame in smoothed(stream(values), fps, c)])
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_noise_at_rest_is_removed_and_a_blink_is_not() -> None:
    torch.manual_seed(0)
    noise = 0.02 * torch.randn(200)
    quiet = torch.stack([frame.expression[0, 0] for frame in smoothed(stream(noise))])
    assert quiet[20:].std() < 0.6 * noise[20:].std()
    blink = torch.zeros(40)
    blink[20:24] = 1.0  # 130 ms
    kept = torch.stack([frame.expression[0, 0] for frame in smoothed(stream(blink))])
    assert kept[20:25].max() > 0.9


def test_rotations_stay_rotations_and_follow_a_turn() -> None:
    turn = torch.zeros(60, 3)
    turn[:, 1] = torch.linspace(0, 1.2, 60)
    params = stream(torch.zeros(60), turn)
    for frame, given in zip(smoothed(params), params.world_from_head, strict=True):
        rotation = frame.world_from_head[0, :3, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), rtol=0, atol=1e-5)
        trace = (rotation.T @ given[:3, :3]).diagonal().sum()
        assert torch.acos(((trace - 1) / 2).clamp(-1, 1)) < 0.08  # radians behind, at 36 degrees a second
