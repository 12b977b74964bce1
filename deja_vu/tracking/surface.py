"""Points on the head's surface, spread evenly over its chart, and where pictures show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from deja_vu.core.camera import Camera
from deja_vu.heads.base import HeadModel, surface_points
from deja_vu.heads.regions import region_faces
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.state import Projection, TrackState, Unknowns, project
from deja_vu.uv.attach import vertex_normals
from deja_vu.uv.layout import UVLayout, build_layout
from deja_vu.uv.lift import DEPTH_TOLERANCE

SURFACE_REGIONS = ("face", "eye_left", "eye_right", "scalp", "ears")
DEPTH_SIDE = 128
"""Side of the depth map that tells hidden points, pixels."""


@dataclass(frozen=True)
class SurfaceView:
    """P surface points in B pictures."""

    pixels: Float[Tensor, "B P 2"]
    normals: Float[Tensor, "B P 3"]
    """In world space."""
    facing: Float[Tensor, "B P"]
    """Cosine between the normal and the direction to the camera."""
    visible: Bool[Tensor, "B P"]

    def select(self, points: Int[Tensor, " n"]) -> SurfaceView:
        """Some of the points."""
        return SurfaceView(self.pixels[:, points], self.normals[:, points], self.facing[:, points], self.visible[:, points])


@runtime_checkable
class Surface(Protocol):
    """Points of a surface that a solver looks for in the frames."""

    @property
    def layout(self) -> UVLayout:
        """Their chart."""

    @property
    def outer(self) -> Bool[Tensor, " P"]:
        """Points of which the silhouette may consist."""

    def project(self, state: TrackState, frames: slice | Tensor, camera: Camera) -> Float[Tensor, "B P 2"]:
        """Pixels of the points in some frames."""

    def view(self, state: TrackState, frames: slice | Tensor, camera: Camera) -> SurfaceView:
        """What the camera shows of the points in some frames."""

    def differentiate(
        self, points: Int[Tensor, " n"], state: TrackState, frames: slice | Tensor, camera: Camera, num_shared: int
    ) -> Projection:
        """Pixels of some of the points, and their derivatives by the frames' unknowns and by the `num_shared` of the video."""


class HeadSurface:
    """Points of face, eyes, ears and scalp, on the bald head or raised to its hair."""

    def __init__(self, head: HeadModel, grid: int, heights: Float[Tensor, " P"] | None = None) -> None:
        """Choose the points.

        Args:
            head: full model.
            grid: texels a side of the grid from which points are taken.
            heights: how far each point is raised off the bald head along its normal, meters; without it, the scalp's are never visible.
        """
        regions, on_host = head.topology.regions, head.topology.to("cpu")
        keep = region_faces(on_host, SURFACE_REGIONS)
        self.head, self.layout = head, build_layout(on_host, grid, drop=~keep).to(head.template.device)
        self.scalp = regions["scalp"][self.layout.faces]
        self.raised = heights is not None
        self.heights = head.template.new_zeros(len(self.layout)) if heights is None else heights
        bald = head.at_points(self.layout.faces, self.layout.bary)
        height = bald.template[:, 1]
        self.outer = height > height[regions["face"][self.layout.faces]].median()
        """Points of which the silhouette may consist: the upper half of the head, for the lower ends in the neck."""
        normals = self._interpolate(vertex_normals(head.template, head.topology.faces))
        self.points = bald.displace(self.heights[:, None] * normals)

    def project(self, state: TrackState, frames: slice | Tensor, camera: Camera) -> Float[Tensor, "B P 2"]:
        """Pixels of the points in some frames."""
        vertices = self.head(state.params(frames))
        return camera.project(self._raise(vertices)[0])[0]

    def view(self, state: TrackState, frames: slice | Tensor, camera: Camera) -> SurfaceView:
        """What the camera shows of the points in some frames."""
        vertices = self.head(state.params(frames))
        world, normals = self._raise(vertices)
        facing = -(normals * normalize(world, dim=-1)).sum(-1)
        pixels, depth = camera.project(world)
        buffer = rasterize_mesh(vertices, self.head.topology.faces, camera.resize(DEPTH_SIDE, DEPTH_SIDE)).depth
        grid = pixels / pixels.new_tensor([camera.width / 2, camera.height / 2]) - 1
        nearest = grid_sample(buffer[:, None], grid[:, None], mode="nearest", align_corners=False)[:, 0, 0]
        unhidden = (nearest == 0) | (depth < nearest + DEPTH_TOLERANCE)
        usable = ~self.scalp | self.raised
        return SurfaceView(pixels, normals, facing, unhidden & (grid.abs().amax(-1) < 0.99) & usable)

    def differentiate(
        self, points: Int[Tensor, " n"], state: TrackState, frames: slice | Tensor, camera: Camera, num_shared: int
    ) -> Projection:
        """Pixels of some of the points, and their derivatives in the order of `Unknowns`."""
        unknowns = Unknowns.of(self.head)
        return project(self.points.select(points), state.params(frames), camera, unknowns, share_identity=num_shared > 0)

    def _raise(self, vertices: Float[Tensor, "B V 3"]) -> tuple[Float[Tensor, "B P 3"], Float[Tensor, "B P 3"]]:
        """World positions and normals of the points on a posed head."""
        normals = self._interpolate(vertex_normals(vertices, self.head.topology.faces))
        return self._interpolate(vertices) + self.heights[:, None] * normals, normals

    def _interpolate(self, values: Float[Tensor, "*b V 3"]) -> Float[Tensor, "*b P 3"]:
        return surface_points(values, self.layout.corners, self.layout.bary)
