from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from deja_vu.core.gaussians import ACTIVATIONS, CHANNELS, GAUSSIAN_AXES, NUM_CHANNELS, Gaussians, UVGaussianMap


def packed(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, NUM_CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_channels_tile_the_packed_map() -> None:
    assert [index for channel in CHANNELS.values() for index in range(NUM_CHANNELS)[channel]] == list(range(NUM_CHANNELS))


def test_packing_is_the_inverse_of_unpacking() -> None:
    values = packed(2, 7)
    assert torch.equal(UVGaussianMap.unpack(values).pack(), values)
    assert {name: getattr(UVGaussianMap.unpack(values), name).shape[-1] for name in CHANNELS} == {
        "position": 3,
        "log_scale": 3,
        "rotation": 3,
        "opacity_logit": 1,
        "color": 3,
    }


def test_the_order_is_that_of_saved_avatars() -> None:
    # Written out, because avatars on disk rely on it.
    numbered = UVGaussianMap.unpack(torch.arange(13.0)[None])
    assert numbered.position.tolist() == [[0, 1, 2]]
    assert numbered.log_scale.tolist() == [[3, 4, 5]]
    assert numbered.rotation.tolist() == [[6, 7, 8]]
    assert numbered.opacity_logit.tolist() == [[9]]
    assert numbered.color.tolist() == [[10, 11, 12]]


def test_raw_maps_add_channel_by_channel() -> None:
    a, b = packed(7), packed(2, 7)[1]
    total = UVGaussianMap.unpack(a + b)
    for name in CHANNELS:
        torch.testing.assert_close(getattr(total, name), getattr(UVGaussianMap.unpack(a), name) + getattr(UVGaussianMap.unpack(b), name))


def test_quaternions_are_unit_and_zero_is_no_rotation() -> None:
    quaternions = UVGaussianMap.unpack(packed(50)).quaternions()
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(50, dtype=torch.float64))
    assert UVGaussianMap.unpack(torch.zeros(1, 13)).quaternions().tolist() == [[1, 0, 0, 0]]
    # x, y, z over w = 1 is the axis times the tangent of half the angle.
    raw = UVGaussianMap.unpack(packed(50)).rotation
    angle = 2 * torch.atan(raw.norm(dim=-1, keepdim=True))
    expected = Rotation.from_rotvec((torch.nn.functional.normalize(raw, dim=-1) * angle).numpy()).as_quat(scalar_first=True)
    torch.testing.assert_close(quaternions, torch.from_numpy(expected))


def test_gradcheck_of_quaternions() -> None:
    def quaternions(values: torch.Tensor) -> torch.Tensor:
        return UVGaussianMap.unpack(values).quaternions()

    assert torch.autograd.gradcheck(quaternions, packed(3).requires_grad_())
    assert torch.autograd.gradcheck(quaternions, torch.zeros(2, 13, dtype=torch.float64, requires_grad=True))


def test_gaussians_select_frames() -> None:
    frames = Gaussians(torch.rand(4, 6, 3), torch.rand(4, 6, 4), torch.rand(4, 6, 3), torch.rand(4, 6), torch.rand(4, 6, 1, 3))
    assert torch.equal(frames[2].opacities, frames.opacities[2])
    assert frames[1:3].sh.shape == (2, 6, 1, 3)
    assert frames.to(torch.float64).means.dtype == torch.float64


def test_activations_and_their_inverses_cancel() -> None:
    for name, activation in ACTIVATIONS.items():
        raw = packed(40)[:, CHANNELS[name]]
        torch.testing.assert_close(activation.inverse(activation.forward(raw)), raw)


def test_activated_values_are_what_the_channels_say() -> None:
    raw = packed(40)
    scales, opacities, colors = (
        ACTIVATIONS[name].forward(raw[:, CHANNELS[name]]).numpy() for name in ("log_scale", "opacity_logit", "color")
    )
    np.testing.assert_allclose(scales, np.exp(raw[:, CHANNELS["log_scale"]].numpy()))
    np.testing.assert_allclose(opacities, 1 / (1 + np.exp(-raw[:, CHANNELS["opacity_logit"]].numpy())))
    # The constant spherical harmonic is 1 / (2 sqrt(pi)); 3DGS adds half a unit.
    np.testing.assert_allclose(colors, 0.5 + raw[:, CHANNELS["color"]].numpy() / (2 * np.sqrt(np.pi)))


@pytest.mark.parametrize("batch", [(), (2,)])
def test_sets_of_gaussians_are_joined_one_after_the_other(batch: tuple[int, ...]) -> None:
    def some(count: int) -> Gaussians:
        return Gaussians(
            torch.rand(*batch, count, 3),
            torch.rand(*batch, count, 4),
            torch.rand(*batch, count, 3),
            torch.rand(*batch, count),
            torch.rand(*batch, count, 1, 3),
        )

    first, second = some(4), some(6)
    both = Gaussians.cat([first, second])
    for name, axes in GAUSSIAN_AXES.items():
        start, rest = getattr(both, name).split([4, 6], dim=len(batch))
        assert getattr(both, name).dim() == len(batch) + axes
        assert torch.equal(start, getattr(first, name))
        assert torch.equal(rest, getattr(second, name))
