"""Points on chest, shoulders, back and arms, which move with the torso alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from deja_vu.core.camera import Camera
from deja_vu.heads.base import HeadModel, surface_points
from deja_vu.heads.bust import BustModel
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.config import TorsoConfig
from deja_vu.tracking.state import POSE, Projection, TrackState, basis_jacobian, pose_jacobian, project_points
from deja_vu.tracking.surface import SurfaceView
from deja_vu.tracking.texture import CHUNK_FRAMES, sample_pixels
from deja_vu.uv.attach import vertex_normals
from deja_vu.uv.layout import UVLayout, build_layout

RIGID = 0.999
"""Share of the torso's motion from which a vertex belongs to the torso alone."""


@dataclass(frozen=True)
class TorsoSurface:
    """Surface points of a dressed torso without the neck, and where the head hides them."""

    bust: BustModel
    layout: UVLayout
    own_basis: Float[Tensor, "K P 3"]
    clothing: Float[Tensor, " P"]
    """Height above the skin, meters."""
    outer: Bool[Tensor, " P"]
    """Points of which the silhouette may consist: shoulders' ridge and the arms' outer sides."""
    pivot: Float[Tensor, " 3"]
    """The neck's base at rest, about which the torso's pose turns, meters."""
    behind: Bool[Tensor, "T h w"]
    """Where the head hides what is below it, in a small copy of the window."""
    known: dict[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)
    """The last shape that was asked for and the points at rest that it gave."""

    @staticmethod
    def of(bust: BustModel, behind: Bool[Tensor, "T h w"], grid: int, config: TorsoConfig) -> TorsoSurface:
        """Choose the points.

        Args:
            bust: model.
            behind: from `hide_behind_head`.
            grid: texels a side of the grid from which points are taken.
            config: which points are the outline's.
        """
        topology, rigid = bust.topology, bust.skin_weights[:, 0] > RIGID
        layout = build_layout(topology, grid, drop=~rigid[topology.faces].all(1))
        template = surface_points(bust.template, layout.corners, layout.bary)
        normals = surface_points(vertex_normals(bust.template, topology.faces), layout.corners, layout.bary)
        lowest = bust.template[:, 1].min() + config.cut_margin
        rim = bust.template[~rigid & (bust.skin_weights[:, 0] > 0.5)]
        return TorsoSurface(
            bust=bust,
            layout=layout,
            own_basis=surface_points(bust.own_basis, layout.corners, layout.bary),
            clothing=surface_points(bust.clothing[:, None].expand(-1, 3), layout.corners, layout.bary)[:, 0],
            outer=(normals[:, 2].abs() < config.max_outline_normal) & (template[:, 1] > lowest),
            pivot=rim.mean(0),
            behind=behind,
        )

    def select(self, frames: Int[Tensor, " n"]) -> TorsoSurface:
        """The same points in some of the frames."""
        return replace(self, behind=self.behind[frames])

    def rest(self, state: TrackState) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 3"]]:
        """Points on the clothes and their normals with the state's identity, before the torso's pose."""
        shape, points, normals = self.known.get("rest", (None, None, None))
        if shape is not state.torso_shape or points is None or normals is None:
            vertices = self.bust.rest(state.params(slice(0, 1)), state.torso_shape[None])[0]
            normals = normalize(self._interpolate(vertex_normals(vertices, self.bust.topology.faces)), dim=-1)
            points = self._interpolate(vertices) + self.clothing[:, None] * normals
            self.known["rest"] = (state.torso_shape, points, normals)
        return points, normals

    def project(self, state: TrackState, frames: slice | Tensor, camera: Camera) -> Float[Tensor, "B P 2"]:
        """Pixels of the points in some frames."""
        return camera.project(_move(state.params(frames).world_from_torso, self.rest(state)[0]))[0]

    def view(self, state: TrackState, frames: slice | Tensor, camera: Camera) -> SurfaceView:
        """What the camera shows of the points in some frames."""
        rest, rest_normals = self.rest(state)
        pose = state.params(frames).world_from_torso
        world, normals = _move(pose, rest), rest_normals @ pose[:, :3, :3].mT
        pixels, _ = camera.project(world)
        grid = pixels / torch.tensor([camera.width / 2, camera.height / 2]) - 1
        small = self.behind.shape[-1] / camera.width
        hidden = sample_pixels(255 * self.behind[frames].to(torch.uint8)[..., None], small * pixels)[..., 0] > 0
        facing = -(normals * normalize(world, dim=-1)).sum(-1)
        return SurfaceView(pixels, normals, facing, ~hidden & (grid.abs().amax(-1) < 0.99))

    def differentiate(
        self, points: Int[Tensor, " n"], state: TrackState, frames: slice | Tensor, camera: Camera, num_shared: int
    ) -> Projection:
        """Pixels of some of the points, and their derivatives by the torso's pose and by its own components.

        These come last of the video's unknowns, where they are among them.
        """
        pose = state.params(frames).world_from_torso
        world = _move(pose, self.rest(state)[0][points])
        pixels, jacobian = project_points(world, camera)
        frame_jacobian = pose_jacobian(world, _move(pose, self.pivot[None])[:, 0], jacobian)
        if num_shared == 0:
            return Projection(pixels, frame_jacobian, None)
        video_jacobian = frame_jacobian.new_zeros(*frame_jacobian.shape[:-1], num_shared)
        if num_shared > POSE:
            video_jacobian[..., POSE:] = basis_jacobian(jacobian @ pose[:, None, :3, :3], self.own_basis[:, points])
        return Projection(pixels, frame_jacobian, video_jacobian)

    def _interpolate(self, values: Float[Tensor, "V 3"]) -> Float[Tensor, "P 3"]:
        return surface_points(values, self.layout.corners, self.layout.bary)


def hide_behind_head(head: HeadModel, state: TrackState, window: Camera, config: TorsoConfig) -> Bool[Tensor, "T h w"]:
    """Where the head and a margin about it hide what is below, in every frame of a window."""
    side = config.hidden_side
    camera, spread = state.camera(window).resize(side, side), 2 * config.hidden_margin + 1
    hidden = torch.empty(len(state.expression), side, side, dtype=torch.bool)
    for start in range(0, len(hidden), CHUNK_FRAMES):
        frames = slice(start, start + CHUNK_FRAMES)
        covered = rasterize_mesh(head(state.params(frames)), head.topology.faces, camera).face_id >= 0
        hidden[frames] = max_pool2d(covered[:, None].float(), spread, 1, spread // 2)[:, 0] > 0
    return hidden


def _move(pose: Float[Tensor, "B 4 4"], points: Float[Tensor, "P 3"]) -> Float[Tensor, "B P 3"]:
    return points @ pose[:, :3, :3].mT + pose[:, None, :3, 3]
