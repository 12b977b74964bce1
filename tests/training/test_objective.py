from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from deja_vu.avatars import GaussianAvatar, GaussianConfig, NerfAvatar, NerfConfig
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.core.image import RenderOutput
from deja_vu.heads.toy import load as load_toy
from deja_vu.losses.perceptual import KERNELS, PerceptualDistance
from deja_vu.training.config import ImageLossWeights
from deja_vu.training.gaussian_config import GaussianRegularizers
from deja_vu.training.nelf_config import NelfRegularizers
from deja_vu.training.nerf_config import NerfRegularizers
from deja_vu.training.objective import ImageObjective, compensate, draw_window, head_window, is_due, loss_precision, term_weights
from deja_vu.training.person_views import leave_out_head
from deja_vu.training.prior_config import PriorRegularizers

SIDE = 40
WHITE = torch.ones(3)
WHOLE = (slice(None), slice(None))


def make_batch() -> Batch:
    """A head in the upper middle, a neck that does not count below it, background elsewhere; eyes are watched."""
    head, eyes_mouth, loss_mask = torch.zeros(2, SIDE, SIDE, 1), torch.zeros(2, SIDE, SIDE, 1), torch.ones(2, SIDE, SIDE, 1)
    head[:, 5:25, 10:30] = 1
    head[1, 5:8] *= 0.5
    eyes_mouth[:, 12:15, 13:27] = 1
    loss_mask[:, 25:, 10:30] = 0
    image = torch.rand(2, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    params = load_toy().neutral((2,))
    foreground = torch.maximum(head, 1 - loss_mask)
    valid = torch.ones(2, SIDE, SIDE, 1)
    valid[:, :, 36:] = 0  # the crop reaches beyond the frame
    return Batch(
        positions=torch.arange(2),
        image=image,
        head=head,
        foreground=foreground,
        valid=valid,
        loss_mask=loss_mask * valid,
        eyes_mouth=eyes_mouth,
        params=params,
        camera=Camera.from_focal(50.0, SIDE, SIDE),
    )


def perfect(batch: Batch, background: Tensor) -> RenderOutput:
    return RenderOutput(batch.image * batch.head + background * (1 - batch.head), batch.head.clone())


@pytest.fixture(scope="module")
def perceptual() -> PerceptualDistance:
    """Random weights: a distance all the same, and no file."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(o, i, k, k, generator=generator) * math.sqrt(2 / (i * k * k)) for o, i, k in KERNELS]
    return PerceptualDistance(weights, [torch.zeros(o) for o, _, _ in KERNELS], [torch.ones(o) for o, _, _ in KERNELS])


@pytest.mark.parametrize("gray", [1.0, 0.3])
def test_a_perfect_render_over_any_background_costs_nothing(perceptual, gray) -> None:
    batch, background = make_batch(), torch.full((3,), gray)
    terms = ImageObjective(ImageLossWeights(), perceptual).terms(perfect(batch, background), batch, background, window=WHOLE)
    assert set(terms) == {"huber", "alpha", "dssim", "perceptual"}
    # SSIM of a constant gray subtracts squares in float32, 1e-7 against its stabilizer of 1e-4.
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(dict.fromkeys(terms, 0.0), abs=1e-5)


def test_terms_are_the_weighted_means_written_out() -> None:
    batch, weights = make_batch(), ImageLossWeights(eyes_mouth=3.0, neck=0.2)
    render = perfect(batch, WHITE)
    rgb = render.rgb + 0.04 * torch.randn(render.rgb.shape)
    rgb[:, 12:15, 13:15] += 0.5
    alpha = torch.rand(render.alpha.shape)
    terms = ImageObjective(weights, None).terms(RenderOutput(rgb, alpha), batch, WHITE, window=None)
    difference = (rgb - render.rgb).abs()
    pointwise = torch.where(difference < 0.1, difference.square() / 2, 0.1 * (difference - 0.05))
    loss_mask = batch.loss_mask.clamp_min(0.2) * batch.valid
    weight = (loss_mask * (1 + 3 * batch.eyes_mouth)).expand_as(pointwise)
    torch.testing.assert_close(terms["huber"], (pointwise * weight).sum() / weight.sum())
    torch.testing.assert_close(terms["alpha"], ((alpha - batch.head).abs() * loss_mask).mean())


def test_neck_and_torso_count_for_nothing_when_told_so(perceptual) -> None:
    batch = make_batch()
    render = perfect(batch, WHITE)
    neck = (batch.loss_mask == 0)[..., 0]
    rgb, alpha = render.rgb.clone(), render.alpha.clone()
    rgb[neck], alpha[neck] = 0.0, 1.0
    drawn = RenderOutput(rgb, alpha)
    free, small = (
        ImageObjective(ImageLossWeights(neck=value, dssim=0.0), perceptual).terms(drawn, batch, WHITE, window=WHOLE) for value in (0.0, 0.2)
    )
    assert {name: value.item() for name, value in free.items()} == pytest.approx(dict.fromkeys(free, 0.0), abs=1e-6)
    assert small["huber"] > 0.001
    assert small["alpha"] > 0.001


def test_what_was_not_filmed_counts_for_nothing(perceptual) -> None:
    batch = make_batch()
    render = perfect(batch, WHITE)
    rgb, alpha = render.rgb.clone(), render.alpha.clone()
    rgb[:, :, 36:], alpha[:, :, 36:] = 0.0, 1.0
    terms = ImageObjective(ImageLossWeights(dssim=0.0, neck=0.2), perceptual).terms(RenderOutput(rgb, alpha), batch, WHITE, window=WHOLE)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(dict.fromkeys(terms, 0.0), abs=1e-6)


def test_a_missing_head_costs_coverage(perceptual) -> None:
    batch = make_batch()
    empty = RenderOutput(torch.ones(2, SIDE, SIDE, 3), torch.zeros(2, SIDE, SIDE, 1))
    terms = ImageObjective(ImageLossWeights(), perceptual).terms(empty, batch, WHITE, window=WHOLE)
    torch.testing.assert_close(terms["alpha"], batch.head.mean())  # all of the head counts
    assert all(value > 0.01 for value in terms.values())


def test_terms_that_are_switched_off_are_not_computed(perceptual) -> None:
    batch = make_batch()
    objective = ImageObjective(ImageLossWeights(dssim=0.0), perceptual)
    assert set(objective.terms(perfect(batch, WHITE), batch, WHITE, window=None)) == {"huber", "alpha"}
    assert set(ImageObjective(ImageLossWeights(), None).terms(perfect(batch, WHITE), batch, WHITE, window=WHOLE)) == {
        "huber",
        "alpha",
        "dssim",
    }


def test_the_perceptual_term_looks_at_its_window_only(perceptual) -> None:
    batch = make_batch()
    render = perfect(batch, WHITE)
    rgb = render.rgb.clone()
    rgb[:, :4] = 0.0
    objective = ImageObjective(ImageLossWeights(), perceptual)
    below = objective.terms(replace(render, rgb=rgb), batch, WHITE, window=(slice(8, 40), slice(4, 36)))
    above = objective.terms(replace(render, rgb=rgb), batch, WHITE, window=(slice(0, 32), slice(4, 36)))
    assert below["perceptual"].item() == pytest.approx(0, abs=1e-6)
    assert above["perceptual"] > 0.01


def test_gradients_flow_to_the_render_and_not_to_the_target(perceptual) -> None:
    batch = make_batch()
    render = perfect(batch, WHITE)
    rgb, alpha = (render.rgb + 0.1).requires_grad_(), (render.alpha * 0.9).requires_grad_()
    objective = ImageObjective(ImageLossWeights(neck=0.0, dssim=0.0), perceptual)
    sum(objective.terms(RenderOutput(rgb, alpha), batch, WHITE, window=WHOLE).values()).backward()
    assert rgb.grad[batch.loss_mask.expand_as(rgb) == 0].abs().max() == 0
    assert rgb.grad[batch.head.expand_as(rgb) == 1].abs().min() > 0
    assert alpha.grad[batch.head == 1].max() < 0


def test_every_term_of_a_path_has_a_weight_of_its_own() -> None:
    """Weights of two groups with one name would hide each other."""
    for own in (GaussianRegularizers(), NerfRegularizers(), NelfRegularizers(), PriorRegularizers()):
        names = [field.name for part in (ImageLossWeights(), own) for field in fields(part)]
        assert len(set(names)) == len(names)
        assert set(term_weights(ImageLossWeights(), own)) == set(names) - {"eyes_mouth", "neck", "huber_threshold"}


def test_every_penalty_of_an_avatar_has_a_weight() -> None:
    head = load_toy()
    gaussian = GaussianAvatar(head, torch.zeros(head.spec.num_shape), GaussianConfig(uv_size=64, blend_size=64, blendmaps=2))
    assert set(gaussian.regularizers()) <= {field.name for field in fields(GaussianRegularizers)}
    nerf = NerfAvatar(head, torch.zeros(head.spec.num_shape), NerfConfig(plane_size=8, plane_channels=2, width=8))
    assert set(nerf.regularizers()) <= {field.name for field in fields(NerfRegularizers)}


def test_a_rare_term_counts_for_the_steps_without_it() -> None:
    weights = compensate({"huber": 2.0, "perceptual": 0.5, "novel_views": 1.0}, {"perceptual": 4, "novel_views": 0})
    assert weights == {"huber": 2.0, "perceptual": 2.0, "novel_views": 0.0}
    assert [step for step in range(9) if is_due(4, step)] == [0, 4, 8]
    assert not any(is_due(0, step) for step in range(9))


def test_windows_are_squares_around_the_head_inside_the_picture() -> None:
    generator, head = torch.Generator().manual_seed(0), make_batch().head
    seen = torch.zeros(SIDE, SIDE)
    for _ in range(200):
        rows, columns = head_window(head, 16, generator)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 16)
        assert 0 <= rows.start <= SIDE - 16
        assert 0 <= columns.start <= SIDE - 16
        seen[rows, columns] += 1
    assert seen[5:25, 10:30].min() > 0  # all of the head has its turn
    assert seen[34:].max() == 0
    assert head_window(head, 512, generator) == (slice(0, SIDE), slice(0, SIDE))
    rows, columns = head_window(torch.zeros(1, SIDE, SIDE, 1), 16, generator)  # a frame without a head
    assert (rows.start + 8, columns.start + 8) == (SIDE // 2, SIDE // 2)


def test_a_window_drawn_on_a_device_has_its_center_on_the_head_wherever_that_is_equally_often() -> None:
    shown = torch.zeros(9, 7, dtype=torch.bool)
    shown[2, 3] = shown[8, 6] = shown[5, 1] = shown[5, 2] = True
    centers = [tuple(int(lines[1]) for lines in draw_window(shown, 3, (number + 0.5) / 8)) for number in range(8)]
    inside = {(2, 3): (2, 3), (5, 1): (5, 1), (5, 2): (5, 2), (8, 6): (7, 5)}  # the last cannot be the middle of a window
    assert [centers.count(center) for center in inside.values()] == [2, 2, 2, 2]
    rows, columns = draw_window(torch.zeros(9, 7, dtype=torch.bool), 4, 0.999999)
    assert (rows.tolist(), columns.tolist()) == ([2, 3, 4, 5], [1, 2, 3, 4])
    assert draw_window(shown, 7, 0.0)[1].tolist() == [*range(7)]


@pytest.mark.parametrize("name", ["cpu", "meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_perceptual_features_are_halved_on_a_gpu_alone(name: str) -> None:
    assert loss_precision(torch.device(name)) == (torch.bfloat16 if name == "cuda" else torch.float32)


def test_what_lies_beyond_the_picture_moves_no_term_and_gets_no_gradient(perceptual) -> None:
    """Structural similarity looks five pixels around: white beyond the border would draw a bright line along it."""
    batch, generator = make_batch(), torch.Generator().manual_seed(1)
    noisy = torch.rand(2, SIDE, SIDE, 3, generator=generator)
    rendered = RenderOutput(noisy.clone().requires_grad_(), torch.full((2, SIDE, SIDE, 1), 0.5).requires_grad_())
    objective, found = ImageObjective(ImageLossWeights(), perceptual), []
    for beyond in (0.0, 1.0):
        image = torch.where(batch.valid > 0.5, batch.image, torch.full_like(batch.image, beyond))
        terms = objective.terms(rendered, replace(batch, image=image), WHITE, window=None, filmed=batch.valid)
        (slope,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), rendered.rgb)
        assert slope[:, :, 36:].eq(0).all()
        assert slope[:, :, 35].abs().max() > 0
        found.append({name: value.item() for name, value in terms.items()})
    assert found[0] == found[1]


def test_frames_that_are_filmed_all_over_cost_the_same_either_way(perceptual) -> None:
    batch = replace(make_batch(), valid=torch.ones(2, SIDE, SIDE, 1))
    rendered = RenderOutput(torch.rand(2, SIDE, SIDE, 3), torch.rand(2, SIDE, SIDE, 1))
    objective = ImageObjective(ImageLossWeights(), perceptual)
    plain, other = (objective.terms(rendered, batch, WHITE, window=WHOLE, filmed=filmed) for filmed in (None, batch.valid))
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_in_the_window_of_the_whole_person_the_torso_learns_and_the_head_does_not() -> None:
    """The head's window teaches the head at twice the size: gradients of this one reach the torso and the ground beside it alone."""
    frame = make_batch()
    torso = (frame.foreground > 0.5) & (frame.head < 0.05) & (frame.valid > 0.5)
    batch, weights = leave_out_head(frame), ImageLossWeights(perceptual=0.0)
    picture = (batch.image + 0.2).requires_grad_()
    rendered = RenderOutput(picture, batch.foreground.clone())
    terms = ImageObjective(weights, None).terms(rendered, batch, WHITE, window=None, filmed=batch.valid)
    torch.stack([*terms.values()]).sum().backward()
    assert picture.grad is not None
    moved = picture.grad.abs().amax(-1, keepdim=True) > 0
    assert not moved[frame.head > 0.5].any()
    assert moved[torso].float().mean() > 0.9
