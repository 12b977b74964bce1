from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import rasterize


def outputs_and_gradients(scene) -> list[torch.Tensor]:
    gaussians, camera, background = scene
    leaves = [getattr(gaussians, name).float().requires_grad_() for name in vars(gaussians)]
    output = rasterize(Gaussians(*leaves), camera.to(torch.float32), background.float(), "cpu")
    values = [output.rgb, output.alpha, output.depth]
    upstream = [torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) for value in values]
    return [*values, *torch.autograd.grad(values, leaves, upstream)]


def relative(value: torch.Tensor, expected: torch.Tensor) -> float:
    return ((value.double() - expected).norm() / expected.norm()).item()


def test_every_instruction_set_equals_the_reference(variant, make_scene):
    gaussians, camera, background = make_scene(500, batch=2, width=37, height=50, spread=0.6)
    leaves = [getattr(gaussians, name).requires_grad_() for name in vars(gaussians)]
    output = rasterize(Gaussians(*leaves), camera, background, "reference")
    values = [output.rgb, output.alpha, output.depth]
    upstream = [torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).double() for value in values]
    expected = [*values, *torch.autograd.grad(values, leaves, upstream)]
    detached = Gaussians(*(leaf.detach() for leaf in leaves))
    for index, (a, b) in enumerate(zip(outputs_and_gradients((detached, camera, background)), expected, strict=True)):
        assert relative(a, b) < (1e-5 if index < 3 else 1e-4), index


def test_same_bits_whatever_the_number_of_threads(variant, make_scene):
    scene = make_scene(3000, batch=2, width=70, height=50)
    alone = outputs_and_gradients(scene)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        for a, b in zip(alone, outputs_and_gradients(scene), strict=True):
            assert torch.equal(a, b)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux's /proc")
def test_takes_as_many_threads_as_torch():
    script = """
        import os, torch
        from deja_vu.core.camera import Camera
        from deja_vu.core.gaussians import Gaussians
        from deja_vu.render import rasterize
        mean, quat = torch.tensor([[0., 0, 1]]), torch.tensor([[1., 0, 0, 0]])
        gaussians = Gaussians(mean, quat, torch.full((1, 3), .1), torch.ones(1), torch.ones(1, 1, 3))
        counts = []
        for threads in (1, 4, 2):
            torch.set_num_threads(threads)
            before = len(os.listdir("/proc/self/task"))
            rasterize(gaussians, Camera.from_focal(20., 64, 64), torch.ones(3), "cpu")
            counts.append(len(os.listdir("/proc/self/task")) - before)
        assert counts == [0, 3, 0], counts
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ties_in_depth_keep_the_order_of_the_gaussians():
    """Two opaque Gaussians in one place: the first hides the second, as in a stable sort."""
    twice = {"means": [0.0, 0.0, 1.0], "quats": [1.0, 0, 0, 0], "scales": [0.5, 0.5, 0.5]}
    attributes = {name: torch.tensor([value, value]) for name, value in twice.items()}
    gaussians = Gaussians(**attributes, opacities=torch.ones(2), sh=torch.tensor([[[1.0, -1, -1]], [[-1.0, -1, 1]]]))
    output = rasterize(gaussians, Camera.from_focal(20.0, 4, 4), torch.zeros(3), "cpu")
    assert (output.rgb[..., 0] > 0.7).all()
    assert (output.rgb[..., 2] < 0.3).all()


def test_gradient_of_one_output_alone(make_scene):
    gaussians, camera, background = make_scene(50)
    single = [value.float() for value in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)]
    for name in ("alpha", "depth"):
        double = [value.detach().double().requires_grad_() for value in single]
        picture = rasterize(Gaussians(*double), camera, background, "reference")
        expected = torch.autograd.grad(getattr(picture, name).sum(), double[:4])
        leaves = [value.requires_grad_() for value in single]
        picture = rasterize(Gaussians(*leaves), camera.to(torch.float32), background.float(), "cpu")
        found = torch.autograd.grad(getattr(picture, name).sum(), leaves[:4])
        for a, b in zip(found, expected, strict=True):
            assert relative(a, b) < 1e-4


def test_two_backward_passes_through_one_picture(make_scene):
    gaussians, camera, background = make_scene(50)
    leaves = [getattr(gaussians, name).float().requires_grad_() for name in vars(gaussians)]
    loss = rasterize(Gaussians(*leaves), camera.to(torch.float32), background.float(), "cpu").rgb.square().sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_add_up_in_the_leaves(make_scene):
    """The gradients of a picture share one piece of memory; that is not to be seen."""
    gaussians, camera, background = make_scene(50)
    leaves = [getattr(gaussians, name)[0].float().requires_grad_() for name in vars(gaussians)]
    view = Camera(camera.camera_from_world[0].float(), camera.intrinsics.float(), camera.width, camera.height)

    def loss() -> torch.Tensor:
        return rasterize(Gaussians(*leaves), view, background[0].float(), "cpu").rgb.square().sum()

    once = torch.autograd.grad(loss(), leaves)
    loss().backward()
    loss().backward()
    for leaf, gradient in zip(leaves, once, strict=True):
        assert torch.equal(leaf.grad, 2 * gradient)
    optimizer = torch.optim.Adam(leaves, lr=1e-3)
    optimizer.zero_grad(set_to_none=False)
    loss().backward()
    for leaf, gradient in zip(leaves, once, strict=True):
        assert torch.equal(leaf.grad, gradient)
    before = [leaf.detach().clone() for leaf in leaves]
    optimizer.step()
    assert not any(torch.equal(leaf, value) for leaf, value in zip(leaves, before, strict=True))


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_every_value_is_looked_at(variant, coefficients, make_scene):
    """NaN and infinity at either end of every attribute, behind the camera too, and in pose, intrinsics and background."""
    gaussians, camera, background = make_scene(19, batch=2, coefficients=coefficients, width=9, height=9)
    gaussians, camera, background = gaussians.to(torch.float32), camera.to(torch.float32), background.float()
    camera.camera_from_world[:, 2, 3] = -3
    fields = {f"gaussians.{name}": value for name, value in vars(gaussians).items()}
    fields |= {"camera.camera_from_world": camera.camera_from_world, "camera.intrinsics": camera.intrinsics, "background": background}
    rasterize(gaussians, camera, background, "cpu")
    for name, tensor in fields.items():
        for place in (0, -1):
            flat = tensor.view(-1)
            kept = flat[place].clone()
            for value in (float("nan"), float("-inf")):
                flat[place] = value
                with pytest.raises(ValueError, match=rf"^{name} holds 1 values that are not finite"):
                    rasterize(gaussians, camera, background, "cpu")
            flat[place] = kept
    gaussians.means[0, 0, 0] = gaussians.scales[0, 0, 0] = 3e38  # finite, though their sum is not
    rasterize(gaussians, camera, background, "cpu")


def resident_megabytes() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
@pytest.mark.parametrize("differentiable", [False, True])
def test_native_memory_is_given_back(differentiable, make_scene):
    gaussians, camera, background = make_scene(20000, width=64, height=64)
    scene = gaussians.to(torch.float32), camera.to(torch.float32), background.float()
    scene[0].means.requires_grad_(differentiable)
    for repeat in range(60):
        output = rasterize(*scene, "cpu")
        if repeat == 10:
            gc.collect()
            before = resident_megabytes()
    del output
    gc.collect()
    # A picture keeps about 2.5 MB for its gradient: 50 of them would be 125 MB.
    assert resident_megabytes() - before < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_survives_a_fork(make_scene):
    """Data loaders fork; a pool of threads does not exist in the child."""
    torch.set_num_threads(2)
    gaussians, camera, background = make_scene(2000)
    scene = gaussians.to(torch.float32), camera.to(torch.float32), background.float()
    expected = rasterize(*scene, "cpu").rgb
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(rasterize(*scene, "cpu").rgb, expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
