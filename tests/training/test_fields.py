from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.image import RenderOutput
from deja_vu.heads.toy import load
from deja_vu.training.fields import FieldObjective, NelfWeights, NerfWeights, absolute, psnr_of
from deja_vu.training.objective import LossWeights

GREY = torch.full((3,), 0.25)


def frames() -> Batch:
    """A white head on the left half; a torso, which counts for nobody, at the bottom."""
    ones = torch.ones(1, 40, 40, 1)
    head, loss_mask = ones.clone(), ones.clone()
    head[:, :, 20:] = 0
    loss_mask[:, 30:] = 0
    image = torch.ones(1, 40, 40, 3)
    return Batch(torch.tensor([0]), image, head, ones, ones, loss_mask, 0 * ones, load().neutral((1,)), Camera.from_focal(60.0, 40, 40))


def perfect() -> RenderOutput:
    batch = frames()
    return RenderOutput(batch.image * batch.head + GREY * (1 - batch.head), batch.head.clone())


def test_a_perfect_render_has_no_difference() -> None:
    assert absolute(perfect(), frames(), GREY, 0.2) == 0
    assert psnr_of(perfect(), frames(), GREY) == pytest.approx(100.0)


def test_differences_are_means_over_color_and_coverage_by_weight() -> None:
    out = perfect()
    shifted = RenderOutput(out.rgb + 0.1, out.alpha)
    assert absolute(shifted, frames(), GREY, 1.0) == pytest.approx(0.075)  # three channels of four are off by 0.1
    assert psnr_of(shifted, frames(), GREY) == pytest.approx(20.0, abs=1e-3)
    torso = RenderOutput(out.rgb.clone(), out.alpha)
    torso.rgb[:, 30:] += 0.4
    assert absolute(torso, frames(), GREY, 0.0) == 0
    assert absolute(torso, frames(), GREY, 0.2) == pytest.approx(0.4 * 0.75 * 0.2 * 10 / (30 + 0.2 * 10), rel=1e-4)


def test_terms_are_weighted_by_their_owner_and_rare_ones_made_up_for() -> None:
    weights = NerfWeights(image=LossWeights(huber=10.0, perceptual=0.5), fine=2.0, planes=3.0)
    objective = FieldObjective(weights, None)
    terms = {name: torch.tensor(1.0) for name in ("huber", "fine", "planes")}
    assert float(objective.total(terms, 4)) == 15.0
    assert float(objective.total(terms | {"perceptual": torch.tensor(1.0)}, 4)) == 15.0 + 4 * 0.5
    assert float(FieldObjective(NelfWeights(rays=7.0), None).total({"rays": torch.tensor(2.0)}, 0)) == 14.0


def test_the_face_is_scored_on_every_picture_at_its_own_size() -> None:
    objective = FieldObjective(replace(NerfWeights(), face=1.0), None)
    batch, out = frames(), perfect()
    small = batch.resized(20, 20)
    low = RenderOutput(small.image * small.head + GREY * (1 - small.head), small.head.clone())
    low.rgb[:, 5:10, 0:5] += 0.2  # within the box below, at half the size
    low.rgb[:, 16:] += 5.0  # not within it
    box = (slice(10, 20), slice(0, 10))
    terms = objective.face([(low, small), (out, batch)], [box], GREY, perceptual=False)
    assert set(terms) == {"face"}
    assert float(terms["face"]) == pytest.approx(0.2 * 0.75, abs=1e-6)
    assert math.isfinite(float(terms["face"]))
