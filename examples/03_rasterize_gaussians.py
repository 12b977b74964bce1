"""Draw your own 3D Gaussians and let gradients move them, without any head.

    python examples/03_rasterize_gaussians.py

A spring of 400 soft colored blobs is drawn; then its colors learn a picture that is all orange. Writes gaussians.png: before and after.
"""

import math

import torch
from PIL import Image

from deja_vu import Camera, Gaussians, rasterize
from deja_vu.core.gaussians import rgb_to_sh
from deja_vu.core.image import RenderOutput, to_uint8

turn = torch.linspace(0, 6 * math.pi, 400)
means = torch.stack([0.1 * turn.cos(), 0.012 * (turn - 3 * math.pi), 0.1 * turn.sin()], -1)  # meters
rainbow = 0.5 + 0.5 * torch.stack([(turn / 3).sin(), (turn / 3 + 2).sin(), (turn / 3 + 4).sin()], -1)
color = rgb_to_sh(rainbow).requires_grad_()
camera = Camera.look_at((0.0, 0.15, 0.6), width=256, height=256)


def draw() -> RenderOutput:
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(400, 4)  # w x y z: not turned
    blobs = Gaussians(means, quats, scales=torch.full((400, 3), 0.008), opacities=torch.full((400,), 0.9), sh=color[:, None])
    return rasterize(blobs, camera, background=torch.ones(3))


before = draw()
target = (torch.tensor([1.0, 0.5, 0.1]) * before.alpha + 1 - before.alpha).detach()
adam = torch.optim.Adam([color], lr=0.1)
for _ in range(60):
    adam.zero_grad()
    (draw().rgb - target).square().mean().backward()
    adam.step()
Image.fromarray(to_uint8(torch.cat([before.rgb, draw().rgb], dim=1).detach())).save("gaussians.png")
print("written: gaussians.png")
