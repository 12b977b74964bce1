"""The native pass against the torch definition (`attach`, `to_gaussians`), which test_attach.py proves."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from deja_vu import native
from deja_vu.core.gaussians import CHANNELS, Gaussians, UVGaussianMap
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.heads.toy import load as load_toy
from deja_vu.uv.attach import attach, to_gaussians
from deja_vu.uv.binding import Resample, SummedMap, SurfaceBinding, bind_texels, pose_gaussians
from deja_vu.uv.layout import build_layout

TERMS = ("base", "rectification", "weights", "blendmaps")
pytestmark = pytest.mark.usefixtures("one_thread")
Scene = tuple[SummedMap, torch.Tensor, SurfaceBinding, torch.Tensor, torch.Tensor]


def scene(poses: int, blendmaps: int = 5, coarse: bool = True, seed: int = 0) -> Scene:
    """A random map, head and pose: map, vertices, carrier, rest stretch and rotations; all that trains requires a gradient."""
    generator = torch.Generator().manual_seed(seed)
    head = load_toy()
    fine = build_layout(head.topology, 80)
    small = build_layout(head.topology, 64) if coarse else fine
    upsample = Resample(small, fine) if coarse else None
    binding = bind_texels(head.topology.faces, len(head.template), fine, upsample, len(small))
    pose = torch.eye(4).repeat(poses, 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(torch.randn(poses, 3, generator=generator))
    pose[:, :3, 3] = torch.randn(poses, 3, generator=generator) * 0.3
    still = head.neutral((poses,))
    expression = torch.rand(still.expression.shape, generator=generator)
    vertices = head(replace(still, expression=expression, world_from_head=pose)).detach()
    rest = attach(head(still), head.topology.faces, fine).stretch[0] * (0.3 + 2 * torch.rand(len(fine), generator=generator))
    base = torch.zeros(len(fine), 13)
    base[:, CHANNELS["log_scale"]] = -6.0
    gains = torch.rand(13, generator=generator) + 0.5
    rectification = torch.randn(len(fine), 13, generator=generator)
    weights = torch.randn(poses, blendmaps, generator=generator)
    maps = 0.3 * torch.randn(blendmaps, len(small), 13, generator=generator)
    terms = (base, gains, rectification, weights, maps)
    for tensor in (base, rectification, weights, maps, vertices):
        tensor.requires_grad_()
    return SummedMap(*terms, upsample), vertices, binding, rest, pose[:, :3, :3]


def definition(
    maps: SummedMap, vertices: torch.Tensor, binding: SurfaceBinding, rest: torch.Tensor, axes: torch.Tensor | None
) -> Gaussians:
    """Plain torch in float64."""
    layout = replace(binding.layout, bary=binding.layout.bary.double(), uv_gradient=binding.layout.uv_gradient.double())
    double = {name: getattr(maps, name).double() for name in (*TERMS, "gains")}
    surface = attach(vertices.double(), binding.faces, layout)
    if axes is not None:
        surface = replace(surface, frames=axes.double()[..., None, :, :].expand_as(surface.frames))
    return to_gaussians(UVGaussianMap.unpack(replace(maps, **double).sum()), surface, rest.double())


def fields(gaussians: Gaussians) -> list[torch.Tensor]:
    """Tensors to compare; a quaternion enters by its products, as its sign is free where two of the frame's squares tie."""
    quats = gaussians.quats
    return [gaussians.means, quats[..., :, None] * quats[..., None, :], gaussians.scales, gaussians.opacities, gaussians.sh]


def gradients(gaussians: Gaussians, maps: SummedMap, vertices: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients by every term of a random linear functional of the fields."""
    generator = torch.Generator().manual_seed(7)
    values = fields(gaussians)
    loss = sum((value * torch.randn(value.shape, generator=generator, dtype=torch.float64)).sum() for value in values)
    terms = {name: getattr(maps, name) for name in TERMS} | {"vertices": vertices}
    return dict(zip(terms, torch.autograd.grad(loss, list(terms.values())), strict=True))


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("axes", ["tangent", "head"])
@pytest.mark.parametrize("poses", [1, 3])
def test_native_pass_equals_the_definition_in_double(variant, poses, axes, coarse):
    maps, vertices, binding, rest, rotation = scene(poses, coarse=coarse)
    turned = rotation if axes == "head" else None
    ours, theirs = pose_gaussians(maps, vertices, binding, rest, turned), definition(maps, vertices, binding, rest, turned)
    for ours_field, theirs_field in zip(fields(ours), fields(theirs), strict=True):
        assert ours_field.dtype == torch.float32
        # float32 edges of millimeter triangles about 1 m from the origin are good to 1e-4; frames inherit that
        torch.testing.assert_close(ours_field.double(), theirs_field, rtol=3e-4, atol=3e-4)
    ours_grads, theirs_grads = gradients(ours, maps, vertices), gradients(theirs, maps, vertices)
    for name, grad in theirs_grads.items():
        # relative to the largest entry: sums over thousands of texels of either sign cancel
        assert (ours_grads[name] - grad).abs().max() <= 2e-4 * grad.abs().max(), name


def test_definition_has_the_gradients_of_finite_differences():
    maps, vertices, binding, rest, _ = scene(1, blendmaps=2)
    generator = torch.Generator().manual_seed(3)
    chosen = torch.randint(0, len(binding.layout), (3,), generator=generator)

    def some(*terms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gaussians = definition(replace(maps, rectification=terms[0], weights=terms[1]), vertices.detach(), binding, rest, None)
        return tuple(value[0, chosen] for value in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh))

    rectification, weights = maps.rectification.detach().double(), maps.weights.detach().double().requires_grad_()
    part = rectification[chosen].requires_grad_()
    assert torch.autograd.gradcheck(lambda rows, w: some(rectification.index_copy(0, chosen, rows), w), (part, weights))


@pytest.mark.parametrize("axes", ["tangent", "head"])
def test_without_blendmaps_or_gradients(variant, axes):
    maps, vertices, binding, rest, rotation = scene(2, blendmaps=0)
    turned = rotation if axes == "head" else None
    with torch.no_grad():
        ours, theirs = pose_gaussians(maps, vertices, binding, rest, turned), definition(maps, vertices, binding, rest, turned)
    assert not ours.means.requires_grad
    for ours_field, theirs_field in zip(fields(ours), fields(theirs), strict=True):
        torch.testing.assert_close(ours_field.double(), theirs_field, rtol=3e-4, atol=3e-4)  # as above
    pose_gaussians(maps, vertices, binding, rest, turned).means.sum().backward()
    assert maps.blendmaps.grad.shape == maps.blendmaps.shape
    assert maps.rectification.grad[:, CHANNELS["position"]].abs().min() > 0
    assert maps.rectification.grad[:, CHANNELS["color"]].abs().max() == 0


def test_only_what_trains_gets_a_gradient():
    maps, vertices, binding, rest, _ = scene(2)
    frozen = replace(maps, base=maps.base.detach(), weights=maps.weights.detach(), blendmaps=maps.blendmaps.detach())
    alone = torch.autograd.grad(pose_gaussians(frozen, vertices.detach(), binding, rest).scales.sum(), maps.rectification)[0]
    together = torch.autograd.grad(pose_gaussians(maps, vertices, binding, rest).scales.sum(), maps.rectification)[0]
    assert torch.equal(alone, together)
    assert torch.autograd.grad(pose_gaussians(frozen, vertices, binding, rest).means.sum(), vertices)[0].abs().max() > 0


def test_threads_do_not_change_a_bit():
    results = []
    for threads in (1, 2, 5, 1):
        torch.set_num_threads(threads)
        maps, vertices, binding, rest, _ = scene(3)
        gaussians = pose_gaussians(maps, vertices, binding, rest)
        results.append([*fields(gaussians), *gradients(gaussians, maps, vertices).values()])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_one_pose_without_a_batch_axis():
    maps, vertices, binding, rest, rotation = scene(1)
    batched = pose_gaussians(maps, vertices, binding, rest, rotation)
    single = pose_gaussians(replace(maps, weights=maps.weights[0]), vertices[0], binding, rest, rotation[0])
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(single, name), getattr(batched, name)[0])


def test_rotations_that_train_take_the_definition():
    maps, vertices, binding, rest, rotation = scene(2)
    rotation = rotation.clone().requires_grad_()
    gaussians = pose_gaussians(maps, vertices, binding, rest, rotation)
    assert torch.autograd.grad(gaussians.means.square().sum(), rotation)[0].abs().max() > 0


def test_not_a_number_stays_visible():
    """A trainer finds divergence by values that are not finite."""
    maps, vertices, binding, rest, _ = scene(1, blendmaps=0)
    spoilt = maps.rectification.detach().clone()
    for channel in range(13):
        spoilt[channel, channel] = torch.nan
    gaussians = pose_gaussians(replace(maps, rectification=spoilt), vertices, binding, rest)
    values = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[..., None], gaussians.sh)
    found = torch.cat([value.flatten(2) for value in values], -1)
    assert found[0, :13].isnan().any(-1).all()
    assert found[0, 13:].isfinite().all()


def test_extreme_logits_and_scales_are_those_of_torch():
    maps, vertices, binding, rest, _ = scene(1, blendmaps=0)
    values = torch.linspace(-80, 80, len(binding.layout))
    extreme = maps.rectification.detach().clone()
    extreme[:, CHANNELS["opacity_logit"]] = values[:, None]
    extreme[:, CHANNELS["log_scale"]] = values[:, None]
    maps = replace(maps, rectification=extreme, gains=torch.ones(13))
    ours, theirs = pose_gaussians(maps, vertices, binding, rest), definition(maps, vertices, binding, rest, None)
    # the argument of 80 itself is good to 4e-6 in float32; the stretch to 1e-4 as above
    torch.testing.assert_close(ours.scales.double(), theirs.scales, rtol=3e-4, atol=0)
    torch.testing.assert_close(ours.opacities.double(), theirs.opacities, rtol=1e-4, atol=0)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", ["base", "gains", "rectification", "weights", "blendmaps", "vertices", "rest_stretch", "axes"])
def test_what_does_not_fit_is_refused_by_name(name):
    maps, vertices, binding, rest, rotation = scene(2)
    arguments = {"vertices": vertices, "rest_stretch": rest, "axes": rotation}
    if name in arguments:
        arguments[name] = arguments[name][1:]
    else:
        maps = replace(maps, **{name: getattr(maps, name)[1:]})
    with pytest.raises(ValueError, match=r"has shape .*; expected"):
        pose_gaussians(maps, arguments["vertices"], binding, arguments["rest_stretch"], arguments["axes"])


def test_another_resampling_than_the_carriers_is_refused():
    maps, vertices, binding, rest, _ = scene(1)
    with pytest.raises(ValueError, match=r"maps\.upsample"):
        pose_gaussians(replace(maps, upsample=None), vertices, binding, rest)


def test_without_the_library_torch_carries_and_says_so(monkeypatch):
    maps, vertices, binding, rest, _ = scene(1)
    natively = pose_gaussians(maps, vertices, binding, rest)

    def broken():
        raise native.NativeError("no compiler")

    monkeypatch.setattr(native.library, "load", broken)
    native.available.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no compiler"):
            plainly = pose_gaussians(maps, vertices, binding, rest)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pose_gaussians(maps, vertices, binding, rest)
    finally:
        native.available.cache_clear()
    torch.testing.assert_close(plainly.means, natively.means, rtol=0, atol=1e-5)  # a few roundings at 1 m


def test_tables_follow_the_surface_to_another_device():
    binding = scene(1)[2].to("meta")
    assert {table.device.type for table in (binding.faces, binding.layout.corners, *binding.tables.values())} == {"meta"}
