from __future__ import annotations

import pytest
import torch

from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians


def _scene(count: int, batch: int = 1, coefficients: int = 1, width: int = 48, height: int = 40, seed: int = 0, spread: float = 1.0):
    """A cloud of Gaussians that covers the picture several layers deep, a turned camera and backgrounds; float64, batched."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    gaussians = Gaussians(
        means=normal(batch, count, 3) * spread * torch.tensor([0.25, 0.2, 0.2], dtype=torch.float64),
        quats=normal(batch, count, 4),
        scales=torch.exp(0.7 * normal(batch, count, 3) - 3.2),
        opacities=torch.sigmoid(2 * normal(batch, count) + 1),
        sh=0.4 * normal(batch, count, coefficients, 3),
    )
    camera = Camera.from_focal(1.3 * width, width, height).to(torch.float64)
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0.2], [0.1, 0, -0.05], [-0.2, 0.05, 0]], dtype=torch.float64))
    camera.camera_from_world[:3, :3] = turn
    camera.camera_from_world[:3, 3] = torch.tensor([0.02, -0.03, 1.0])
    camera.intrinsics[:2, 2] += torch.tensor([0.7, -1.3])
    views = Camera(camera.camera_from_world.expand(batch, 4, 4).clone(), camera.intrinsics, width, height)
    return gaussians, views, torch.rand(batch, 3, generator=generator, dtype=torch.float64)


@pytest.fixture
def make_scene():
    return _scene


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test begins with one."""
