"""The bust below the default head: neck, shoulders and chest as a second surface that bends between the poses of torso and head.

Nothing of anny is needed to use it; `pipelines/bake/bust.py` made the file, which carries its provenance as metadata.

Surface      what the head's avatar leaves out of the head (region neck: nape and skin under the jaw), the rest of the neck, and the body
             down to 32 cm below the chin with hanging arms. The vertices on the rim of both surfaces (the seam) are the head's own.
Parameters   those of the head, and 12 components of the torso's own in standard deviations, which vanish at the seam.
Parts        torso, neck at 1/4, 1/2 and 3/4 of the way, head, jaw.
Regions      neck_front, nape, chest, shoulder, back, arm; every face is in one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.errors import FormatError
from deja_vu.core.head import HeadParams, HeadTopology
from deja_vu.heads import anny
from deja_vu.heads.base import HeadData, HeadModel, SkinnedModel
from deja_vu.heads.regions import dropped_faces
from deja_vu.heads.skinning import halve_motion, invert_motion
from deja_vu.io.arrays import read_asset

ASSET = "bust.safetensors"
FORMAT = "deja_vu.bust/1"
"""Kind and version of the file; readers accept no other."""
BUST_HEAD = "anny"
"""Head model that has a bust."""
PARTS = ("torso", "neck_1", "neck_2", "neck_3", "head", "jaw")
"""What skinning weights belong to, in their order."""


class BustModel(SkinnedModel):
    """Neck and torso below a head. The data are buffers that never enter a checkpoint."""

    own_basis: Tensor
    clothing: Tensor
    head_rows: Tensor

    def __init__(
        self,
        head: HeadModel,
        topology: HeadTopology,
        data: HeadData,
        own: Float[Tensor, "K V 3"],
        *,
        clothing: Float[Tensor, " V"],
        head_rows: Int[Tensor, " V"],
    ) -> None:
        """Join what belongs together.

        Args:
            head: model of the head above.
            topology: faces, chart and regions.
            data: of the bust's vertices; joints and their parents are the head's, skinning weights are by `PARTS`.
            own: displacement for one standard deviation of each of the torso's own components, meters.
            clothing: height of usual clothing above the skin, meters; 0 on the upper neck.
            head_rows: vertex of the head that each vertex is, -1 where it is none; kept for the seam alone, what the head's avatar shows.
        """
        super().__init__(head.spec, data)
        self.topology = topology
        shown = head.topology.faces[~dropped_faces(head.topology)].unique()
        self.register_buffer("head_rows", torch.where(torch.isin(head_rows, shown), head_rows, -1), persistent=False)
        self.register_buffer("own_basis", own, persistent=False)
        self.register_buffer("clothing", clothing, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BustModel:
        """The surface between the vertices follows them to another device."""
        super()._apply(fn, recurse)
        self.topology = self.topology.to(self.template.device)
        return self

    @property
    def num_own(self) -> int:
        """Components of the torso's own."""
        return self.own_basis.shape[0]

    def forward(self, params: HeadParams, own: Float[Tensor, "*b K"] | None = None) -> Float[Tensor, "*b V 3"]:
        """Points in world space, meters.

        Args:
            params: of the head; `torso` poses the torso.
            own: the torso's own components, standard deviations; the mean torso of such a head when None.
        """
        return self.pose(params, own)[0]

    def pose(
        self, params: HeadParams, own: Float[Tensor, "*b K"] | None = None
    ) -> tuple[Float[Tensor, "*b V 3"], Float[Tensor, "*b V 3 3"]]:
        """Points in world space, and the linear part that carries each point's rest displacements there."""
        return self.skin(self.rest(params, own), params)

    def rest(self, params: HeadParams, own: Float[Tensor, "*b K"] | None = None) -> Float[Tensor, "*b V 3"]:
        """Points in head space with identity and expression, before anything turns."""
        points = super().rest(params)
        return points if own is None else points + (own @ self.own_basis.flatten(1)).unflatten(-1, (-1, 3))

    def world_from_parts(self, params: HeadParams) -> Float[Tensor, "*b 6 4 4"]:
        """World-space motion of each of `PARTS` relative to rest.

        The neck's parts lie on the screw motion from the torso's pose to the head's: torso exp(s log(torso^-1 head)), s = 1/4, 1/2, 3/4.
        """
        moved = super().world_from_parts(params)
        names = self.spec.joint_names
        head, jaw = (moved[..., names.index(name) + 1, :, :] for name in ("neck", "jaw"))
        torso = params.world_from_torso
        half = halve_motion(invert_motion(torso) @ head)
        quarter = halve_motion(half)
        return torch.stack([torso, torso @ quarter, torso @ half, torso @ half @ quarter, head, jaw], -3)

    def straighten(self, params: HeadParams) -> HeadParams:
        """The same skull and torso with the head model's joint `neck` at rest, as a tracker describes them.

        Where that joint turns, the head model bends its own stump of a neck: only with it at rest does the seam move as the bust's.
        """
        neck = self.spec.joint_names.index("neck")
        skull = super().world_from_parts(params)[..., neck + 1, :, :]
        joints = params.joints.clone()
        joints[..., neck, :] = 0
        return replace(params, joints=joints, world_from_head=skull, torso=invert_motion(skull) @ params.world_from_torso)


def load_bust() -> BustModel:
    """The bust of the default head from the files inside the package.

    Raises:
        FormatError: a file is damaged or of another version.
    """
    with resources.as_file(resources.files("deja_vu.heads") / "assets" / ASSET) as path:
        return read(str(path), anny.load())


def read(path: str, head: HeadModel) -> BustModel:
    """A bust from a file written by `pipelines/bake/bust.py`.

    Args:
        path: safetensors file.
        head: model whose vertices the file refers to.

    Raises:
        FormatError: the file is damaged, of another version, or belongs to another head.
    """
    header, tensors = read_asset(path, FORMAT)
    names = json.loads(header["spec"])
    if (names["head"], names["vertices"]) != (head.spec.name, len(head.template)):
        raise FormatError(
            f"{path} belongs to a head {names['head']!r} of {names['vertices']} vertices, this one is {head.spec.name!r} with "
            f"{len(head.template)}; bake the bust again."
        )
    return _assemble(names["regions"], tensors, head)


def _assemble(regions: list[str], tensors: dict[str, Tensor], head: HeadModel) -> BustModel:
    bits, rows = tensors["region_bits"], tensors["head_rows"].long()
    topology = HeadTopology(
        faces=tensors["faces"].long(),
        uv=tensors["uv"],
        uv_faces=tensors["uv_faces"].long(),
        regions={region: (bits >> bit & 1).bool() for bit, region in enumerate(regions)},
        landmarks={},
    )
    shared = rows >= 0

    def with_heads(own: Tensor, heads: Tensor) -> Tensor:
        """Rows [.. V 3] of which the file has those that the head lacks."""
        joined = heads.new_zeros(*heads.shape[:-2], len(rows), 3)
        joined[..., shared, :], joined[..., ~shared, :] = heads[..., rows[shared], :], own
        return joined

    expression = head.expression_basis.new_zeros(len(head.expression_basis), int((~shared).sum()), 3)
    data = HeadData(
        template=with_heads(tensors["template"], head.template),
        shape_basis=with_heads(
            torch.einsum("sm,mvc->svc", tensors["shape_mix"], tensors["shape_modes_mm"].float() / 1e3), head.shape_basis
        ),
        expression_basis=with_heads(expression, head.expression_basis),
        joint_pivots=head.joint_pivots,
        joint_shape_basis=head.joint_shape_basis,
        skin_weights=tensors["skin_weights"],
        parents=head.parents,
    )
    own, clothing = (tensors[name].float() / 1e3 for name in ("own_basis_mm", "clothing_mm"))
    return BustModel(head, topology, data, own, clothing=clothing, head_rows=rows)
