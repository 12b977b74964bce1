"""Tri-planes: learned for one person, or computed from source pictures by an encoder."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from deja_vu.avatars.nerf.config import NerfConfig
from deja_vu.avatars.nerf.front import project_front
from deja_vu.core.batch import Batch
from deja_vu.core.camera import Camera
from deja_vu.heads.base import HeadModel
from deja_vu.nets.style_unet import StyleUNet
from deja_vu.nets.triplane import PlaneAttention
from deja_vu.render.volume import world_from_scene

ONE_SOURCE = 0.3
"""Share of training steps that see the first source alone, past the attention."""
DECAYED = ("style.", "code.")
"""Parts of a style network that the published recipe trains ten times slower."""


class FreePlanes(nn.Module):
    """One person's planes, learned as they are."""

    def __init__(self, config: NerfConfig) -> None:
        super().__init__()
        self.values = nn.Parameter(0.1 * torch.randn(3, config.plane_channels, config.plane_size, config.plane_size))

    def forward(self) -> Float[Tensor, "3 C s s"]:
        return self.values


BEGINNING = 0.05
"""Share of the encoder's usual output with which it begins where a picture is laid on a plane, and may be corrected."""
DARKEST = 0.02
"""Least and, from one, largest color of a picture that is laid on a plane, where colors are logits."""


class EncodedPlanes(nn.Module):
    """Planes that the encoder makes of source pictures, mixed by attention; computed once where nothing is trained."""

    sources: Tensor

    def __init__(self, config: NerfConfig) -> None:
        super().__init__()
        self.channels, self.picture = config.plane_channels, config.picture
        self.encoder = StyleUNet(config.encoder_size, config.plane_size, 3, 3 * config.plane_channels, config.encoder_width)
        if config.picture:
            self.encoder.scale_output(BEGINNING)
        self.attention = PlaneAttention(config.plane_channels, config.plane_size)
        self.register_buffer("sources", torch.zeros(config.sources, *[config.encoder_size] * 2, 3, dtype=torch.uint8))
        """Source pictures on the head's frontal plane."""
        self._kept: Tensor | None = None

    def set_sources(self, pictures: Float[Tensor, "N s s 3"]) -> None:
        """Choose the pictures that the planes come from, as `NerfAvatar.read_photos` makes them."""
        assert pictures.shape[1:] == self.sources.shape[1:], pictures.shape
        self.sources = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
        self._kept = None

    def train(self, mode: bool = True) -> EncodedPlanes:
        self._kept = None
        return super().train(mode)

    def forward(self) -> Float[Tensor, "3 C s s"]:
        if self._kept is not None and not torch.is_grad_enabled():
            return self._kept
        alone = self.training and float(torch.rand(())) < ONE_SOURCE
        sources = self.sources[:1] if alone else self.sources
        seen = sources.movedim(-1, 1).to(self.attention.query.dtype) / 256
        encoded = self.encoder(seen).unflatten(1, (3, self.channels))[None]
        planes = self.attention(encoded)[0]
        if self.picture:
            planes = self._lay_picture(planes, seen, encoded)
        self._kept = None if self.training or torch.is_grad_enabled() else planes
        return planes

    def _lay_picture(
        self, planes: Float[Tensor, "3 C s s"], seen: Float[Tensor, "N 3 e e"], encoded: Float[Tensor, "1 N 3 C s s"]
    ) -> Float[Tensor, "3 C e e"]:
        """Enlarge planes and add the pictures' colors, as logits, to the first three channels of XY, mixed as that plane is."""
        colors = seen.clamp(DARKEST, 1 - DARKEST).logit()
        if len(seen) > 1:
            weights = interpolate(self.attention.weigh(encoded)[0, :, :1], seen.shape[-2:], mode="bilinear", align_corners=False)
            colors = (colors * weights).sum(0, keepdim=True)
        large = interpolate(planes, seen.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([torch.cat([large[:1, :3] + colors, large[:1, 3:]], 1), large[1:]])


@torch.no_grad()
def frontal_pictures(photos: Batch, head: HeadModel, config: NerfConfig) -> Float[Tensor, "N s s 3"]:
    """What each of N photos shows of its head from the front, before black: source pictures as an encoder takes them.

    Args:
        photos: of one person or of several, on the host.
        head: their head model, on the host.
        config: says of what: the head's frontal plane, or the front of its expressionless surface.
    """
    size = config.encoder_size
    photos = photos.resize(size, size) if photos.image.shape[2] > size else photos
    if config.rectify == "surface":
        return torch.stack([project_front(photos.frame(place), head, size) for place in range(len(photos.positions))])
    heads, poses = photos.image * photos.head, photos.params.world_from_head
    return torch.stack(
        [project_frontal(head, photos.camera.view(place), world_from_scene(poses[place]), size) for place, head in enumerate(heads)]
    )


def project_frontal(
    image: Float[Tensor, "H W 3"], camera: Camera, world_from_scene: Float[Tensor, "4 4"], size: int
) -> Float[Tensor, "s s 3"]:
    """Sample a picture over the square [-1, 1] of the head's frontal plane (z = 0); columns are x and rows y, both rising.

    Args:
        image: of a head before black.
        camera: that took it.
        world_from_scene: the head's pose and the scene's scale.
        size: side of the result in pixels.
    """
    at = (torch.arange(size, dtype=image.dtype, device=image.device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    points = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
    pixels, _ = camera.project(points @ world_from_scene[:3, :3].T + world_from_scene[:3, 3])
    grid = pixels / pixels.new_tensor([camera.width, camera.height]) * 2 - 1
    read = grid_sample(image.movedim(-1, 0)[None], grid.view(1, size, size, 2), padding_mode="zeros", align_corners=False)
    return read[0].movedim(0, -1)


def split_speeds(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters of a module: those of usual speed, and those of style networks that learn slowly."""

    def slow_prefixes() -> Iterator[str]:
        for prefix, part in module.named_modules():
            if isinstance(part, StyleUNet):
                yield from (f"{prefix}.{name}" if prefix else name for name in DECAYED)

    prefixes = tuple(slow_prefixes())
    named = [(name, parameter) for name, parameter in module.named_parameters() if name != "attention.scale"]
    held = [parameter for name, parameter in named if name.startswith(prefixes)] if prefixes else []
    return [parameter for name, parameter in named if not (prefixes and name.startswith(prefixes))], held
