"""A part of a Gaussian avatar (around lips, an eye, a brow) that poses in a fraction of the time of the whole."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.heads.base import HeadData, SurfacePoints
from deja_vu.uv.binding import SummedMap, bind_texels, pose_gaussians
from deja_vu.uv.layout import TexelTable

MARGIN = 0.5
"""Share of a part's width and height by which what moves with it reaches beyond it on every side."""


class AvatarPart:
    """The Gaussians near some vertices of the head, as a snapshot of an avatar that is not trained meanwhile."""

    def __init__(self, avatar: GaussianAvatar, vertices: Int[Tensor, " n"], margin: float = MARGIN, behind: float = 0.0) -> None:
        """Find and bind the texels.

        Args:
            avatar: in tangent axes.
            vertices: of its head, around which they lie.
            margin: see `find_texels`.
            behind: see `find_texels`.
        """
        self._avatar = avatar
        texels = find_texels(avatar, vertices, margin, behind)
        whole, layout = avatar.charts.binding, avatar.charts.head
        faces = avatar.head.topology.faces
        corners = torch.zeros(len(avatar.head.template), dtype=torch.bool)
        corners[layout.corners[texels].unique()] = True
        kept = corners[faces].any(1)  # one ring around, so that the corners' normals are those of the whole surface
        used = torch.cat([faces[kept].flatten(), vertices]).unique()
        renumbered = torch.zeros(len(corners), dtype=torch.long)
        renumbered[used] = torch.arange(len(used))
        self.places = renumbered
        """Where each of the head's vertices stands among the part's own; of any use for the part's only."""
        place = kept.cumsum(0) - 1
        table = TexelTable(
            faces=place[layout.faces[texels]],
            corners=renumbered[layout.corners[texels]],
            bary=layout.bary[texels],
            uv_gradient=layout.uv_gradient[texels],
        )
        data = HeadData(**{name: getattr(avatar.head, name) for name in HeadData.__dataclass_fields__})
        self._points = SurfacePoints(avatar.head.spec, data).select(used)
        upsample, coarse = None, texels
        if whole.upsample is not None:
            coarse = whole.upsample.index[texels].unique()
            upsample = whole.upsample.part(texels, coarse)
        self._binding = bind_texels(renumbered[faces[kept]], len(used), table, upsample, len(coarse))
        self._map = SummedMap(
            base=avatar.base[texels],
            gains=avatar.gains,
            rectification=avatar.rectification.detach()[texels],
            weights=avatar.base.new_zeros(len(avatar.blendmaps)),
            blendmaps=avatar.blendmaps.detach()[:, coarse].contiguous(),
            upsample=upsample,
        )
        self._rest_stretch = avatar.rest_stretch[texels]

    def __len__(self) -> int:
        """Gaussians."""
        return len(self._rest_stretch)

    @torch.no_grad()
    def vertices(self, params: HeadParams) -> Float[Tensor, "*b V 3"]:
        """Posed vertices of the part, meters."""
        return self._points(self._avatar.correct_params(params))

    @torch.no_grad()
    def gaussians(self, params: HeadParams, vertices: Float[Tensor, "*b V 3"] | None = None) -> Gaussians:
        """World-space Gaussians of every pose: the same as those texels have in the whole avatar.

        Args:
            params: poses.
            vertices: what `vertices` says of them, where that is known.
        """
        avatar, batch = self._avatar, params.expression.shape[:-1]
        weights = avatar.code(params) if avatar.config.blendmaps else avatar.base.new_zeros(*batch, 0)
        vertices = self.vertices(params) if vertices is None else vertices
        return pose_gaussians(replace(self._map, weights=weights), vertices, self._binding, self._rest_stretch)


def find_texels(avatar: GaussianAvatar, vertices: Int[Tensor, " n"], margin: float = MARGIN, behind: float = 0.0) -> Int[Tensor, " m"]:
    """The head's texels that lie in front of, behind or beside some vertices, seen from the front; the back of the head is left out.

    Args:
        avatar: whose neutral face is looked at.
        vertices: of its head.
        margin: share of their width or height by which texels may lie beyond them.
        behind: how far behind the middle of the head's vertices texels may lie, meters.
    """
    points = avatar.rest_surface().points[0, : len(avatar.charts.head)]
    corners = avatar.head(replace(avatar.head.neutral((1,)), shape=avatar.shape[None]))[0]
    part = corners[vertices]
    low, high = part.amin(0), part.amax(0)
    reach = margin * (high - low)[:2].amax()
    near = ((points[:, :2] > low[:2] - reach) & (points[:, :2] < high[:2] + reach)).all(1)
    return (near & (points[:, 2] > corners[:, 2].mean() - behind)).nonzero()[:, 0]
