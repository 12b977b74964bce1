from __future__ import annotations

import numpy as np
import pytest
import torch

from deja_vu.heads.toy import load as load_toy
from deja_vu.tracking.config import SilhouetteConfig
from deja_vu.tracking.silhouette import ContourPoints, Silhouettes, mean_distance
from deja_vu.uv.layout import build_layout

SIDE, RADIUS = 256, 80.0
CONFIG = SilhouetteConfig()


def disc(center: tuple[float, float], side: int = SIDE) -> torch.Tensor:
    """Matte of a disc, drawn at four times the size and averaged."""
    rows, columns = np.mgrid[0 : 4 * side, 0 : 4 * side] / 4 + 0.125
    inside = (np.hypot(columns - center[0], rows - center[1]) < RADIUS).reshape(side, 4, side, 4).mean((1, 3))
    return torch.from_numpy(np.rint(255 * inside).astype(np.uint8))


def ring(center: tuple[float, float], radius: float, count: int = 400) -> torch.Tensor:
    angle = torch.arange(count) * (2 * torch.pi / count) + 1e-3
    return torch.tensor(center) + radius * torch.stack([angle.cos(), angle.sin()], -1)


def everywhere(side: int = SIDE) -> torch.Tensor:
    return torch.full((side, side), 255, dtype=torch.uint8)


@pytest.mark.parametrize("offset", [-6.0, 0.0, 5.0])
def test_a_ring_beside_a_disc_lies_at_its_distance_all_round(offset: float) -> None:
    center = (128.3, 121.8)
    silhouettes = Silhouettes(disc(center)[None], everywhere(), CONFIG)
    pixels = ring(center, RADIUS - offset)[None]
    contour = silhouettes.find_contour(torch.tensor([0]), pixels, torch.ones(400, dtype=torch.bool))
    assert contour.trusted.all()
    # A border of whole pixels is a staircase, whose nearest step is up to half a pixel nearer than the line it stands for.
    assert (contour.distance - offset).abs().max() < 0.75
    assert (contour.distance - offset).mean().abs() < 0.35
    inward = -torch.nn.functional.normalize(pixels[0, contour.index[0]] - torch.tensor(center), dim=-1)
    assert ((contour.slope[0] * inward).sum(-1) - 1).abs().max() < 0.2


def test_only_the_outermost_usable_points_are_the_contour() -> None:
    center = (128.0, 128.0)
    pixels = torch.cat([ring(center, 60.0), ring(center, 80.0), ring(center, 90.0)])[None]
    usable = torch.arange(1200) < 800
    contour = Silhouettes(disc(center)[None], everywhere(), CONFIG).find_contour(torch.tensor([0]), pixels, usable)
    assert contour.index.shape == (1, CONFIG.sectors)
    assert ((contour.index >= 400) & (contour.index < 800)).all()


def test_a_border_that_was_not_filmed_is_not_measured() -> None:
    center = (128.0, 128.0)
    valid = everywhere()
    valid[:80] = 0  # a label strip over the crown
    contour = Silhouettes(disc(center)[None], valid, CONFIG).find_contour(
        torch.tensor([0]), ring(center, RADIUS)[None], torch.ones(400, dtype=torch.bool)
    )
    rows = ring(center, RADIUS)[contour.index[0], 1]
    assert not contour.trusted[0][rows < 84].any()
    assert contour.trusted[0][rows > 90].all()


def test_a_border_that_may_go_on_unseen_nearer_by_is_not_measured() -> None:
    """Where the picture's edge cuts the matte, its border there is the picture's: a point inside must not be drawn to it."""
    center = (128.0, 128.0)
    valid, matte = everywhere(), disc(center)
    valid[:60] = matte[:60] = 0
    inside = ring(center, RADIUS - 10)[None]
    whole = torch.ones(400, dtype=torch.bool)
    true = Silhouettes(disc(center)[None], everywhere(), CONFIG).find_contour(torch.tensor([0]), inside, whole)
    cut = Silhouettes(matte[None], valid, CONFIG).find_contour(torch.tensor([0]), inside, whole)
    assert (cut.distance - true.distance)[cut.trusted].abs().max() < 0.2  # a step of the stored distance is 1/8
    assert cut.trusted[0][inside[0, cut.index[0], 1] > 90].float().mean() > 0.9


def test_the_mean_distance_ignores_outliers_and_reaches_points_that_were_never_on_the_contour() -> None:
    topology = load_toy().topology
    layout = build_layout(topology, 64)
    count, frames = len(layout), 20
    index = torch.arange(0, count, 2).expand(frames, -1)
    distance = 4.0 + 0.3 * torch.randn(index.shape, generator=torch.Generator().manual_seed(0))
    distance[:2] = -11.0  # two frames whose matte failed
    contour = ContourPoints(index, distance, torch.zeros(*index.shape, 2), torch.ones(index.shape, dtype=torch.bool))
    mean = mean_distance([contour], layout, reach=3.0)
    assert (mean - 4).abs().max() < 0.6
