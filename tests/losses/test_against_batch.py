"""Losses of a render beside a batch: absolute difference and PSNR."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deja_vu.bench.metrics import FrameMetrics
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.image import RenderOutput, over
from deja_vu.heads.toy import load
from deja_vu.losses.photometric import absolute_difference
from deja_vu.losses.picture import psnr

GRAY = torch.full((3,), 0.25)


def frames(count: int = 1) -> Batch:
    """A white head on the left half; a torso, which counts for nobody, at the bottom."""
    ones = torch.ones(count, 40, 40, 1)
    head, loss_mask = ones.clone(), ones.clone()
    head[:, :, 20:] = 0
    loss_mask[:, 30:] = 0
    return Batch(
        positions=torch.arange(count),
        image=torch.ones(count, 40, 40, 3),
        head=head,
        foreground=ones,
        valid=ones,
        loss_mask=loss_mask,
        eyes_mouth=0 * ones,
        params=load().neutral((count,)),
        camera=Camera.from_focal(60.0, 40, 40),
    )


def perfect(batch: Batch, background: Tensor = GRAY) -> RenderOutput:
    return RenderOutput(over(batch.image, batch.head, background), batch.head.clone())


def test_a_perfect_render_has_no_difference() -> None:
    assert absolute_difference(perfect(frames()), frames(), GRAY, 0.2) == 0
    assert psnr(perfect(frames()), frames(), GRAY).tolist() == [pytest.approx(100.0)]


def test_differences_are_means_over_color_and_coverage_by_weight() -> None:
    out = perfect(frames())
    shifted = RenderOutput(out.rgb - 0.1, out.alpha)
    assert absolute_difference(shifted, frames(), GRAY, 1.0) == pytest.approx(0.075)  # three channels of four are off by 0.1
    assert psnr(shifted, frames(), GRAY).item() == pytest.approx(20.0, abs=1e-3)
    torso = RenderOutput(out.rgb.clone(), out.alpha)
    torso.rgb[:, 30:] -= 0.2
    assert absolute_difference(torso, frames(), GRAY, 0.0) == 0
    assert absolute_difference(torso, frames(), GRAY, 0.2) == pytest.approx(0.2 * 0.75 * 0.2 * 10 / (30 + 0.2 * 10), rel=1e-4)


@pytest.mark.usefixtures("unchecked_types")  # the benchmark's metrics without its network
def test_psnr_is_that_of_the_benchmark(perceptual) -> None:
    """Frame by frame, over the pixels that count alone, of a picture that ends at 0 and 1."""
    batch, generator = frames(3), torch.Generator().manual_seed(0)
    out = perfect(batch, torch.ones(3))
    rgb = out.rgb + 0.3 * torch.randn(out.rgb.shape, generator=generator) * torch.tensor([0.1, 0.5, 1.0])[:, None, None, None]
    scorer, white = FrameMetrics(perceptual), torch.ones(3)
    wanted = []
    for number in range(3):
        target = over(batch.image, batch.head, white)[number]
        reference = scorer.reference(target, batch.loss_mask[number], perceptual=False)
        wanted.append(scorer.score(rgb[number].clamp(0, 1), reference)["psnr"])
    assert psnr(RenderOutput(rgb, out.alpha), batch, white).tolist() == pytest.approx(wanted, abs=1e-4)
    assert max(wanted) - min(wanted) > 3
    hidden = rgb.clone()
    hidden[:, 30:] = 0.5  # the torso counts for nobody
    assert torch.equal(psnr(RenderOutput(hidden, out.alpha), batch, white), psnr(RenderOutput(rgb, out.alpha), batch, white))


@pytest.fixture
def perceptual():
    """Not asked by the scores compared here."""
    return None
