"""The common interface: batching and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.errors import MissingAssetError
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import rasterize


@pytest.fixture
def scene(make_scene):
    gaussians, camera, background = make_scene(30, batch=3, width=20, height=18)
    return gaussians.to(torch.float32), camera.to(torch.float32), background.float()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_batch_equals_its_images(scene, backend):
    gaussians, camera, background = scene
    together = rasterize(gaussians, camera, background, backend)
    for b in range(3):
        single = rasterize(gaussians[b], Camera(camera.camera_from_world[b], camera.intrinsics, 20, 18), background[b], backend)
        assert single.rgb.shape == (18, 20, 3)
        for name in ("rgb", "alpha", "depth"):
            assert torch.equal(getattr(single, name), getattr(together, name)[b])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_what_is_single_serves_the_whole_batch(scene, backend):
    gaussians, camera, background = scene
    one = Gaussians(*(getattr(gaussians, name)[0].clone().requires_grad_() for name in vars(gaussians)))
    cameras = replace(camera, camera_from_world=camera.camera_from_world + torch.tensor([0.0, 0.01, 0.02])[:, None, None] * torch.eye(4)[3])
    shared = rasterize(one, cameras, background[0], backend)
    assert shared.rgb.shape == (3, 18, 20, 3)
    repeated = Gaussians(*(getattr(one, name).expand(3, *getattr(one, name).shape).contiguous() for name in vars(one)))
    expected = rasterize(repeated, cameras, background[:1].expand(3, 3), backend)
    assert torch.equal(shared.rgb, expected.rgb)
    upstream = torch.randn(shared.rgb.shape, generator=torch.Generator().manual_seed(0))
    first = torch.autograd.grad(shared.rgb, [one.means, one.sh], upstream)
    second = torch.autograd.grad(expected.rgb, [one.means, one.sh], upstream)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)  # sums of three images, added in another order


def test_auto_takes_the_native_rasterizer_for_float32_and_the_reference_for_float64(scene):
    gaussians, camera, background = scene
    assert torch.equal(rasterize(*scene).rgb, rasterize(*scene, "cpu").rgb)
    double = gaussians.to(torch.float64), camera.to(torch.float64), background.double()
    assert torch.equal(rasterize(*double).rgb, rasterize(*double, "reference").rgb)


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "sh"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_values_that_are_not_finite(scene, name, value):
    gaussians, camera, background = scene
    broken = getattr(gaussians, name).clone()
    broken.view(-1)[7] = value
    with pytest.raises(ValueError, match=rf"gaussians\.{name} holds 1 values"):
        rasterize(replace(gaussians, **{name: broken}), camera, background)


def test_values_are_not_looked_at_where_nobody_asks_but_by_the_cpu_rasterizer_which_reads_them_anyway(scene):
    gaussians, camera, background = scene
    broken = replace(gaussians, sh=torch.full_like(gaussians.sh, torch.nan))
    assert rasterize(broken, camera, background, "reference", check=False).rgb.isnan().any()
    with pytest.raises(ValueError, match="not finite"):
        rasterize(broken, camera, background, "cpu", check=False)


@pytest.mark.usefixtures("unchecked_types")
def test_refuses_shapes_and_types(scene):
    gaussians, camera, background = scene
    with pytest.raises(ValueError, match=r"gaussians\.quats has shape \(3, 30, 3\); expected \(3, 30, 4\)"):
        rasterize(replace(gaussians, quats=gaussians.quats[..., :3]), camera, background)
    with pytest.raises(ValueError, match=r"gaussians\.sh has 2 coefficients"):
        rasterize(replace(gaussians, sh=gaussians.sh.expand(3, 30, 2, 3)), camera, background)
    with pytest.raises(ValueError, match=r"background is torch.float64"):
        rasterize(gaussians, camera, background.double())
    with pytest.raises(ValueError, match="do not share one leading batch axis"):
        rasterize(gaussians, camera, background[:2])
    with pytest.raises(ValueError, match=r"gaussians\.means is torch.float16"):
        rasterize(gaussians.to(torch.float16), camera.to(torch.float16), background.half())
    with pytest.raises(ValueError, match="there is no rasterizer 'cuda'"):
        rasterize(gaussians, camera, background, "cuda")
    with pytest.raises(ValueError, match=r"camera\.intrinsics requires a gradient"):
        rasterize(gaussians, replace(camera, intrinsics=camera.intrinsics.clone().requires_grad_()), background)
    with pytest.raises(ValueError, match="float32 on the CPU"):
        rasterize(gaussians.to(torch.float64), camera.to(torch.float64), background.double(), "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is present")
def test_gsplat_without_cuda_says_what_to_do(scene):
    with pytest.raises(MissingAssetError, match=r"needs a CUDA device.*use backend='cpu'"):
        rasterize(*scene, "gsplat")
