from __future__ import annotations

import torch

from deja_vu.uv.strands import continue_hair

COUNT = 4000


def head() -> tuple[torch.Tensor, torch.Tensor]:
    """Directions all over the head, and which of them frames show: those in front of the ears."""
    place = torch.arange(COUNT) + 0.5
    y, turn = 1 - 2 * place / COUNT, 2.39996 * place
    directions = torch.stack([(1 - y * y).sqrt() * turn.sin(), y, (1 - y * y).sqrt() * turn.cos()], -1)
    return directions, (directions[:, 2] / 0.2 + 0.5).clamp(0, 1)


def fill(color: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    directions, seen = head()
    return continue_hair(color, seen, seen > 0.8, torch.ones(COUNT, dtype=torch.bool), directions), seen


def test_hair_of_one_color_is_of_that_color_behind():
    brown = torch.tensor([0.4, 0.25, 0.15])
    _, seen = head()
    filled, _ = fill(torch.where(seen[:, None] > 0.8, brown, torch.zeros(3)))
    torch.testing.assert_close(filled[seen == 0], brown.expand(int((seen == 0).sum()), 3), atol=1e-4, rtol=0)


def test_what_was_seen_stays():
    color = torch.rand(COUNT, 3, generator=torch.Generator().manual_seed(1))
    filled, seen = fill(color)
    assert torch.equal(filled[seen == 1], color[seen == 1])


def test_strands_behind_have_contrast_but_less_than_those_in_front():
    light = 0.4 + 0.08 * torch.randn(COUNT, generator=torch.Generator().manual_seed(2))
    filled, seen = fill(light[:, None] * torch.tensor([1.0, 0.8, 0.6]))
    behind, front = filled[seen == 0, 0].std(), light[seen == 1].std()
    assert 0.3 * front < behind < front
    hue = filled[seen == 0] / filled[seen == 0, :1]
    assert (hue - torch.tensor([1.0, 0.8, 0.6])).abs().mean() < 0.06, "strands differ in brightness, not in hue"


def test_strands_run_from_the_whorl_downwards():
    """Behind the head, brightness changes more from one side to the other than along the way down."""
    directions, _ = head()
    filled, _ = fill((0.4 + 0.08 * torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(3))).expand(-1, 3))
    back = torch.nonzero((directions[:, 2] < -0.8) & (directions[:, 1].abs() < 0.5))[:, 0]
    step = directions[back][:, None] - directions[back][None]
    near = (step.norm(dim=-1) < 0.12) & (step.norm(dim=-1) > 0)
    change = (filled[back, 0][:, None] - filled[back, 0][None]).abs()
    down = near & (step[..., 1].abs() > 3 * step[..., 0].abs())
    across = near & (step[..., 0].abs() > 3 * step[..., 1].abs())
    assert change[across].mean() > 1.15 * change[down].mean()


def test_the_hairline_s_skin_is_no_example_and_too_few_examples_are_none():
    directions, seen = head()
    color = torch.full((COUNT, 3), 0.1)
    color[(seen == 1) & (directions[:, 1] < -0.7)] = torch.tensor([0.9, 0.7, 0.6])
    filled, _ = fill(color)
    assert filled[seen == 0].max() < 0.3
    nothing = continue_hair(color, seen, torch.zeros(COUNT, dtype=torch.bool), torch.ones(COUNT, dtype=torch.bool), directions)
    assert torch.equal(nothing, color)
