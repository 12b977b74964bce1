"""What stands behind a neck that no frame shows."""

from __future__ import annotations

import pytest
import torch

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.heads.anny import load as load_anny
from deja_vu.training.bust_back import continue_behind, mean_at_levels
from deja_vu.training.gaussian_config import BustConfig

OFF = 0.025
"""Height of hair beside the neck, meters."""


@pytest.fixture
def avatar() -> GaussianAvatar:
    head = load_anny()
    return GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blend_size=64, bust_size=96, blendmaps=0))


def raise_sides(avatar: GaussianAvatar, *signs: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Heights in which hair hangs beside the neck on these sides, how well they are known, and where the nape is."""
    layout, texels = avatar.charts.parts[1]
    assert avatar.bust is not None
    throat, nape = (avatar.bust.topology.regions[name][layout.faces] for name in ("neck_front", "nape"))
    normal, height = avatar.rest_surface().frames[0, texels, :, 2], avatar.clothing_height()[texels].clone()
    for sign in signs:
        height[(throat | nape) & (sign * normal[:, 0] > 0.6)] += OFF
    return height, (normal[:, 0].abs() > 0.6).float(), nape & (normal[:, 2] < -0.8)


def test_hair_at_both_sides_hangs_behind_too(avatar: GaussianAvatar) -> None:
    height, known, nape = raise_sides(avatar, -1, 1)
    usual = avatar.clothing_height()[avatar.charts.parts[1][1]]
    assert torch.equal(height[nape], usual[nape])  # of which nothing was seen
    behind = (continue_behind(avatar, height, known, BustConfig()) - usual)[nape]
    assert behind.min() > OFF / 2 - 1e-6  # where it leaves the head's hair, which is no higher here
    assert behind.median() > 0.6 * OFF
    assert behind.max() < OFF + 1e-6


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_what_one_side_alone_shows_makes_no_lump_behind(avatar: GaussianAvatar, sign: float) -> None:
    height, known, nape = raise_sides(avatar, sign)
    height[nape] += OFF  # as a wrong outline spreads
    found = continue_behind(avatar, height, known, BustConfig())
    assert (found - avatar.clothing_height()[avatar.charts.parts[1][1]])[nape].abs().max() < 1e-6


def test_the_front_keeps_what_its_outline_says(avatar: GaussianAvatar) -> None:
    height, known, _ = raise_sides(avatar, -1, 1)
    front = avatar.rest_surface().frames[0, avatar.charts.parts[1][1], 2, 2] > 0
    assert torch.equal(continue_behind(avatar, height, known, BustConfig())[front], height[front])


def test_usual_necks_stay_as_they_are(avatar: GaussianAvatar) -> None:
    usual = avatar.clothing_height()[avatar.charts.parts[1][1]]
    torch.testing.assert_close(continue_behind(avatar, usual, torch.ones_like(usual), BustConfig()), usual, rtol=0, atol=1e-7)


def test_levels_that_nothing_tells_take_the_nearest() -> None:
    levels, at = torch.linspace(0, 1, 11), torch.linspace(0.4, 0.6, 40)
    assert torch.equal(mean_at_levels(torch.ones(40), torch.zeros(40), at, levels), torch.zeros(11))
    whole = mean_at_levels(at, torch.ones(40), at, levels)
    torch.testing.assert_close(whole[[0, 5, 10]], torch.tensor([0.42, 0.5, 0.58]), rtol=0, atol=0.03)
    half = mean_at_levels(at / 2, torch.full((40,), 0.5), at, levels)  # known in part, as much smaller
    torch.testing.assert_close(half, whole, rtol=0, atol=0.02)
