from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import sph_harm_y

from deja_vu.core.camera import Camera
from deja_vu.core.conventions import SH_C0
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import rasterize
from deja_vu.render.sh import sh_basis


def pixel_by_pixel(gaussians: Gaussians, camera: Camera, background: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The published algorithm for one image, loop by loop in numpy."""
    means, quats, scales, opacities, sh = (getattr(gaussians, name)[0].numpy() for name in vars(gaussians))
    pose, intrinsics = camera.camera_from_world[0].numpy(), camera.intrinsics.numpy()
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    splats = []
    for i in range(len(means)):
        x, y, z = pose[:3, :3] @ means[i] + pose[:3, 3]
        if z < 0.01:
            continue
        w, a, b, c = quats[i] / np.linalg.norm(quats[i])
        cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
        turn = np.eye(3) + 2 * w * cross + 2 * cross @ cross
        covariance = turn @ np.diag(scales[i] ** 2) @ turn.T
        margin_x, margin_y = 0.15 * camera.width / fx, 0.15 * camera.height / fy
        tx = np.clip(x / z, -cx / fx - margin_x, (camera.width - cx) / fx + margin_x)
        ty = np.clip(y / z, -cy / fy - margin_y, (camera.height - cy) / fy + margin_y)
        jacobian = np.array([[fx / z, 0, -fx * tx / z], [0, fy / z, -fy * ty / z]]) @ pose[:3, :3]
        inverse = np.linalg.inv(jacobian @ covariance @ jacobian.T + 0.3 * np.eye(2))
        color = np.maximum(0, 0.5 + SH_C0 * sh[i, 0])
        splats.append((z, np.array([fx * x / z + cx, fy * y / z + cy]), inverse, opacities[i], color))
    splats.sort(key=lambda splat: splat[0])
    rgb, alpha, depth = (np.zeros((camera.height, camera.width, n)) for n in (3, 1, 1))
    for row in range(camera.height):
        for column in range(camera.width):
            through = 1.0
            for z, center, inverse, opacity, color in splats:
                offset = np.array([column + 0.5, row + 0.5]) - center
                strength = min(0.999, opacity * math.exp(-0.5 * offset @ inverse @ offset))
                if strength < 1 / 255:
                    continue
                if through * (1 - strength) <= 1e-4:
                    break
                rgb[row, column] += through * strength * color
                depth[row, column] += through * strength * z
                through *= 1 - strength
            rgb[row, column] += through * background
            alpha[row, column] = 1 - through
    return rgb, alpha, depth / np.maximum(alpha, 1e-10)


def test_equals_the_published_loop(make_scene):
    gaussians, camera, background = make_scene(120, width=19, height=14, spread=0.5)
    output = rasterize(gaussians, camera, background, "reference")
    rgb, alpha, depth = pixel_by_pixel(gaussians, camera, background[0].numpy())
    assert (alpha > 1 - 1e-3).any(), "the scene must hold pixels that stop early"
    for value, expected in ((output.rgb, rgb), (output.alpha, alpha), (output.depth, depth)):
        np.testing.assert_allclose(value[0].numpy(), expected, atol=1e-12)


def test_gradients_by_finite_differences(make_scene):
    # Few and weak Gaussians seen whole: no pixel lies near one of the thresholds, where the picture jumps.
    gaussians, camera, background = make_scene(4, coefficients=4, width=6, height=5, seed=3)
    gaussians = Gaussians(**(vars(gaussians) | {"opacities": gaussians.opacities * 0.5, "scales": gaussians.scales + 0.3}))
    leaves = [getattr(gaussians, name).requires_grad_() for name in vars(gaussians)]

    def picture(*inputs: torch.Tensor) -> torch.Tensor:
        view = Camera(inputs[5], camera.intrinsics, camera.width, camera.height)
        output = rasterize(Gaussians(*inputs[:5]), view, inputs[6], "reference")
        return torch.cat([output.rgb, output.alpha, output.depth], dim=-1)

    assert torch.autograd.gradcheck(picture, (*leaves, camera.camera_from_world.requires_grad_(), background.requires_grad_()), atol=1e-6)


def test_basis_equals_scipy():
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1)
    x, y, z = directions.T.numpy()
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    expected = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            # scipy's functions carry the Condon-Shortley phase, and so do those of 3D Gaussian Splatting.
            complex_value = sph_harm_y(degree, abs(order), polar, azimuth)
            part = complex_value.imag if order < 0 else complex_value.real
            expected.append(part * (1 if order == 0 else math.sqrt(2)))
    np.testing.assert_allclose(sh_basis(directions, 16).numpy(), np.stack(expected, axis=-1), atol=1e-12)


def test_expected_depth_of_a_wall():
    """A wide opaque Gaussian at two meters has its depth wherever it covers the picture."""
    mean, quat, scale = torch.tensor([[0.0, 0, 2]]), torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[9.0, 9, 0.01]])
    wall = Gaussians(mean, quat, scale, torch.tensor([0.9]), torch.zeros(1, 1, 3))
    output = rasterize(wall, Camera.from_focal(40.0, 16, 16), torch.ones(3), "reference")
    torch.testing.assert_close(output.depth, torch.full((16, 16, 1), 2.0))
    torch.testing.assert_close(output.rgb, torch.full((16, 16, 3), 0.9 * 0.5 + 0.1), atol=1e-3, rtol=0)  # falloff at the corners
