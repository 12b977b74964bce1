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
from deja_vu.training.gaussian_init import find_uncovered, init_avatar
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
    """Sum of a picture's channel over the filmed pixels, mean over frames."""
    sums = []
    for position in FRAMES:
        batch = source.batch(position[None])
        with torch.no_grad():
            drawn = avatar.render(batch.params, batch.camera, torch.zeros(3))
        picture = drawn.alpha if channel == "alpha" else drawn.rgb[..., :1]
        sums.append(float((picture * batch.valid).sum()))
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
    averted = avatar.unseen[texels] == 1
    find_uncovered(avatar, source, LiftConfig(resolution=64, frames=4))
    uncovered, rectification = avatar.uncovered[texels], avatar.rectification
    assert uncovered[averted & (coverage == 0)].eq(1).all()
    rim = int((coverage * averted).argmax())
    assert uncovered[rim] < 1e-3
    # Of two texels that face nobody, the one that makes the outline keeps its new shape and brightness, and neither keeps a new hue.
    skin = averted & ~avatar.scalp[texels] & ~avatar.inner[texels]
    hidden = int(torch.where(skin, coverage, torch.inf).argmin())
    assert uncovered[hidden] > 0.5
    avatar.scalp[rim] = avatar.inner[rim] = False
    place, color = CHANNELS["position"], CHANNELS["color"]
    gain = avatar.gains[color] * SH_C0
    with torch.no_grad():
        rectification[[rim, hidden]] = 1
        rectification[rim, color] += torch.tensor([0.5, 0.0, -0.5])
    avatar.limit_unseen(way=1e-3, stretch=0.1, color=0.1, hue=0.03)
    assert rectification[rim, place].eq(1).all()
    torch.testing.assert_close(rectification[rim, color], 1 + torch.tensor([0.03, 0.0, -0.03]) / gain)
    torch.testing.assert_close(rectification[hidden, place] * avatar.gains[place], (1e-3 / uncovered[hidden]).expand(3))
    torch.testing.assert_close(rectification[hidden, color] * gain, (0.1 / uncovered[hidden]).expand(3))


def test_where_no_texel_faces_the_camera_nothing_counts_as_covering(avatar, source) -> None:
    avatar.unseen.fill_(1)
    find_uncovered(avatar, source, LiftConfig(resolution=64, frames=4))
    assert avatar.uncovered[avatar.charts.parts[0][1]].eq(1).all()
