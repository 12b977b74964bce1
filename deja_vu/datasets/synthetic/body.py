"""The whole figure as one mesh: head, hair and shirt, with the part of each triangle and the attributes of each vertex."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.head import HeadParams
from deja_vu.datasets.synthetic.shade import camera_along
from deja_vu.datasets.synthetic.wardrobe import STRAND_POINTS, Haircut, grow_hair, sew_shirt
from deja_vu.heads.base import HeadModel
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
OPENNESS_SIZE = 192
"""Side of each of those depth maps, pixels."""
OPENNESS_FIELD = 0.62
"""Width of what each sees, meters."""
OPENNESS_BIAS = 0.003
"""Distance by which a vertex is lifted before it is looked up, meters."""
LASH_REACH = 0.0200
"""Lashes are kept up to this distance from the eyeball's center, meters."""
LASH_HEIGHT = 0.0388
"""Lashes are kept above this height on the mean head, meters."""


class Figure:
    """Triangles of a dressed person; vertices and faces of the head come first and keep their indices."""

    def __init__(self, head: HeadModel, shape: Float[Tensor, " S"], seed: int, haircut: Haircut) -> None:
        self.head = head
        neutral = head.neutral()
        self._neutral = HeadParams(shape, neutral.expression, neutral.joints, neutral.world_from_head)
        rest = head(self._neutral)
        normals = vertex_normals(rest, head.topology.faces)
        self.hair = grow_hair(head, rest.numpy(), normals.numpy(), seed, haircut)
        self.shirt = sew_shirt(seed)
        self.first_hair, self.first_shirt = len(rest), len(rest) + len(self.hair.vertices)
        strands, cloth = torch.from_numpy(self.hair.faces), torch.from_numpy(self.shirt.faces)
        self.faces: Int[Tensor, "F 3"] = torch.cat([_trim_lashes(head), strands + self.first_hair, cloth + self.first_shirt])
        part = torch.full((len(head.topology.faces),), PARTS.index("skin"))
        for region, name in REGION_PARTS.items():
            part[head.topology.regions[region]] = PARTS.index(name)
        dressed = [torch.full((len(faces),), PARTS.index(name)) for faces, name in ((strands, "hair"), (cloth, "shirt"))]
        self.part: Int[Tensor, " F"] = torch.cat([part, *dressed])
        self.openness = self._compute_openness()
        third = torch.arange(len(self.faces)) // (STRAND_POINTS - 1) % 3 == 0
        self.casters: Int[Tensor, "f 3"] = self.faces[(self.part != PARTS.index("hair")) | third]
        """Triangles that throw shadows: of the hair every third strand will do."""

    def pose(self, params: HeadParams) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "V 3"], Float[Tensor, "V 3"]]:
        """World-space vertices, unit normals and fiber directions (zero on the head) of one frame."""
        head_vertices = self.head(params)
        moved = self.head.world_from_parts(params)
        skull, torso = moved[self.head.spec.joint_names.index("neck") + 1], moved[0]
        vertices, normals = [head_vertices], [vertex_normals(head_vertices, self.head.topology.faces)]
        along = [torch.zeros_like(head_vertices)]
        for garment, motion in ((self.hair, skull), (self.shirt, torso)):
            vertices.append(torch.from_numpy(garment.vertices) @ motion[:3, :3].T + motion[:3, 3])
            normals.append(torch.from_numpy(garment.normal) @ motion[:3, :3].T)
            along.append(torch.from_numpy(garment.along) @ motion[:3, :3].T)
        return torch.cat(vertices), torch.cat(normals), torch.cat(along)

    def _compute_openness(self) -> Float[Tensor, " V"]:
        """Share of the surroundings that each vertex sees: the mouth's with the jaw half open, the rest at rest; of hair its shade."""
        mouth = torch.zeros(len(self.head.template), dtype=torch.bool)
        mouth[self.head.topology.faces[self.part[: len(self.head.topology.faces)] == PARTS.index("mouth")]] = True
        closed = self._sky_share(self._neutral)
        expression = self._neutral.expression.clone()
        expression[self.head.spec.expression_names.index("jawOpen")] = 0.5
        opened = self._sky_share(HeadParams(self._neutral.shape, expression, self._neutral.joints, self._neutral.world_from_head))
        head = torch.where(mouth, opened[: len(mouth)], closed[: len(mouth)])
        return torch.cat([head, torch.from_numpy(self.hair.shade), closed[self.first_shirt :]])

    def _sky_share(self, params: HeadParams) -> Float[Tensor, " V"]:
        """Cosine-weighted share of evenly spread directions in which a vertex sees nothing of the figure."""
        vertices, normals, _ = self.pose(params)
        reached, total = torch.zeros(len(vertices)), torch.full((len(vertices),), 1e-6)
        for k in range(OPENNESS_VIEWS):
            z = 1 - (2 * k + 1) / OPENNESS_VIEWS
            turn = k * math.pi * (3 - math.sqrt(5))
            towards = torch.tensor([math.sqrt(1 - z * z) * math.cos(turn), math.sqrt(1 - z * z) * math.sin(turn), z])
            camera = camera_along(-towards, torch.tensor([0.0, -0.02, 0.0]), 4.0, OPENNESS_FIELD, OPENNESS_SIZE)
            fragments = rasterize_mesh(vertices, self.faces, camera)
            pixels, depth = camera.project(vertices + OPENNESS_BIAS * normals)
            index = pixels.long().clamp(0, OPENNESS_SIZE - 1)
            blocker = torch.where(fragments.face_id >= 0, fragments.depth, torch.full_like(fragments.depth, 9.0))[index[:, 1], index[:, 0]]
            weight = (normals @ towards).clamp_min(0)
            reached += weight * (depth < blocker + 0.001)
            total += weight
        return reached / total


def _trim_lashes(head: HeadModel) -> Int[Tensor, "F 3"]:
    """The head's triangles with all but the roots of the upper lashes folded to nothing: whole, they would be black wings."""
    faces = head.topology.faces.clone()
    eyes = [head.joint_pivots[head.spec.joint_names.index(f"eye_{side}")] for side in ("left", "right")]
    corners = head.template[faces]
    reach = torch.cdist(corners.flatten(0, 1), torch.stack(eyes)).min(1).values.reshape(-1, 3).amax(1)
    kept = (reach < LASH_REACH) & (corners[:, :, 1].mean(1) > LASH_HEIGHT)
    faces[head.topology.regions["lashes"] & ~kept] = 0
    return faces


def vertex_normals(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """Unit normals, averaged over the triangles of a vertex by area."""
    corners = vertices[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices).index_add(0, faces.flatten(), area.repeat_interleave(3, 0))
    return total / total.norm(dim=1, keepdim=True).clamp_min(1e-12)
