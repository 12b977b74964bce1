"""Every rasterizer gives the reference's values and gradients."""

from __future__ import annotations

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import RASTERIZERS, rasterize

# float32 against float64: rounding of positions in pixels (1e-6) and of a sum over some thousand terms.
VALUES, GRADIENTS = 1e-5, 1e-4
LOOSER = {"gsplat": 10.0}
"""gsplat is compiled with fast arithmetic: exponentials of a few units in the last place, and Gaussians at 1/255 that flip."""
NAMES = (*Gaussians.__dataclass_fields__, "camera_from_world", "background")


def device_of(backend: str) -> str:
    return "cuda" if backend == "gsplat" else "cpu"


def render(scene, backend: str, dtype: torch.dtype):
    """Outputs, and gradients by every input for fixed random cotangents."""
    gaussians, camera, background = scene
    device = device_of(backend)
    leaves = [getattr(gaussians, name) for name in vars(gaussians)] + [camera.camera_from_world, background]
    leaves = [leaf.to(device, dtype, copy=True).requires_grad_() for leaf in leaves]
    view = Camera(leaves[5], camera.intrinsics.to(device, dtype), camera.width, camera.height)
    output = rasterize(Gaussians(*leaves[:5]), view, leaves[6], backend)
    outputs = [output.rgb, output.alpha, output.depth]
    generator = torch.Generator().manual_seed(9)
    cotangents = [torch.randn(value.shape, generator=generator, dtype=torch.float64).to(device, dtype) for value in outputs]
    gradients = torch.autograd.grad(outputs, leaves, cotangents)
    return [value.detach().double().cpu() for value in outputs], [gradient.double().cpu() for gradient in gradients]


def relative(value: torch.Tensor, expected: torch.Tensor) -> float:
    return ((value - expected).norm() / expected.norm().clamp_min(1e-12)).item()


def assert_same(scene, backend: str, gradient_tolerance: float = GRADIENTS) -> None:
    values, gradients = render(scene, backend, torch.float32)
    expected_values, expected_gradients = render(scene, "reference", torch.float64)
    for name, value, expected in zip(("rgb", "alpha", "depth"), values, expected_values, strict=True):
        assert relative(value, expected) < VALUES * LOOSER.get(backend, 1.0), name
    for name, value, expected in zip(NAMES, gradients, expected_gradients, strict=True):
        assert relative(value, expected) < gradient_tolerance * LOOSER.get(backend, 1.0), name


on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat needs a CUDA device")]


@pytest.fixture(params=[pytest.param(name, marks=on_gpu if name == "gsplat" else []) for name in RASTERIZERS])
def backend(request):
    return request.param


SCENES = {
    "one": {"count": 1},
    "sparse": {"count": 40, "width": 61, "height": 37},
    "deep": {"count": 700, "width": 48, "height": 48, "spread": 0.4},  # pixels stop early, tiles hold several chunks
    "batch of three": {"count": 60, "batch": 3, "width": 33, "height": 20},
    "one pixel": {"count": 50, "width": 1, "height": 1, "spread": 0.1},
    "tall": {"count": 80, "width": 5, "height": 70},
}


@pytest.mark.parametrize("scene", SCENES)
def test_same_values_and_gradients(backend, scene, make_scene):
    assert_same(make_scene(**SCENES[scene]), backend)


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_spherical_harmonics(backend, coefficients, make_scene):
    assert_same(make_scene(60, batch=2, coefficients=coefficients, width=24, height=24), backend)


def test_gaussians_outside_the_picture(backend, make_scene):
    gaussians, camera, background = make_scene(150, spread=4.0, width=32, height=32)  # the linearization's clamp acts on many
    assert_same((gaussians, camera, background), backend)


@pytest.mark.parametrize(
    "change",
    {
        "huge": lambda g: {"scales": g.scales * 30},
        "tiny": lambda g: {"scales": g.scales * 1e-6},
        "needles": lambda g: {"scales": g.scales * torch.tensor([20, 1e-4, 1e-4], dtype=torch.float64)},
        "discs": lambda g: {"scales": g.scales * torch.tensor([3, 3, 0], dtype=torch.float64)},
        "transparent": lambda g: {"opacities": torch.where(torch.arange(g.opacities.shape[-1]) % 2 == 0, 0.0, g.opacities)},
        "opaque": lambda g: {"opacities": torch.ones_like(g.opacities)},
        "dark": lambda g: {"sh": g.sh - 1.5},  # many colors clamp at zero
        "small quaternions": lambda g: {"quats": g.quats * 1e-3},
    }.items(),
    ids=lambda item: item[0],
)
def test_extremes(backend, change, make_scene):
    gaussians, camera, background = make_scene(40, width=32, height=32)
    # A needle two meters long at one meter: its 2D covariance has condition 1e5, and float32 cannot hold its inverse better.
    tolerance = 2e-3 if change[0] == "needles" else GRADIENTS
    assert_same((Gaussians(**(vars(gaussians) | change[1](gaussians))), camera, background), backend, tolerance)


def test_depth_is_left_out_where_nobody_asks(backend, make_scene):
    gaussians, camera, background = make_scene(40, batch=2)
    gaussians, camera, background = (part.to(torch.float32).to(device_of(backend)) for part in (gaussians, camera, background))
    whole, without = (rasterize(gaussians, camera, background, backend, depth=asked) for asked in (True, False))
    assert whole.depth is not None
    assert without.depth is None
    torch.testing.assert_close(without.rgb, whole.rgb, rtol=0, atol=1e-5 if backend == "gsplat" else 0)  # another kernel, of three channels
    torch.testing.assert_close(without.alpha, whole.alpha, rtol=0, atol=1e-5 if backend == "gsplat" else 0)


def test_all_behind_the_camera(backend, make_scene):
    gaussians, camera, background = make_scene(20)
    camera.camera_from_world[:, 2, 3] = -3.0
    values, gradients = render((gaussians, camera, background), backend, torch.float32)
    assert torch.equal(values[0], background.float().double()[:, None, None].expand_as(values[0]))
    assert not values[1].any()
    assert not values[2].any()
    assert all(not gradient.any() for gradient in gradients[:6])


@pytest.mark.parametrize(("batch", "count"), [(0, 5), (2, 0), (0, 0)])
def test_empty(backend, batch, count, make_scene):
    gaussians, camera, background = make_scene(count, batch=batch)
    values, gradients = render((gaussians, camera, background), backend, torch.float32)
    assert values[0].shape == (batch, 40, 48, 3)
    assert torch.equal(values[0], background.float().double()[:, None, None].expand_as(values[0]))
    assert gradients[0].shape == (batch, count, 3)
    assert gradients[6].shape == (batch, 3)
