"""Laws that hold for any scene: the native rasterizer against the reference, and what a picture cannot do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deja_vu import native
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import rasterize

# The same examples each time: among endless ones some pixel meets a threshold (1/255, 1e-4) that float32 takes otherwise than float64.
law = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def scenes(draw, batches=(0, 1, 2), least: int = 0):
    """Gaussians from needles to discs, from transparent to opaque, in front of, behind and beside any camera; float64."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch, count = draw(st.sampled_from(batches)), draw(st.integers(least, 60))
    width, height = draw(st.integers(1, 45)), draw(st.integers(1, 45))
    coefficients = draw(st.sampled_from([1, 4, 9, 16]))
    size = 10 ** draw(st.floats(-3.0, -0.5))  # meters
    stretch = draw(st.floats(0.0, 1.5))
    distance, tilt = draw(st.floats(0.05, 3.0)), draw(st.floats(-1.0, 1.0))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    gaussians = Gaussians(
        means=0.3 * normal(batch, count, 3),
        quats=normal(batch, count, 4),
        scales=size * torch.exp(stretch * normal(batch, count, 3)),
        opacities=torch.sigmoid(draw(st.floats(-6.0, 6.0)) + 2 * normal(batch, count)),
        sh=0.4 * normal(batch, count, coefficients, 3),
    )
    camera = Camera.from_focal(draw(st.floats(0.5, 3.0)) * max(width, height), width, height).to(torch.float64)
    skew = normal(3, 3) * tilt
    camera.camera_from_world[:3, :3] = torch.linalg.matrix_exp(skew - skew.T)
    camera.camera_from_world[2, 3] = distance
    pose = camera.camera_from_world.expand(batch, 4, 4).clone()
    return gaussians, replace(camera, camera_from_world=pose), torch.rand(batch, 3, generator=generator, dtype=torch.float64)


def single(scene):
    gaussians, camera, background = scene
    return gaussians.to(torch.float32), camera.to(torch.float32), background.float()


def picture_and_gradients(scene, backend: str) -> list[torch.Tensor]:
    gaussians, camera, background = scene
    leaves = [*(value.detach().clone() for value in vars(gaussians).values()), camera.camera_from_world.clone(), background.clone()]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    output = rasterize(Gaussians(*leaves[:5]), replace(camera, camera_from_world=leaves[5]), leaves[6], backend)
    values = [output.rgb, output.alpha, output.depth]
    generator = torch.Generator().manual_seed(3)
    upstream = [torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype) for value in values]
    return [*(value.detach() for value in values), *torch.autograd.grad(values, leaves, upstream)]


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
def test_native_equals_the_reference(name):
    before = native.variant()
    try:
        native.select_variant(name)
    except native.NativeError as error:
        pytest.skip(str(error))

    @law
    @given(scenes())
    def check(scene):
        # The same float32 numbers for both, so that what differs is arithmetic and not the question.
        scene = tuple(value.to(torch.float64) for value in single(scene))
        found, expected = picture_and_gradients(single(scene), "cpu"), picture_and_gradients(scene, "reference")
        for index, (a, b) in enumerate(zip(found, expected, strict=True)):
            error = (a.double() - b).norm()
            if index < 3:
                assert error <= 1e-5 * b.norm() + 1e-6, f"output {index}: {error} of {b.norm()}"
            else:
                # A covariance of condition c costs c times float32's rounding; 1e-3 covers needles thirty times longer than wide.
                assert error <= 1e-3 * b.norm() + 1e-5, f"gradient {index - 3}: {error} of {b.norm()}"

    try:
        check()
    finally:
        native.select_variant(before)


@law
@given(scenes(batches=(1,), least=2), st.randoms(use_true_random=False))
def test_the_order_of_the_gaussians_does_not_matter(scene, random):
    gaussians, camera, background = single(scene)
    order = list(range(gaussians.means.shape[1]))
    random.shuffle(order)
    shuffled = Gaussians(*(value[:, order] for value in vars(gaussians).values()))
    for name in ("rgb", "alpha", "depth"):
        found = getattr(rasterize(shuffled, camera, background, "cpu"), name)
        assert torch.equal(found, getattr(rasterize(gaussians, camera, background, "cpu"), name))


@law
@given(scenes(batches=(1,), least=1))
def test_a_picture_mixes_what_is_there(scene):
    """Coverage lies in [0, 1), depth between the nearest and furthest Gaussian, color between the darkest and lightest."""
    gaussians, camera, background = single(replace_sh(scene))
    output = rasterize(gaussians, camera, background, "cpu")
    assert ((output.alpha >= 0) & (output.alpha < 1)).all()
    _, depth = camera.project(gaussians.means)
    covered = output.alpha > 1e-3
    if covered.any():
        seen = depth[depth >= 0.01]
        assert output.depth[covered].min() >= seen.min() * (1 - 1e-4)
        assert output.depth[covered].max() <= seen.max() * (1 + 1e-4)
    colors = torch.cat([(0.5 + 0.28209479 * gaussians.sh[0, :, 0]).clamp_min(0), background])
    assert (output.rgb >= colors.amin(0) - 1e-5).all()
    assert (output.rgb <= colors.amax(0) + 1e-5).all()


def replace_sh(scene):
    gaussians, camera, background = scene
    return replace(gaussians, sh=gaussians.sh[..., :1, :]), camera, background


@law
@given(scenes(batches=(1,)), st.integers(0, 2**31))
def test_moving_world_and_camera_together_changes_nothing(scene, seed):
    gaussians, camera, background = replace_sh(scene)  # view-dependent colors are fixed to the world's axes
    generator = torch.Generator().manual_seed(seed)
    skew = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = torch.linalg.matrix_exp(skew - skew.T), torch.randn(3, generator=generator, dtype=torch.float64)
    trace = (1 + motion.diagonal()[:3].sum()).clamp_min(0).sqrt() / 2
    if trace < 0.1:
        return  # near half a turn the short formula below for the quaternion loses its digits
    axis = torch.stack([motion[2, 1] - motion[1, 2], motion[0, 2] - motion[2, 0], motion[1, 0] - motion[0, 1]]) / (4 * trace)
    w, v = gaussians.quats[..., :1], gaussians.quats[..., 1:]
    turned = torch.cat([trace * w - (axis * v).sum(-1, keepdim=True), trace * v + w * axis + torch.linalg.cross(axis.expand_as(v), v)], -1)
    moved = replace(gaussians, means=gaussians.means @ motion[:3, :3].T + motion[:3, 3], quats=turned)
    view = replace(camera, camera_from_world=camera.camera_from_world @ torch.linalg.inv(motion))
    before, after = rasterize(gaussians, camera, background, "reference"), rasterize(moved, view, background, "reference")
    torch.testing.assert_close(after.rgb, before.rgb, atol=1e-9, rtol=0)
    # In float32 the positions of a world shifted by meters are known to 1e-7 of those meters, seen from a few centimeters.
    drawn = rasterize(*single((moved, view, background)), "cpu")
    assert (drawn.rgb - before.rgb).norm() <= 1e-3 * before.rgb.norm() + 1e-4
