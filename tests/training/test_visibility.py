"""How much of each Gaussian the frames show, and what training may move for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.conventions import SH_C0
from deja_vu.core.gaussians import CHANNELS
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import FrameSource
from deja_vu.training.gaussian_config import GaussianTrainConfig, LiftConfig
from deja_vu.training.gaussian_init import free_covering, init_avatar
from deja_vu.training.visibility import measure_coverage

FRAMES = torch.tensor([0, 3])


@pytest.fixture
def source(made_up: TrackedSequence) -> FrameSource:
    return FrameSource(made_up, 64)


@pytest.fixture
def avatar(made_up: TrackedSequence) -> GaussianAvatar:
    config = GaussianTrainConfig(init="lifted")
    sizes = replace(config.avatar, uv_size=64, blend_size=64, blendmaps=2)
    return init_avatar(made_up, replace(config, avatar=sizes, lift=LiftConfig(resolution=64, frames=4)))


def covered(avatar: GaussianAvatar, source: FrameSource, channel: str) -> float:
    """Sum of a picture's channel over the person's pixels, mean over frames."""
    sums = []
    for position in FRAMES:
        batch = source.batch(position[None])
        with torch.no_grad():
            drawn = avatar.render(batch.params, batch.camera, torch.zeros(3))
        picture = drawn.alpha if channel == "alpha" else drawn.rgb[..., :1]
        sums.append(float((picture * batch.foreground * batch.valid).sum()))
    return sum(sums) / len(sums)


def test_all_gaussians_together_cover_as_much_as_the_picture_is_opaque(avatar, source) -> None:
    total = float(measure_coverage(avatar, source, FRAMES).sum())
    assert total == pytest.approx(covered(avatar, source, "alpha"), rel=1e-4)  # sums of float32


def test_a_gaussian_covers_as_much_as_the_picture_changes_with_its_color(avatar, source) -> None:
    coverage, red = measure_coverage(avatar, source, FRAMES), CHANNELS["color"].start
    avatar.base[:, CHANNELS["color"]] = 0
    before = covered(avatar, source, "red")
    for texel in coverage.topk(3).indices.tolist():
        avatar.base[texel, red] = 1
        assert covered(avatar, source, "red") - before == pytest.approx(SH_C0 * float(coverage[texel]), rel=2e-2)  # of sums of 1e3
        avatar.base[texel, red] = 0


def test_what_covers_the_person_may_move_and_what_is_hidden_may_not(avatar, source) -> None:
    texels = avatar.charts.parts[0][1]
    coverage = measure_coverage(avatar, source, torch.arange(4))[texels]
    avatar.unseen[texels] = torch.where(torch.arange(len(coverage)) % 2 == 0, 0.1, 1.0)
    before, held = avatar.unseen[texels].clone(), avatar.held.clone()
    free_covering(avatar, source, LiftConfig(resolution=64, frames=4))
    after, odd = avatar.unseen[texels], before == 1
    assert after[odd & (coverage == 0)].eq(1).all()
    assert after[odd][coverage[odd].argmax()] < 1e-3
    assert torch.equal(avatar.held, held)


def test_a_film_that_shows_no_texel_squarely_frees_none(avatar, source) -> None:
    avatar.unseen.fill_(1)
    free_covering(avatar, source, LiftConfig(resolution=64, frames=4))
    assert avatar.unseen.eq(1).all()
