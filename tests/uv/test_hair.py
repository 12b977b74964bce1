"""Height of hair, on a ball for a bald head: a disc in every picture says how far the hair reaches beyond it."""

from __future__ import annotations

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.uv.attach import SurfaceFrames
from deja_vu.uv.config import RimConfig
from deja_vu.uv.hair import HairRim, border_ramp, load_hair_prior, scalp_directions, smooth_heights

RADIUS, DISTANCE, SIDE = 0.09, 0.8, 256
CAMERA = Camera.from_focal(1.6 * SIDE, SIDE, SIDE)
COUNT = 1500


def ball() -> SurfaceFrames:
    """Texels all over a ball before the camera, which looks along +z; up is -y."""
    place = torch.arange(COUNT) + 0.5
    z, turn = 1 - 2 * place / COUNT, 2.39996 * place
    normal = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], -1)
    frames = torch.eye(3).repeat(1, COUNT, 1, 1)
    frames[0, :, :, 2] = normal
    return SurfaceFrames(points=(RADIUS * normal + torch.tensor([0.0, 0.0, DISTANCE]))[None], frames=frames, stretch=torch.ones(1, COUNT))


def disc(radius: float) -> torch.Tensor:
    """Silhouette of a ball of a radius in place of the head [1 s s 1]."""
    seen = radius / (DISTANCE**2 - radius**2) ** 0.5 * 1.6 * SIDE
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    return ((rows - SIDE / 2) ** 2 + (columns - SIDE / 2) ** 2 < seen**2).float()[None, ..., None]


def measure(hair: float, valid: torch.Tensor | None = None) -> HairRim:
    rim = HairRim(torch.ones(COUNT, dtype=torch.bool))
    valid = torch.ones(1, SIDE, SIDE, 1) if valid is None else valid
    rim.add(ball(), CAMERA, disc(RADIUS + hair), valid, disc(RADIUS)[..., 0])
    return rim


def upright(surface: SurfaceFrames) -> torch.Tensor:
    """Its texels in head space: y up, z towards the camera."""
    return (surface.points[0] - torch.tensor([0.0, 0.0, DISTANCE])) * torch.tensor([1.0, -1.0, -1.0])


def test_the_outline_tells_the_height_of_hair():
    """To within the 2 mm between two heights that are tried, a pixel of 2 mm, and the curvature of the ball."""
    for hair in (0.0, 0.012, 0.03):
        rim = measure(hair)
        known = rim.weight > 0.5
        assert known.sum() > 100
        assert (rim.total / rim.weight - hair)[known].abs().max() < 0.0045


def test_only_texels_on_the_outline_tell_it():
    rim, facing = measure(0.02), -(ball().frames[0, :, 2, 2])
    assert rim.weight[facing.abs() > 0.6].max() == 0


def test_hair_that_leaves_the_picture_is_no_evidence_of_a_flat_head():
    """Cut a centimeter over the ball's top: what lies beyond is unknown, and the sides say how high hair stands."""
    valid = torch.ones(1, SIDE, SIDE, 1)
    cut = round(SIDE / 2 - (RADIUS + 0.01) / DISTANCE * 1.6 * SIDE)
    valid[:, :cut] = 0
    rim, points = measure(0.03, valid), upright(ball())
    top = points[:, 1] > 0.97 * RADIUS
    assert rim.weight[top].max() == 0
    heights, whole = (one.estimate(points, load_hair_prior()) for one in (rim, measure(0.03)))
    assert (heights[top] / whole[top]).min() > 0.6


def test_where_nothing_is_seen_hair_goes_on_as_it_was_seen():
    points = upright(ball())
    back = points[:, 2] < -0.9 * RADIUS
    flat, short, high = (measure(hair).estimate(points, load_hair_prior()) for hair in (0.0, 0.01, 0.04))
    assert flat[back].max() < 0.004, "a bald head stays bald behind"
    assert short[back].mean() < 0.6 * high[back].mean(), "more hair in front is more hair behind"
    assert high.max() < 0.06, "and nowhere more than was seen by much"
    neighbors = torch.cdist(points, points).fill_diagonal_(1).topk(4, largest=False)
    assert (high[neighbors.indices] - high[:, None]).abs().max() < 0.012, "without a step: neighbors lie 7 mm apart"


def test_both_sides_are_treated_alike():
    points = upright(ball())
    heights = measure(0.02).estimate(points, load_hair_prior())
    mirrored = torch.cdist(points, points * torch.tensor([-1.0, 1.0, 1.0])).argmin(1)
    assert (heights - heights[mirrored]).abs().mean() < 0.0015


def test_without_any_outline_hair_is_as_usual():
    rim = HairRim(torch.ones(COUNT, dtype=torch.bool), RimConfig(envelope=1.0))
    points = upright(ball())
    directions = scalp_directions(points, rim.scalp)
    torch.testing.assert_close(
        rim.estimate(points, load_hair_prior()), (load_hair_prior().expect(directions).exp() - 0.003).clamp_min(0).float()
    )


def test_usual_hair_is_a_short_cut_that_thins_out_at_the_nape():
    top, back, nape = (
        float(load_hair_prior().expect(torch.nn.functional.normalize(torch.tensor([at]), dim=-1)).exp() - 0.003)
        for at in ([0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [0.0, -0.6, -0.8])
    )
    assert 0.02 > top > back > nape > 0.001


def test_no_hair_grows_beyond_the_scalp_and_little_at_its_border():
    points = upright(ball())
    scalp = points[:, 1] > 0
    ramp = border_ramp(points, scalp, 0.02)
    assert (ramp[~scalp] == 0).all()
    assert ramp[scalp & (points[:, 1] < 0.004)].max() < 0.5
    assert (ramp[points[:, 1] > 0.04] == 1).all()


def test_a_head_without_scalp_has_no_hair():
    rim = HairRim(torch.zeros(COUNT, dtype=torch.bool))
    assert not rim.estimate(upright(ball()), load_hair_prior()).any()


def test_a_crest_that_no_outline_measured_is_rounded_and_what_was_measured_stays():
    turn = torch.linspace(0, torch.pi, 500)
    directions = torch.stack([torch.zeros_like(turn), turn.sin(), turn.cos()], 1)
    crest = torch.where((turn - 1.9).abs() < 0.15, 0.03, 0.01)
    free, fixed = torch.zeros_like(crest), torch.ones_like(crest)
    smooth = smooth_heights(directions, crest, free, 0.14)
    assert 0.015 < float(smooth.max()) < 0.026
    assert float(smooth.diff().abs().max()) < 0.2 * float(crest.diff().abs().max())
    assert float(smooth.mean()) == pytest.approx(float(crest.mean()), rel=0.03)  # what is taken from the crest lies beside it
    assert torch.equal(smooth_heights(directions, crest, fixed, 0.14), crest)
    assert torch.allclose(smooth_heights(directions, torch.full_like(crest, 0.01), free, 1e-3), torch.full_like(crest, 0.01))
