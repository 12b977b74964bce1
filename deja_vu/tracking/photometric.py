"""Refine pose and expression by the pixels: every frame against a texture of the same head lifted from training frames.

The texture holds a mean color and a deviation for each of P surface points. A frame's light is a second-order spherical
harmonic of the world normal (Ramamoorthi and Hanrahan, SIGGRAPH 2001), solved in closed form in each step, so that a head
that turns in fixed light does not pull the pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from deja_vu.core.camera import Camera
from deja_vu.heads.base import HeadModel, surface_points
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.fit import FitConfig, Observations, Priors, add_landmarks, add_video_priors
from deja_vu.tracking.normal_equations import NormalEquations
from deja_vu.tracking.silhouette import ContourPoints, Outline, OutlineConfig, mean_distance
from deja_vu.tracking.state import Projection, TrackState, Unknowns, project
from deja_vu.uv.attach import attach, vertex_normals
from deja_vu.uv.hull import HairHull
from deja_vu.uv.layout import build_layout
from deja_vu.uv.lift import DEPTH_TOLERANCE

SURFACE_REGIONS = ("face", "eye_left", "eye_right", "scalp", "ears")
CHUNK_FRAMES = 16


@dataclass(frozen=True)
class PhotometricConfig:
    """Deviations and steps of the photometric refinement."""

    rounds: int = 3
    """How often the texture is lifted anew."""
    steps: int = 2
    """Gauss-Newton steps after each lift."""
    point_grid: int = 64
    """Texels a side of the grid from which surface points are taken."""
    color: float = 0.08
    """Floor of a point's color deviation; points that vary more between frames count less."""
    correlation: float = 5.0
    """How many neighbouring points count as one independent measurement."""
    landmark_px: float = 15.0
    """Deviation of a landmark beside the pixels, pixels of a 512-pixel crop."""
    expression: float = 0.2
    """Deviation of an expression from the landmarker's score."""
    min_facing: float = 0.25
    """Least cosine between a point's normal and the direction to the camera."""
    hull_frames: int = 24
    """Training frames whose silhouettes give the hair's height; hair is tracked from the second round on."""
    video_frames: int = 60
    """Training frames from which identity and focal length are refined along with the poses; 0 leaves both."""
    video_landmark_px: float = 5.0
    """The same while identity and focal length are refined: landmarks say where eyes and mouth are, if not how the head moves."""
    outline: OutlineConfig = field(default_factory=OutlineConfig)
    """Measurement of the hair's and ears' outline, from the second round on."""


@dataclass(frozen=True)
class SurfaceTexture:
    """Mean appearance of the head's surface points."""

    color: Float[Tensor, "P 3"]
    deviation: Float[Tensor, " P"]
    """Deviation between training frames after the light is divided out."""
    seen: Float[Tensor, " P"]
    """How many training frames showed the point."""
    inset: Float[Tensor, " P"] | None = None
    """Mean distance inside the matte's border when the point is on the contour, pixels; None where the outline is left out."""


@dataclass(frozen=True)
class Pictures:
    """Small crops of all frames, on the pixel grid of `camera`."""

    rgb: UInt8[Tensor, "T H W 3"]
    alpha: UInt8[Tensor, "T H W"]
    valid: UInt8[Tensor, "H W"]
    """255 where the crop shows what was filmed."""
    camera: Camera


class SurfacePoints:
    """Surface points with everything needed to see them: the restricted head, and their places on the full mesh."""

    def __init__(self, head: HeadModel, grid: int, heights: Float[Tensor, " P"] | None = None) -> None:
        """Choose points on face, eyeballs and scalp.

        Args:
            head: full model.
            grid: texels a side of the grid from which points are taken.
            heights: how far each point is raised off the bald head along its normal, metres; without it, the scalp has no points.
        """
        regions = head.topology.regions
        keep = torch.stack([regions[name] for name in SURFACE_REGIONS if name in regions]).any(0)
        self.layout = build_layout(head.topology, grid, drop=~keep)
        self.scalp = regions["scalp"][self.layout.faces]
        self.usable = ~self.scalp if heights is None else torch.ones_like(self.scalp)
        self.heights = torch.zeros(len(self.layout)) if heights is None else heights
        self.head = head
        points = head.at_points(self.layout.faces, self.layout.bary)
        height = points.template[:, 1]
        self.outer = height > height[regions["face"][self.layout.faces]].median()
        normals = self._interpolated(vertex_normals(head.template, head.topology.faces))
        self.points = points.displace(self.heights[:, None] * normals)

    def look(self, state: TrackState, frames: slice | Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pixels [B P 2], world normals [B P 3], facing cosine [B P] and visibility [B P] of some frames."""
        vertices = self.head(state.params(frames))
        faces = self.head.topology.faces
        normals = self._interpolated(vertex_normals(vertices, faces))
        world = self._interpolated(vertices) + self.heights[:, None] * normals
        facing = -(normals * normalize(world, dim=-1)).sum(-1)
        pixels, depth = camera.project(world)
        coarse = camera.resized(128, 128)
        buffer = rasterize_mesh(vertices, faces, coarse).depth
        grid = pixels / torch.tensor([camera.width / 2, camera.height / 2]) - 1
        nearest = grid_sample(buffer[:, None], grid[:, None], mode="nearest", align_corners=False)[:, 0, 0]
        unhidden = (nearest == 0) | (depth < nearest + DEPTH_TOLERANCE)
        return pixels, normals, facing, unhidden & (grid.abs().amax(-1) < 0.99) & self.usable

    def _interpolated(self, values: Float[Tensor, "*b V 3"]) -> Float[Tensor, "*b P 3"]:
        return surface_points(values, self.layout.corners, self.layout.bary)


def sample(images: UInt8[Tensor, "B H W C"], pixels: Float[Tensor, "B P 2"]) -> Float[Tensor, "B P C"]:
    """Bilinear samples in [0, 1] at pixel coordinates; the border is repeated."""
    size = torch.tensor([images.shape[2] / 2, images.shape[1] / 2])
    grid = (pixels / size - 1)[:, None]
    picture = images.permute(0, 3, 1, 2).float() / 255
    return grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)


def light_basis(normals: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 9"]:
    """Real spherical harmonics up to degree two of unit normals, without their constants."""
    x, y, z = normals.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)


class PhotometricRefiner:
    """Alternates between lifting the texture from training frames and moving all frames onto it."""

    def __init__(self, head: HeadModel, pictures: Pictures, train: Bool[Tensor, " T"], config: PhotometricConfig, fit: FitConfig) -> None:
        self.head, self.pictures, self.train, self.config = head, pictures, train, config
        self.fit = replace(fit, landmark_px=config.landmark_px)
        self.video_fit = replace(fit, landmark_px=config.video_landmark_px)
        self.surface = SurfacePoints(head, config.point_grid)
        marks = head.topology.landmarks["mediapipe"]
        self.marks, self.mark_points = marks, head.at_points(marks.faces, marks.bary)
        self.outline = Outline(pictures.alpha, pictures.valid) if config.outline.pixels else None

    def refine(self, state: TrackState, seen: Observations) -> tuple[TrackState, SurfaceTexture]:
        """Run all rounds; every frame, trained on or not, is treated alike."""
        train = self.train.nonzero()[:, 0]
        for turn in range(self.config.rounds):
            if turn == 1:
                self.surface = SurfacePoints(self.head, self.config.point_grid, self._hair_heights(state, train))
            texture = self.lift(state, train)
            if self.config.video_frames:
                state, texture = self._refine_video(state, seen, texture, train)
            everything = torch.arange(len(state.expression))
            for _ in range(self.config.steps):
                state = self._step(state, seen, texture, everything, shared=False)
        return state, self.lift(state, train)

    def _hair_heights(self, state: TrackState, train: Int[Tensor, " n"]) -> Float[Tensor, " P"]:
        """How far hair stands off each point, from the silhouettes of training frames."""
        hull = HairHull(len(self.surface.layout))
        picked = train[torch.linspace(0, len(train) - 1, min(len(train), self.config.hull_frames)).round().long().unique()]
        camera = state.camera(self.pictures.camera)
        for chunk in picked.split(CHUNK_FRAMES):
            surface = attach(self.head(state.params(chunk)), self.head.topology.faces, self.surface.layout)
            foreground = self.pictures.alpha[chunk][..., None].float() / 255
            hull.add(surface, camera, foreground, (self.pictures.valid / 255.0)[None, ..., None].expand_as(foreground))
        return hull.estimate_heights(self.surface.layout, self.surface.scalp)

    def lift(self, state: TrackState, train: Int[Tensor, " n"]) -> SurfaceTexture:
        """Mean color of every point over training frames, weighted by how squarely it is seen, its light divided out."""
        picked = train[torch.linspace(0, len(train) - 1, min(len(train), 100)).round().long().unique()]
        color = self._lift_pass(state, picked, None)
        for _ in range(2):
            color = self._lift_pass(state, picked, color)
        if self.outline is None or not self.surface.usable.all():
            return color
        camera = state.camera(self.pictures.camera)
        contours = [self._contour(self.surface.look(state, chunk, camera)[0], chunk) for chunk in picked.split(CHUNK_FRAMES)]
        inset = mean_distance(contours, self.surface.layout, self.config.outline.pixels * self.config.outline.robust)
        return replace(color, inset=torch.where(self.surface.scalp, inset, inset.clamp_min(0)))

    def _contour(self, pixels: Float[Tensor, "B P 2"], source: Int[Tensor, " B"]) -> ContourPoints:
        """Contour of the surface points at `pixels`, on the mattes of the frames `source`."""
        assert self.outline is not None
        return self.outline.contour(source, pixels, self.surface.outer)

    def _lift_pass(self, state: TrackState, frames: Int[Tensor, " n"], before: SurfaceTexture | None) -> SurfaceTexture:
        count = len(self.surface.layout)
        total, weight, square, seen = torch.zeros(count, 3), torch.zeros(count), torch.zeros(count), torch.zeros(count)
        for chunk in frames.split(CHUNK_FRAMES):
            pixels, normals, trust = self._trusted(state, chunk, chunk)
            color = sample(self.pictures.rgb[chunk], pixels)
            seen += (trust > 0).sum(0)
            if before is not None:
                light = self._light(color, normals, trust, before)
                residual = color - light * before.color
                trust = trust / (1 + (residual.square().mean(-1) / (3 * self.config.color) ** 2))
                square += (trust * residual.square().mean(-1)).sum(0)
                total += (trust[..., None] * color * light).sum(0)
                weight += (trust[..., None] * light.square()).mean(-1).sum(0)
            else:
                total += (trust[..., None] * color).sum(0)
                weight += trust.sum(0)
        safe = weight.clamp_min(1e-6)
        return SurfaceTexture(total / safe[:, None], (square / safe).sqrt(), seen)

    def _trusted(self, state: TrackState, at: Int[Tensor, " n"], source: Int[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, normals and trust of the points in the state's frames `at`, whose pictures are `source`."""
        pixels, normals, facing, visible = self.surface.look(state, at, state.camera(self.pictures.camera))
        inside = sample(self.pictures.alpha[source][..., None], pixels)[..., 0] > 0.9
        return pixels, normals, (facing - self.config.min_facing).clamp_min(0) * visible * inside

    @staticmethod
    def _light(color: Tensor, normals: Tensor, trust: Tensor, texture: SurfaceTexture) -> Float[Tensor, "B P 1"]:
        """Brightness of every point: the spherical harmonic that best maps the texture to each frame's colors."""
        basis = light_basis(normals)
        rows = basis * texture.color.norm(dim=-1)[:, None]
        seen = (color * texture.color).sum(-1) / texture.color.norm(dim=-1).clamp_min(1e-3)
        weight = trust / (texture.deviation**2 + 0.05**2)
        left = rows.transpose(1, 2) @ (rows * weight[..., None])
        right = (rows * (weight * seen)[..., None]).sum(1)
        ridge = 0.02 * weight.sum(1)[:, None].expand(-1, 9) * texture.color.square().mean()
        ridge = ridge + 1e-6
        right[:, 0] += ridge[:, 0]
        solved = torch.linalg.solve(left + torch.diag_embed(ridge), right)
        return (basis @ solved[..., None]).clamp(0.3, 3.0)

    def _refine_video(
        self, state: TrackState, seen: Observations, texture: SurfaceTexture, train: Int[Tensor, " n"]
    ) -> tuple[TrackState, SurfaceTexture]:
        """Refine identity and focal length along with some frames, from which the texture is lifted anew.

        The other frames' poses still belong to the former identity; their distance follows the focal length, so that sizes hold.
        """
        picked = train[torch.linspace(0, len(train) - 1, min(len(train), self.config.video_frames)).round().long().unique()]
        some, seen_some = state.select(picked), seen.select(picked)
        for _ in range(self.config.steps):
            some = self._step(some, seen_some, texture, picked, shared=True)
        pose = state.world_from_head.clone()
        pose[:, 2, 3] *= (some.log_focal - state.log_focal).exp()
        pose[picked] = some.world_from_head
        expression, joints = state.expression.index_copy(0, picked, some.expression), state.joints.index_copy(0, picked, some.joints)
        state = TrackState(some.shape, some.log_focal, expression, joints, pose)
        return state, self.lift(state, picked)

    def _step(
        self, state: TrackState, seen: Observations, texture: SurfaceTexture, source: Int[Tensor, " n"], *, shared: bool
    ) -> TrackState:
        unknowns, fit = Unknowns.of(self.head), self.video_fit if shared else self.fit
        priors = Priors(self.head, seen, fit, self.config.expression)
        system = NormalEquations.zeros(len(source), unknowns.size, len(state.shape) + 1 if shared else 0)
        add_landmarks(system, self.mark_points, self.marks, state, seen, fit)
        self._add_colors(system, state, texture, source, unknowns)
        priors.add(system, state)
        if shared:
            add_video_priors(system, state, seen, fit)
        step, video_step = system.solve(priors.coupling, priors.change(state))
        state = unknowns.update(state, step)
        if shared:
            state = replace(state, shape=state.shape + video_step[:-1], log_focal=state.log_focal + video_step[-1])
        return state

    def _add_colors(
        self, system: NormalEquations, state: TrackState, texture: SurfaceTexture, source: Int[Tensor, " n"], unknowns: Unknowns
    ) -> None:
        """Add the color differences between every frame and the relit texture, two rows a point.

        The three channels' gradients are folded into a 2 x 2 structure matrix, whose root whitens the pixel derivative.
        """
        camera = state.camera(self.pictures.camera)
        deviation = (texture.deviation**2 + self.config.color**2).sqrt()
        for start in range(0, len(source), CHUNK_FRAMES):
            frames = slice(start, start + CHUNK_FRAMES)
            at = torch.arange(len(source))[frames]
            pixels, normals, trust = self._trusted(state, at, source[frames])
            trust = trust * (texture.seen >= 3)
            contour = None if texture.inset is None else self._contour(pixels, source[frames])
            used = (trust > 0).any(0)
            if contour is not None:
                used[contour.index] = True
            places = used.nonzero()[:, 0]
            points = self.surface.points.select(places)
            projection = project(points, state.params(frames), camera, unknowns, shared=len(system.video) > 0)
            part = replace(texture, color=texture.color[places], deviation=deviation[places])
            self._add_chunk(system, frames, source[frames], pixels[:, places], normals[:, places], trust[:, places], part, projection)
            if contour is not None and texture.inset is not None:
                local = replace(contour, index=(used.cumsum(0) - 1)[contour.index])
                self._add_outline(system, frames, local, texture.inset[contour.index], projection)

    def _add_chunk(
        self,
        system: NormalEquations,
        frames: slice,
        source: Int[Tensor, " B"],
        pixels: Float[Tensor, "B n 2"],
        normals: Float[Tensor, "B n 3"],
        trust: Float[Tensor, "B n"],
        texture: SurfaceTexture,
        projection: Projection,
    ) -> None:
        images = self.pictures.rgb[source]
        color = sample(images, pixels)
        residual = color - self._light(color, normals, trust, texture) * texture.color
        robust = 1 / (1 + residual.square().mean(-1) / (2 * texture.deviation) ** 2) ** 2
        weight = (trust * robust).clamp_max(1) / texture.deviation**2 / self.config.correlation
        dx, dy = pixels.new_tensor([1.0, 0.0]), pixels.new_tensor([0.0, 1.0])
        across, down = ((sample(images, pixels + step) - sample(images, pixels - step)) / 2 for step in (dx, dy))
        root, whitened = _fold_channels(torch.stack([across, down], -1), residual)
        rows = (root @ projection.by_frame).flatten(1, 2)
        by_video = None if projection.by_video is None else (root @ projection.by_video).flatten(1, 2)
        system.add(frames, rows, by_video, whitened.flatten(1), weight[..., None].expand_as(whitened).flatten(1))

    def _add_outline(
        self, system: NormalEquations, frames: slice, contour: ContourPoints, inset: Float[Tensor, "B n"], projection: Projection
    ) -> None:
        """Add the distances of the contour from where training frames had it, a row a sector."""
        config = self.config.outline
        residual = (contour.distance - inset) / config.pixels
        weight = contour.trusted / (1 + (residual / config.robust) ** 2) ** 2 / config.correlation

        def along(by_pixel: Float[Tensor, "B P 2 D"]) -> Float[Tensor, "B n D"]:
            chosen = by_pixel.gather(1, contour.index[..., None, None].expand(-1, -1, *by_pixel.shape[2:]))
            return (contour.slope[..., None, :] @ chosen)[..., 0, :] / config.pixels

        by_video = None if projection.by_video is None else along(projection.by_video)
        system.add(frames, along(projection.by_frame), by_video, residual, weight)


def _fold_channels(
    slope: Float[Tensor, "B P 3 2"], residual: Float[Tensor, "B P 3"]
) -> tuple[Float[Tensor, "B P 2 2"], Float[Tensor, "B P 2"]]:
    """Two rows that give the same normal equations as three channels: S = U'U (Cholesky), and residual U^-T G'r."""
    tensor = slope.transpose(-1, -2) @ slope
    a = tensor[..., 0, 0] + 1e-8
    c = tensor[..., 1, 1] + 1e-8
    b = tensor[..., 0, 1]
    u00 = a.sqrt()
    u01 = b / u00
    u11 = (c - u01**2).clamp_min(1e-8).sqrt()
    right = (slope * residual[..., None]).sum(-2)
    r0 = right[..., 0] / u00
    r1 = (right[..., 1] - u01 * r0) / u11
    zero = torch.zeros_like(u00)
    root = torch.stack([torch.stack([u00, u01], -1), torch.stack([zero, u11], -1)], -2)
    return root, torch.stack([r0, r1], -1)
