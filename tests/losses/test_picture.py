from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deja_vu.core.image import RenderOutput, over
from deja_vu.losses.photometric import dssim_loss, huber, masked_mean
from deja_vu.losses.picture import picture_terms, squared_errors

DELTA = 0.1


def made_up(height: int = 70, width: int = 150) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Frames with weights, and renders: two pictures of more pixels than one strip has."""
    generator = torch.Generator().manual_seed(0)

    def draw(channels: int) -> Tensor:
        return torch.rand(2, height, width, channels, generator=generator)

    frames = {"image": draw(3), "cover": (1.4 * draw(1) - 0.2).clamp(0, 1), "color_weight": 3 * draw(1), "weight": draw(1).round()}
    return frames, draw(3), draw(1)


def plain(rgb: Tensor, alpha: Tensor, frames: dict[str, Tensor], background: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same terms as torch has them."""
    target = over(frames["image"], frames["cover"], background)
    return (
        huber(rgb, target, delta=DELTA, mask=frames["color_weight"]),
        ((alpha - frames["cover"]).abs() * frames["weight"]).mean(),
        dssim_loss(rgb, target, mask=frames["weight"]),
    )


def test_terms_and_gradients_are_those_of_plain_torch_in_double(variant) -> None:
    frames, rgb, alpha = made_up()
    background, upstream = torch.tensor([1.0, 0.5, 0.2]), torch.tensor([10.0, 0.1, 0.4])
    leaves = rgb.requires_grad_(), alpha.requires_grad_()
    found = picture_terms(RenderOutput(*leaves), background=background, delta=DELTA, **frames)
    shown = torch.stack([found.huber, found.alpha, found.dssim])
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = torch.stack(plain(*doubles, {name: plane.double() for name, plane in frames.items()}, background.double()))
    torch.testing.assert_close(shown.double(), expected, rtol=1e-5, atol=1e-7)  # float32 variances of nearly equal sums
    torch.testing.assert_close(found.target, over(frames["image"], frames["cover"], background))
    ours = torch.autograd.grad((shown * upstream).sum(), leaves)
    theirs = torch.autograd.grad((expected * upstream).sum(), doubles)
    for one, other in zip(ours, theirs, strict=True):
        assert ((one - other).norm() / other.norm()).item() < 2e-5


def test_weights_of_nothing_cost_nothing_and_move_nothing() -> None:
    frames, rgb, alpha = made_up(20, 20)
    nothing = {**frames, "color_weight": torch.zeros(2, 20, 20, 1), "weight": torch.zeros(2, 20, 20, 1)}
    found = picture_terms(RenderOutput(rgb.requires_grad_(), alpha), background=torch.ones(3), delta=DELTA, **nothing)
    total = found.huber + found.alpha + found.dssim
    assert total.item() == 0
    assert torch.autograd.grad(total, rgb)[0].eq(0).all()


def test_same_bits_whatever_the_number_of_threads() -> None:
    frames, rgb, alpha = made_up()
    rgb.requires_grad_()
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found = picture_terms(RenderOutput(rgb, alpha), background=torch.ones(3), delta=DELTA, **frames)
        results.append((found.huber.detach(), found.dssim.detach(), torch.autograd.grad(found.huber + found.dssim, rgb)[0]))
    torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


def test_squared_errors_are_those_of_every_picture(variant) -> None:
    frames, rgb, _ = made_up()
    found = squared_errors(rgb, frames["image"], frames["cover"], torch.ones(3), frames["weight"])
    difference = rgb - over(frames["image"], frames["cover"], 1.0)
    mean = masked_mean(difference.square(), frames["weight"])
    torch.testing.assert_close(found, (difference.square() * frames["weight"]).sum((1, 2, 3)))
    assert found.sum() / (3 * frames["weight"].sum()) == pytest.approx(mean.item(), rel=1e-5)
