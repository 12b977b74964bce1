"""The whole figure as one mesh: head, neck, hair and shirt, with the part of each triangle and the attributes of each vertex."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.datasets.synthetic.clothes import neckline_height, sew_shirt
from deja_vu.datasets.synthetic.hair import STRAND_POINTS, Haircut, grow_hair
from deja_vu.datasets.synthetic.shade import camera_along
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BustModel, load_bust
from deja_vu.render.mesh import rasterize_mesh

PARTS = ("background", "skin", "eyes", "mouth", "lashes", "hair", "shirt")
"""Parts of a picture, by their number in `SyntheticFrame.parts`."""
REGION_PARTS = {
    "eye_left": "eyes",
    "eye_right": "eyes",
    "mouth_inner": "mouth",
    "teeth_upper": "mouth",
    "teeth_lower": "mouth",
    "tongue": "mouth",
    "eye_socket": "mouth",
    "lashes": "lashes",
}
"""Part that each region of the head belongs to; the rest is skin."""
OPENNESS_VIEWS = 64
"""Directions from which the figure is seen to find its ambient occlusion."""
OPENNESS_SIZE = 240
"""Side of each of those depth maps, pixels."""
OPENNESS_FIELD = 0.8
"""Width of what each sees, meters."""
OPENNESS_BIAS = 0.003
"""Distance by which a vertex is lifted before it is looked up, meters."""
LASH_REACH = 0.0200
"""Lashes are kept up to this distance from the eyeball's center, meters."""
LASH_HEIGHT = 0.0388
"""Lashes are kept above this height on the mean head, meters."""


TORSO_SPREAD = 0.7
"""Standard deviation of the coefficients of the torso's own components."""
TORSO_LIMIT = 1.6
"""Bound of those."""
UNDER_COLLAR = 0.015
"""How far below the neckline there is skin, meters."""


class Figure:
    """Triangles of a dressed person; vertices and faces of the head come first and keep their indices."""

    def __init__(self, head: HeadModel, shape: Float[Tensor, " S"], seed: int, haircut: Haircut) -> None:
        self.head, self.bust = head, load_bust()
        draw = np.random.default_rng([seed, 8]).normal(0, TORSO_SPREAD, self.bust.num_own)
        self.own = torch.from_numpy(draw.clip(-TORSO_LIMIT, TORSO_LIMIT)).float()
        neutral = head.neutral()
        self._neutral = replace(neutral, shape=shape)
        rest = head(self._neutral)
        self.hair = grow_hair(head, rest.numpy(), vertex_normals(rest, head.topology.faces).numpy(), seed, haircut)
        self.shirt = sew_shirt(self.bust, vertex_normals(self.bust.template, self.bust.topology.faces), seed)
        self._skin = torch.cat([_trim_head(head), _weld(self.bust, len(rest))])
        self.first_hair = len(rest) + len(self.bust.template)
        self.first_shirt = self.first_hair + len(self.hair.vertices)
        bare = _find_bare(self.bust)
        neck, strands = self._skin[len(head.topology.faces) :][bare], torch.from_numpy(self.hair.faces) + self.first_hair
        cloth = self.shirt.faces + self.first_shirt
        self.faces: Int[Tensor, "F 3"] = torch.cat([self._skin[: len(head.topology.faces)], neck, strands, cloth])
        part = torch.full((len(head.topology.faces),), PARTS.index("skin"))
        for region, name in REGION_PARTS.items():
            part[head.topology.regions[region]] = PARTS.index(name)
        covers = [torch.full((len(faces),), PARTS.index(name)) for faces, name in ((neck, "skin"), (strands, "hair"), (cloth, "shirt"))]
        self.part: Int[Tensor, " F"] = torch.cat([part, *covers])
        self.body: Bool[Tensor, " F"] = self.part == PARTS.index("shirt")
        """Triangles of neck and torso: skin that is not the head's, and the shirt."""
        self.body[len(part) : len(part) + len(neck)] = True
        self.uv: Float[Tensor, "F 3 2"] = self._lay_out(bare, len(strands))
        """Place of each corner in the texture of its part; of skin, head's above the bust's."""
        self.openness = self._compute_openness()
        third = torch.arange(len(self.faces)) // (STRAND_POINTS - 1) % 3 == 0
        self.casters: Int[Tensor, "f 3"] = self.faces[(self.part != PARTS.index("hair")) | third]
        """Triangles that throw shadows: of the hair every third strand will do."""

    def pose(self, params: HeadParams) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "V 3"], Float[Tensor, "V 3"]]:
        """World-space vertices, unit normals and fiber directions (zero but for the hair) of one frame."""
        straight = self.bust.straighten(params)
        skin = torch.cat([self.head(straight), self.bust(straight, self.own)])
        normals, skull = vertex_normals(skin, self._skin), straight.world_from_head
        strands, up, along = (
            torch.from_numpy(field) @ skull[:3, :3].T for field in (self.hair.vertices, self.hair.normal, self.hair.along)
        )
        seam = self.bust.head_rows
        body_normals = torch.where((seam >= 0)[:, None], normals[seam], normals[len(self.head.template) :])
        cloth = self.shirt.wear(skin[len(self.head.template) :], body_normals)
        still = torch.zeros_like(skin), torch.zeros_like(cloth)
        return (
            torch.cat([skin, strands + skull[:3, 3], cloth]),
            torch.cat([normals, up, vertex_normals(cloth, self.shirt.faces)]),
            torch.cat([still[0], along, still[1]]),
        )

    def _lay_out(self, bare: Bool[Tensor, " f"], strands: int) -> Float[Tensor, "F 3 2"]:
        head, bust = (model.topology.uv[model.topology.uv_faces] * torch.tensor([1.0, 0.5]) for model in (self.head, self.bust))
        return torch.cat([head, bust[bare] + torch.tensor([0.0, 0.5]), torch.zeros(strands, 3, 2), self.shirt.uv])

    def _compute_openness(self) -> Float[Tensor, " V"]:
        """Share of the surroundings that each vertex sees: the mouth's with the jaw half open, the rest at rest; of hair its shade."""
        mouth = torch.zeros(len(self.head.template), dtype=torch.bool)
        mouth[self.head.topology.faces[self.part[: len(self.head.topology.faces)] == PARTS.index("mouth")]] = True
        openness = self._sky_share(self._neutral)
        expression = self._neutral.expression.clone()
        expression[self.head.spec.expression_names.index("jawOpen")] = 0.5
        opened = self._sky_share(replace(self._neutral, expression=expression))
        openness[: len(mouth)] = torch.where(mouth, opened[: len(mouth)], openness[: len(mouth)])
        openness[self.first_hair : self.first_shirt] = torch.from_numpy(self.hair.shade)
        return openness

    def _sky_share(self, params: HeadParams) -> Float[Tensor, " V"]:
        """Cosine-weighted share of evenly spread directions in which a vertex sees nothing of the figure."""
        vertices, normals, _ = self.pose(params)
        reached, total = torch.zeros(len(vertices)), torch.full((len(vertices),), 1e-6)
        for k in range(OPENNESS_VIEWS):
            z = 1 - (2 * k + 1) / OPENNESS_VIEWS
            turn = k * math.pi * (3 - math.sqrt(5))
            towards = torch.tensor([math.sqrt(1 - z * z) * math.cos(turn), math.sqrt(1 - z * z) * math.sin(turn), z])
            camera = camera_along(-towards, torch.tensor([0.0, -0.08, 0.0]), 4.0, OPENNESS_FIELD, OPENNESS_SIZE)
            fragments = rasterize_mesh(vertices, self.faces, camera)
            pixels, depth = camera.project(vertices + OPENNESS_BIAS * normals)
            index = pixels.long().clamp(0, OPENNESS_SIZE - 1)
            blocker = torch.where(fragments.face_id >= 0, fragments.depth, torch.full_like(fragments.depth, 9.0))[index[:, 1], index[:, 0]]
            weight = (normals @ towards).clamp_min(0)
            reached += weight * (depth < blocker + 0.001)
            total += weight
        return reached / total


def _weld(bust: BustModel, first: int) -> Int[Tensor, "F 3"]:
    """The bust's triangles, its vertices numbered from `first`, those of the seam as the head has them: light goes on smoothly there."""
    vertex = torch.where(bust.head_rows >= 0, bust.head_rows, torch.arange(len(bust.template)) + first)
    return vertex[bust.topology.faces]


def _find_bare(bust: BustModel) -> Bool[Tensor, " F"]:
    """The bust's triangles that are seen, or reach a little way under the collar."""
    above = torch.from_numpy(neckline_height(bust.template.numpy()))
    return above[bust.topology.faces].amax(1) > -UNDER_COLLAR


def _trim_head(head: HeadModel) -> Int[Tensor, "F 3"]:
    """The head's triangles, some folded to nothing: its neck, which the bust has, and all but the roots of the upper lashes.

    Whole, the lashes would be black wings.
    """
    faces = head.topology.faces.clone()
    eyes = [head.joint_pivots[head.spec.joint_names.index(f"eye_{side}")] for side in ("left", "right")]
    corners = head.template[faces]
    reach = torch.cdist(corners.flatten(0, 1), torch.stack(eyes)).min(1).values.reshape(-1, 3).amax(1)
    kept = (reach < LASH_REACH) & (corners[:, :, 1].mean(1) > LASH_HEIGHT)
    faces[head.topology.regions["lashes"] & ~kept] = 0
    faces[head.topology.regions["neck"]] = 0
    return faces


def vertex_normals(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """Unit normals, averaged over the triangles of a vertex by area."""
    corners = vertices[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices).index_add(0, faces.flatten(), area.repeat_interleave(3, 0))
    return total / total.norm(dim=1, keepdim=True).clamp_min(1e-12)
