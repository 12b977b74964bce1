"""What gsplat says of itself without a GPU: its PyTorch twins of its kernels are the oracle for ours, its signature for the adapter."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import rasterize
from deja_vu.render.gsplat import call_arguments
from deja_vu.render.reference import ALPHA_MAX, ALPHA_MIN, BLUR, NEAR, OPAQUE, project

gsplat = pytest.importorskip("gsplat", reason="needs gsplat: pip install '.[cuda]' in the source folder")


def twin(gaussians: Gaussians, camera: Camera) -> dict[str, torch.Tensor]:
    """One image by gsplat's own formulas, nearest first."""
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics

    covariances, _ = _quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, compute_preci=False)
    _, centers, depths, conics, _ = _fully_fused_projection(
        gaussians.means, covariances, camera.camera_from_world[None], camera.intrinsics[None], camera.width, camera.height, BLUR, NEAR
    )
    degree = round(gaussians.sh.shape[-2] ** 0.5) - 1
    directions = gaussians.means - torch.inverse(camera.camera_from_world)[:3, 3]
    colors = (_spherical_harmonics(degree, directions, gaussians.sh) + 0.5).clamp_min(0)
    order = depths[0].argsort()
    return {"centers": centers[0][order], "conics": conics[0][order], "depths": depths[0][order], "colors": colors[order]}


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_projection_and_colors_are_gsplats_own_in_values_and_gradients(coefficients: int, make_scene) -> None:
    batch, view, _ = make_scene(80, coefficients=coefficients, width=61, height=37)
    leaves = {name: getattr(batch, name)[0].clone().requires_grad_() for name in ("means", "quats", "scales", "sh")}
    leaves["camera"] = view.camera_from_world[0].clone().requires_grad_()
    # Opaque ones: gsplat drops the faint when it rasterizes, ours when it projects.
    gaussians = Gaussians(leaves["means"], leaves["quats"], leaves["scales"], torch.ones(80, dtype=torch.float64), leaves["sh"])
    camera = Camera(leaves["camera"], view.intrinsics, view.width, view.height)
    ours, theirs = project(gaussians, camera), twin(gaussians, camera)
    outputs = [[getattr(ours, name) for name in theirs], list(theirs.values())]
    for name, found, expected in zip(theirs, *outputs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=name)
    weights = [torch.randn_like(value) for value in theirs.values()]
    found, expected = (torch.autograd.grad(values, list(leaves.values()), weights) for values in outputs)
    for name, value, wanted in zip(leaves, found, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-7, atol=1e-7 * float(wanted.abs().max()), msg=name)


def composite(seen: dict[str, torch.Tensor], opacities: torch.Tensor, camera: Camera, background: torch.Tensor) -> list[torch.Tensor]:
    """Color, coverage and depth of one image, pixel by pixel, one Gaussian after the other.

    Each takes its opacity times exp(-d' Q d / 2) of the light that is left, at most 0.999 of it, none below 1/255; a pixel is full
    when a ten-thousandth is left.
    """
    centers = [torch.arange(side, dtype=torch.float64) + 0.5 for side in (camera.height, camera.width)]
    rows, columns = torch.meshgrid(*centers, indexing="ij")
    left = torch.ones(camera.height, camera.width, dtype=torch.float64)
    open_ = left > 0
    rgb, depth = left.new_zeros(camera.height, camera.width, 3), torch.zeros_like(left)
    for center, (xx, xy, yy), distance, color, opacity in zip(*seen.values(), opacities, strict=True):
        x, y = columns - center[0], rows - center[1]
        alpha = (opacity * (-(xx * x * x + yy * y * y) / 2 - xy * x * y).exp()).clamp_max(0.999)
        alpha = torch.where(alpha >= 1 / 255, alpha, 0)
        open_ = open_ & ((left * (1 - alpha)).detach() > 1e-4)
        alpha = torch.where(open_, alpha, 0)
        rgb, depth = rgb + (left * alpha)[..., None] * color, depth + left * alpha * distance
        left = left * (1 - alpha)
    coverage = 1 - left
    return [rgb + left[..., None] * background, coverage[..., None], (depth / coverage.clamp_min(1e-10))[..., None]]


# Rounding of float32: of positions in pixels (1e-6), and of a sum over some hundred terms.
PRECISE, ROUNDED = (1e-9, 1e-7), (1e-5, 1e-4)


@pytest.mark.parametrize(("backend", "dtype", "tolerances"), [("reference", torch.float64, PRECISE), ("cpu", torch.float32, ROUNDED)])
@pytest.mark.parametrize(
    ("coefficients", "scene"),
    [(1, {"count": 90}), (9, {"count": 60}), (16, {"count": 60}), (1, {"count": 250, "spread": 0.4})],  # the last fills pixels
)
def test_pictures_are_gsplats_formulas_in_values_and_gradients(
    backend: str, dtype: torch.dtype, tolerances: tuple[float, float], coefficients: int, scene, make_scene
) -> None:
    """Projection and colors by gsplat's PyTorch twins of its kernels; compositing, whose twin wants CUDA, written out above."""
    batch, view, backgrounds = make_scene(**scene, coefficients=coefficients, width=23, height=17)
    leaves = {name: getattr(batch, name)[0] for name in ("means", "quats", "scales", "opacities", "sh")}
    leaves |= {"camera": view.camera_from_world[0], "background": backgrounds[0]}

    def draw(backend: str, dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Pictures, and their gradients by every leaf."""
        of = {name: leaf.to(dtype, copy=True).requires_grad_() for name, leaf in leaves.items()}
        gaussians = Gaussians(of["means"], of["quats"], of["scales"], of["opacities"], of["sh"])
        camera = Camera(of["camera"], view.intrinsics.to(dtype), view.width, view.height)
        if backend == "gsplat":
            order = (gaussians.means @ camera.camera_from_world[2, :3]).argsort()
            pictures = composite(twin(gaussians, camera), gaussians.opacities[order], camera, of["background"])
        else:
            drawn = rasterize(gaussians, camera, of["background"], backend)
            pictures = [drawn.rgb, drawn.alpha, drawn.depth]
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(picture.shape, generator=generator, dtype=torch.float64).to(dtype) for picture in pictures]
        gradients = torch.autograd.grad(pictures, list(of.values()), weights)
        return [picture.detach().double() for picture in pictures], [gradient.double() for gradient in gradients]

    found, expected = draw(backend, dtype), draw("gsplat", torch.float64)
    for values, wanted, tolerance in zip(found, expected, tolerances, strict=True):
        for number, (value, want) in enumerate(zip(values, wanted, strict=True)):
            error = float((value - want).norm() / want.norm())
            assert error < tolerance, (number, error)


def test_the_references_limits_are_those_of_gsplats_kernels() -> None:
    """They stand in the source of the kernels alone."""
    cuda = Path(gsplat.__file__).parent / "cuda"
    kernel, header = (cuda / "csrc" / "RasterizeToPixels3DGSFwd.cu").read_text(), (cuda / "include" / "Common.h").read_text()
    assert "#define ALPHA_THRESHOLD (1.f / 255.f)" in header
    assert "alpha < ALPHA_THRESHOLD" in kernel
    assert f"min({ALPHA_MAX}f, " in kernel
    assert "next_T <= 1e-4" in kernel
    assert (ALPHA_MIN, OPAQUE) == (1 / 255, 1e-4)


@pytest.mark.parametrize("coefficients", [1, 9])
@pytest.mark.parametrize("depth", [True, False])
def test_the_adapter_calls_gsplat_as_its_signature_says(coefficients: int, depth: bool, make_scene) -> None:
    gaussians, camera, background = make_scene(5, batch=3, coefficients=coefficients)
    camera = Camera(camera.camera_from_world, camera.intrinsics.expand(3, 3, 3), camera.width, camera.height)
    arguments = call_arguments(gaussians, camera, background, depth=depth)
    bound = inspect.signature(gsplat.rasterization).bind(**arguments)
    bound.apply_defaults()
    given = bound.arguments
    assert given["viewmats"].shape == (3, 1, 4, 4)
    assert given["Ks"].shape == (3, 1, 3, 3)
    assert given["backgrounds"].shape == (3, 1, 3)
    assert (given["rasterize_mode"], given["camera_model"], given["packed"], given["absgrad"]) == ("classic", "pinhole", False, False)
    assert given["render_mode"] == ("RGB+ED" if depth else "RGB")
    if coefficients == 1:
        assert given["sh_degree"] is None
        torch.testing.assert_close(given["colors"], (0.5 + SH_C0 * gaussians.sh[..., 0, :]).clamp_min(0))
    else:
        assert given["sh_degree"] == 2
        assert given["colors"].shape == (3, 5, 9, 3)


def test_the_adapters_constants_are_gsplats_defaults() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(gsplat.rasterization).parameters.items()}
    assert (defaults["near_plane"], defaults["eps2d"], defaults["radius_clip"]) == (NEAR, BLUR, 0.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels may be there already")
def test_kernels_that_cannot_be_compiled_are_told_with_what_to_install(tmp_path: Path) -> None:
    """In a process that finds no nvcc, wherever this machine has one."""
    asked = "from deja_vu.render.gsplat import load\ntry:\n    load()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    blind = os.environ | {"CUDA_HOME": str(tmp_path), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=blind, cwd=Path(__file__).parents[2]
    )
    said = done.stdout.strip().splitlines()[-1]
    assert said.startswith("MissingAssetError gsplat is installed, but its CUDA kernels are not compiled and there is no nvcc")
    assert said.endswith("or use --device cpu.")
    assert len(said) < 500
