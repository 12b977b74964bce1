"""The surface of an avatar's Gaussians: the texels of the head's chart and then of the bust's, as one list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.avatars.gaussian.neck import beyond_neck
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BustModel
from deja_vu.heads.regions import dropped_faces
from deja_vu.uv.binding import Resample, SurfaceBinding, bind_texels
from deja_vu.uv.layout import UVLayout, build_layout


@dataclass(frozen=True)
class Charts:
    """Texels of head and bust, M in all, and of their blendmaps."""

    head: UVLayout
    head_blend: UVLayout
    bust: UVLayout | None
    """None where the avatar is a head."""
    bust_blend: UVLayout | None
    binding: SurfaceBinding
    """Of both surfaces, the bust's vertices, faces and texels behind the head's."""

    def __len__(self) -> int:
        return len(self.binding.layout)

    @property
    def blend_count(self) -> int:
        """Texels of the blendmaps."""
        return len(self.head_blend) + (0 if self.bust_blend is None else len(self.bust_blend))

    @property
    def parts(self) -> list[tuple[UVLayout, slice]]:
        """Every chart, and its texels among all."""
        count = len(self.head)
        return [(self.head, slice(0, count))] + ([] if self.bust is None else [(self.bust, slice(count, None))])

    @property
    def blend_parts(self) -> list[slice]:
        """Texels of every chart among all those of the blendmaps."""
        count = len(self.head_blend)
        return [slice(0, count)] + ([] if self.bust_blend is None else [slice(count, None)])

    def to(self, device: torch.device | str) -> Charts:
        """The same, for surfaces on another device."""
        bust, blend = (None if layout is None else layout.to(device) for layout in (self.bust, self.bust_blend))
        head, head_blend = self.head.to(device), self.head_blend.to(device)
        return Charts(head, head_blend, bust, blend, self.binding.to(device))

    @property
    def share(self) -> Float[Tensor, " M"]:
        """Weights that make of a sum over all texels the sum of the charts' means, so that the size of one changes no other's cost."""
        return self._share([len(layout) for layout, _ in self.parts])

    @property
    def blend_share(self) -> Float[Tensor, " m"]:
        """The same over the texels of the blendmaps."""
        return self._share([len(self.head_blend)] + ([] if self.bust_blend is None else [len(self.bust_blend)]))

    def _share(self, counts: list[int]) -> Tensor:
        return torch.cat([torch.full((count,), 1 / count, device=self.head.texels.device) for count in counts])


def lay_out(head: HeadModel, bust: BustModel | None, config: GaussianConfig) -> Charts:
    """Build the tables of an avatar's surface.

    Args:
        head: parametric head.
        bust: neck and torso; None for a head alone.
        config: sizes of the charts.
    """
    dropped = dropped_faces(head.topology)
    fine, coarse = (build_layout(head.topology, size, drop=dropped) for size in (config.uv_size, config.blend_size))
    upsample = None if config.blend_size == config.uv_size else Resample(coarse, fine)
    vertices, faces = len(head.template), head.topology.faces
    if bust is None:
        return Charts(fine, coarse, None, None, bind_texels(faces, vertices, fine, upsample, len(coarse)))
    left_out = beyond_neck(bust.topology) if config.bust_part == "neck" else None
    bust_fine, bust_coarse = (build_layout(bust.topology, size, left_out) for size in (config.bust_size, config.bust_blend_size))
    joined = fine.join(bust_fine, vertices, len(faces))
    both = Resample(coarse, fine).join(Resample(bust_coarse, bust_fine), len(coarse))
    all_faces = torch.cat([faces, bust.topology.faces + vertices])
    all_vertices = vertices + len(bust.template)
    binding = bind_texels(all_faces, all_vertices, joined, both, len(coarse) + len(bust_coarse))
    return Charts(fine, coarse, bust_fine, bust_coarse, binding)
