"""The fused pose of Gaussians against its definition in plain torch (`attach`, `to_gaussians`), in values and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deja_vu.core.gaussians import Gaussians, UVGaussianMap
from deja_vu.uv.attach import attach, to_gaussians
from deja_vu.uv.binding import SummedMap, SurfaceBinding, _pose_by_kernel
from tests.uv.test_binding import TERMS, fields, scene

# float32 edges of triangles about 1 m from the origin are good to 1e-4, as in the native pass; in double nothing but rounding is left.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 3e-4}


@pytest.fixture(autouse=True)
def _large_blocks(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    """Triton's interpreter takes its time for every program."""
    if device.type == "cpu":
        pose = pytest.importorskip("deja_vu.kernels.pose")
        monkeypatch.setattr(pose, "BLOCK", 4096)


def cast(part: object, target: torch.dtype | torch.device) -> object:
    """A dataclass of tensors in another precision, or elsewhere; indices keep their type."""
    changed = {name: value.to(target) for name, value in vars(part).items() if isinstance(value, torch.Tensor) and moves(value, target)}
    return replace(part, **changed)


def moves(value: torch.Tensor, target: torch.dtype | torch.device) -> bool:
    return value.is_floating_point() or isinstance(target, torch.device)


@pytest.mark.parametrize(
    ("poses", "axes", "coarse", "blendmaps"),
    [(2, "tangent", True, 3), (1, "head", False, 3), (2, "head", True, 0), (1, "tangent", False, 0)],
)
def test_the_fused_pose_is_that_of_plain_torch(
    poses: int, axes: str, coarse: bool, blendmaps: int, dtype: torch.dtype, device: torch.device
) -> None:
    maps, vertices, binding, rest, rotation = scene(poses, blendmaps=blendmaps, coarse=coarse)

    def pose(draw, dtype: torch.dtype) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """Fields and gradients."""
        given = {name: getattr(maps, name).detach().to(device, dtype).requires_grad_() for name in TERMS}
        upsample = None if maps.upsample is None else replicate(maps.upsample, dtype, device)
        terms = SummedMap(**given, gains=maps.gains.to(device, dtype), upsample=upsample)
        surface = vertices.detach().to(device, dtype).requires_grad_()
        tables = {name: table.to(dtype) if table.is_floating_point() else table for name, table in binding.tables.items()}
        bound = replace(binding, layout=cast(binding.layout, dtype), tables=tables, upsample=upsample).to(device)
        gaussians = draw(terms, surface, bound, rest.to(device, dtype), rotation.to(device, dtype) if axes == "head" else None)
        values, leaves = fields(gaussians), {**given, "vertices": surface}
        generator = torch.Generator().manual_seed(7)
        weights = [torch.randn(value.shape, generator=generator, dtype=torch.float64).to(device, dtype) for value in values]
        slopes = torch.autograd.grad(values, list(leaves.values()), weights, allow_unused=not blendmaps)
        return values, {name: slope for name, slope in zip(leaves, slopes, strict=True) if slope is not None}

    (found, slopes), (expected, wanted) = pose(_pose_by_kernel, dtype), pose(define, torch.float64)
    for value, want in zip(found, expected, strict=True):
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert slopes.keys() == wanted.keys() >= {"base", "rectification", "vertices"}
    for name, want in wanted.items():
        assert (slopes[name] - want).abs().max() <= TOLERANCE[dtype] * want.abs().max(), name


def replicate(upsample: torch.nn.Module, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """The same resampling in another precision."""
    copied = upsample.part(torch.arange(len(upsample.index)), torch.arange(int(upsample.index.max()) + 1))
    return copied.to(device, dtype)


def define(maps: SummedMap, vertices: torch.Tensor, binding: SurfaceBinding, rest: torch.Tensor, axes: torch.Tensor | None) -> Gaussians:
    surface = attach(vertices, binding.faces, binding.layout)
    if axes is not None:
        surface = replace(surface, frames=axes[..., None, :, :].expand_as(surface.frames))
    return to_gaussians(UVGaussianMap.unpack(maps.sum()), surface, rest)


def test_what_takes_no_gradient_gets_none(device: torch.device) -> None:
    maps, vertices, binding, rest, _ = scene(1, blendmaps=2)
    moved = {name: getattr(maps, name).detach().to(device) for name in (*TERMS, "gains")}
    maps = SummedMap(**moved, upsample=maps.upsample)
    maps.rectification.requires_grad_()
    gaussians = _pose_by_kernel(maps, vertices.detach().to(device), binding.to(device), rest.to(device), None)
    gaussians.means.sum().backward()
    assert maps.rectification.grad.abs().sum() > 0
    with torch.no_grad():
        assert not _pose_by_kernel(maps, vertices.to(device), binding.to(device), rest.to(device), None).means.requires_grad
