"""A synthetic person's selfie video, frame by frame, with its ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.datasets.synthetic import shade
from deja_vu.datasets.synthetic.acting import act
from deja_vu.datasets.synthetic.body import PARTS, Figure
from deja_vu.datasets.synthetic.clothes import paint_shirt
from deja_vu.datasets.synthetic.hair import Haircut
from deja_vu.datasets.synthetic.noise import fractal_noise
from deja_vu.datasets.synthetic.paint import Complexion, paint_neck, paint_skin
from deja_vu.heads import load_head
from deja_vu.render.mesh import rasterize_mesh

FOCAL = 1.62
"""Focal length in widths of the picture, about that of a phone's front camera cropped to the head."""
CLOSE_FOCAL = 2.4
"""The same of a close film, which the head fills: its crop reaches beyond the picture above and at both sides."""
SAMPLES = 2
"""Samples of a pixel along each axis, where something ends in it."""
SMOOTH_STEP = 0.002
"""Depths in a pixel may differ by this much before it counts as one where something ends, meters."""
IDENTITY_SPREAD = 0.7
"""Standard deviation of the identity's coefficients."""
IDENTITY_LIMIT = 1.6
"""Bound of the identity's coefficients."""
EYE_RECESS = (0.0020, 1.2)
"""Reach of the shade at the rims of the eyes, radians, and the shift of the upper rim's shade in units of the reach."""
MOUTH_RECESS = (0.0046, 0.8)
"""The same of the mouth."""
EXPOSURE = 1.35
"""Brightness before the tone curve."""
SENSOR_NOISE = 1.1
"""Deviation of a pixel in 1/255."""


ROOM_COLORS = np.array([[0.20, 0.25, 0.26], [0.26, 0.22, 0.17], [0.17, 0.21, 0.19], [0.23, 0.20, 0.24]], np.float32)
"""Walls."""
BEIGE = np.array([0.52, 0.42, 0.30], np.float32)
"""Wall of a close film."""


@dataclass(frozen=True)
class SyntheticFrame:
    """One picture and its ground truth masks."""

    image: UInt8[np.ndarray, "H W 3"]
    """sRGB."""
    foreground: UInt8[np.ndarray, "H W"]
    """Alpha of the figure, shirt and hair included."""
    parts: UInt8[np.ndarray, "H W"]
    """Index into `PARTS` of what the pixel's center shows."""


@dataclass(frozen=True)
class _SampleGrid:
    """Fragments of a camera's samples, row by row."""

    camera: Camera
    part: UInt8[Tensor, " n"]
    face: Int[Tensor, " n"]
    bary: Float[Tensor, "n 3"]
    depth: Float[Tensor, " n"]


@dataclass(frozen=True)
class _PosedFigure:
    """The figure in one frame, world space."""

    vertices: Float[Tensor, "V 3"]
    normals: Float[Tensor, "V 3"]
    along: Float[Tensor, "V 3"]


@dataclass(frozen=True)
class _SurfacePoints:
    """Surface points behind samples."""

    face: Int[Tensor, " n"]
    corners: Int[Tensor, "n 3"]
    bary: Float[Tensor, "n 3"]
    shading: shade.ShadingPoints


class SyntheticSubject:
    """One person, one clip. Everything follows from the constructor's arguments."""

    def __init__(
        self, frames: int = 150, size: int = 512, seed: int = 2, fps: float = 25.0, *, random_style: bool = False, close: bool = False
    ) -> None:
        """Create a person; nothing is rendered yet.

        Args:
            frames: length of the clip.
            size: width and height of the picture in pixels.
            seed: chooses the person and what happens.
            fps: frame rate, 1/s.
            random_style: whether the seed chooses light and haircut too.
            close: whether the head fills the picture, before a beige wall near behind it.
        """
        self.size, self.seed, self.fps = size, seed, fps
        self.head = load_head("anny")
        draw = np.random.default_rng([seed, 0]).normal(0, IDENTITY_SPREAD, self.head.spec.num_shape)
        shape = torch.from_numpy(draw.clip(-IDENTITY_LIMIT, IDENTITY_LIMIT)).float()
        self.params: HeadParams = act(self.head, shape, frames, fps, seed)
        """Truth in the head model's terms, T frames; the neck joint carries most of each turn."""
        self.camera: Camera = Camera.from_focal((CLOSE_FOCAL if close else FOCAL) * size, size, size)
        """Truth: one fixed camera at the world's origin."""
        self.complexion = Complexion.draw(seed)
        self.lighting = shade.Lighting.draw(seed) if random_style else shade.Lighting()
        self.figure = Figure(self.head, shape, seed, Haircut.draw(seed) if random_style else Haircut())
        bust = self.figure.bust
        self._skin = np.concatenate([paint_skin(self.head, self.complexion).color, paint_neck(bust, self.complexion).color])
        self._cloth = paint_shirt(bust, self.complexion)
        self._room = paint_wall(size, seed) if close else paint_room(size, seed)
        self._eye_directions = self._find_eye_directions()
        self._part_of_face = torch.cat([torch.zeros(1), self.figure.part]).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.params)

    def frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The pictures in order."""
        for index in range(len(self)):
            yield self.render(index).image

    def pupils(self, index: int) -> Float[Tensor, "2 3"]:
        """World position of the left and the right pupil's front in one frame, meters."""
        vertices = self.head(self.params[index])
        return torch.stack([_interpolate(vertices, *self._find_eye_front(side))[0] for side in ("left", "right")])

    def render(self, index: int, camera: Camera | None = None) -> SyntheticFrame:
        """Draw one frame.

        Args:
            index: of the frame.
            camera: another one than that which films; it sees the person over white, and without the sensor's noise.
        """
        view = self.camera if camera is None else camera
        vertices, normals, along = self.figure.pose(self.params[index])
        posed = _PosedFigure(vertices, normals, along)
        grids = [self._rasterize(vertices, view.resize(view.width * fineness, view.height * fineness)) for fineness in (1, SAMPLES)]
        covered = (grids[1].part > 0).float().reshape(view.height * SAMPLES, -1).numpy()
        foreground = cv2.resize(covered, (view.width, view.height), interpolation=cv2.INTER_AREA)
        linear, alpha = self._radiance(grids[0], grids[1], posed), foreground[..., None]
        if camera is None:
            image = self._expose(linear + self._room * (1 - alpha), index)
        else:
            image = np.round(alpha * _develop(linear / np.maximum(alpha, 1e-3)) + 255 * (1 - alpha)).astype(np.uint8)
        parts = grids[0].part.reshape(view.height, view.width).numpy()
        return SyntheticFrame(image, np.round(foreground * 255).astype(np.uint8), parts)

    def _rasterize(self, vertices: Tensor, camera: Camera) -> _SampleGrid:
        fragments = rasterize_mesh(vertices, self.figure.faces, camera)
        part = self._part_of_face.index_select(0, fragments.face_id.flatten() + 1)
        return _SampleGrid(camera, part, fragments.face_id.flatten(), fragments.bary.flatten(0, 1), fragments.depth.flatten())

    def _radiance(self, coarse: _SampleGrid, fine: _SampleGrid, posed: _PosedFigure) -> Float[np.ndarray, "H W 3"]:
        """Light towards the camera, zero where the room shows; one sample in smooth pixels, `SAMPLES` squared in the others."""
        smooth = _smooth_pixels(coarse, fine)
        height, width = coarse.camera.height, coarse.camera.width
        smooth_fine = smooth.reshape(height, 1, width, 1).expand(-1, SAMPLES, -1, SAMPLES).flatten()
        lit = self._key_light(coarse, posed.vertices)
        out = torch.zeros(height * width, 3)
        for number, name in enumerate(PARTS[1:], 1):
            one = torch.nonzero((coarse.part == number) & smooth)[:, 0]
            many = torch.nonzero((fine.part == number) & ~smooth_fine)[:, 0]
            if len(one) + len(many) == 0:
                continue
            row = many // fine.camera.width
            pixel = torch.cat([one, row // SAMPLES * width + (many - row * fine.camera.width) // SAMPLES])
            points = self._gather_points(coarse, one, fine, many, posed, lit.index_select(0, pixel))
            radiance = self._shade(name, points, fine.camera, many, posed)
            radiance[len(one) :] /= SAMPLES**2
            out.index_add_(0, pixel, radiance)
        return out.reshape(height, width, 3).numpy()

    def _gather_points(
        self, coarse: _SampleGrid, one: Tensor, fine: _SampleGrid, many: Tensor, posed: _PosedFigure, lit: Tensor
    ) -> _SurfacePoints:
        face = torch.cat([coarse.face.index_select(0, one), fine.face.index_select(0, many)])
        bary = torch.cat([coarse.bary.index_select(0, one), fine.bary.index_select(0, many)])
        ray = torch.cat([_sample_rays(one, coarse.camera), _sample_rays(many, fine.camera)])
        corners = self.figure.faces.index_select(0, face)
        openness = _interpolate(self.figure.openness[:, None], corners, bary)[:, 0]
        return _SurfacePoints(
            face,
            corners,
            bary,
            shade.ShadingPoints(_normalize(_interpolate(posed.normals, corners, bary)), -_normalize(ray), openness, lit, self.lighting),
        )

    def _shade(self, name: str, points: _SurfacePoints, camera: Camera, sample: Tensor, posed: _PosedFigure) -> Float[Tensor, "n 3"]:
        """Radiance of one part's points; `sample` are their places on the camera's grid, for parts that lie in openings."""
        if name == "skin":
            color = self._sample_texture(self._skin, points)
            return shade.shade_skin(color[:, :3], color[:, 3], points.shading)
        if name == "eyes":
            return self._shade_eyes(points, _recess_light(sample, camera, EYE_RECESS))
        if name == "mouth":
            return self._shade_mouth(points, _recess_light(sample, camera, MOUTH_RECESS))
        if name == "lashes":
            return torch.from_numpy(0.5 * self.complexion.hair + 0.04 * self.complexion.skin).repeat(len(points.face), 1)
        if name == "hair":
            fiber = _normalize(_interpolate(posed.along, points.corners, points.bary))
            return shade.shade_hair(torch.from_numpy(self.complexion.hair) * points.shading.openness[:, None], fiber, points.shading)
        return shade.shade_cloth(self._sample_texture(self._cloth, points), points.shading)

    def _key_light(self, grid: _SampleGrid, vertices: Tensor) -> Float[Tensor, " n"]:
        """Share of the key light that reaches each pixel, with soft edges."""
        shadow = shade.cast_shadows(vertices, self.figure.casters, self.params.world_from_head[0, :3, 3], self.lighting.key)
        pixel = torch.nonzero(grid.part)[:, 0]
        rotation, translation = grid.camera.camera_from_world[:3, :3], grid.camera.camera_from_world[:3, 3]
        places = _sample_rays(pixel, grid.camera) * grid.depth[pixel, None] - translation @ rotation
        height, width = grid.camera.height, grid.camera.width
        both = torch.zeros(height * width, 2)
        both[pixel] = torch.stack([shadow.light_up(places), torch.ones(len(pixel))], dim=1)
        side = max(3, int(width * 0.009) | 1)
        blurred = cv2.blur(cv2.blur(both.reshape(height, width, 2).numpy(), (side, side)), (side, side))
        return torch.from_numpy(np.clip(blurred[..., 0] / np.maximum(blurred[..., 1], 1e-3), 0.0, 1.0)).flatten()

    def _sample_texture(self, texture: Float[np.ndarray, "H W C"], points: _SurfacePoints) -> Float[Tensor, "n C"]:
        """What is painted at the points."""
        place = (self.figure.uv.index_select(0, points.face) * points.bary[..., None]).sum(1)
        uv = place.numpy() * [texture.shape[1], texture.shape[0]] - 0.5
        rows = -(-len(uv) // 1024)  # cv2.remap wants a picture, no side over 32,767
        padded = np.zeros((2, rows * 1024), np.float32)
        padded[:, : len(uv)] = uv.T
        u, v = padded.reshape(2, rows, 1024)
        found = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return torch.from_numpy(found.reshape(-1, texture.shape[2])[: len(uv)])

    def _shade_eyes(self, points: _SurfacePoints, open_: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        q = _normalize(_interpolate(self._eye_directions, points.corners, points.bary))
        return shade.shade_eyes(q, torch.from_numpy(self.complexion.iris), open_, points.shading)

    def _shade_mouth(self, points: _SurfacePoints, open_: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        """Teeth, tongue and gums; the deeper the darker."""
        regions = self.head.topology.regions
        teeth = (regions["teeth_upper"] | regions["teeth_lower"])[points.face]
        rest = _interpolate(self.head.template, points.corners, points.bary)
        gap = torch.cos(torch.atan2(rest[:, 0], rest[:, 2] - 0.045) * 2 * torch.pi * 5.5 + torch.pi).clamp_min(0) ** 24
        enamel = torch.tensor([0.62, 0.56, 0.47]) * (1 - 0.45 * gap[:, None])
        flesh = torch.where(regions["tongue"][points.face][:, None], torch.tensor([0.40, 0.14, 0.13]), torch.tensor([0.22, 0.06, 0.05]))
        color = torch.where(teeth[:, None], enamel, flesh)
        depth = ((rest[:, 2] - 0.03) / 0.055).clamp(0.05, 1) ** 1.5
        gloss = torch.where(teeth, 0.9, 0.6) * depth
        shading = replace(points.shading, openness=points.shading.openness.clamp_max(0.7) * depth, lit=0.2 + 0.8 * points.shading.lit)
        return shade.shade_skin(color, gloss, shading) * (depth * open_)[:, None]

    def _expose(self, linear: np.ndarray, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Tone curve, sRGB's gamma and the sensor's noise."""
        noise = np.random.default_rng([self.seed, 4, index]).standard_normal(linear.shape, np.float32)
        return np.clip(_develop(linear) + SENSOR_NOISE * noise + 0.5, 0, 255).astype(np.uint8)

    def _find_eye_directions(self) -> Float[Tensor, "V 3"]:
        """Direction of each eyeball vertex from its center, z along the eyeball's axis; zero elsewhere."""
        directions = torch.zeros_like(self.head.template)
        for side in ("left", "right"):
            ball = self.head.topology.faces[self.head.topology.regions[f"eye_{side}"]].unique()
            around = _normalize(self.head.template[ball] - self.head.joint_pivots[self.head.spec.joint_names.index(f"eye_{side}")])
            axis = _normalize(around[around[:, 2].topk(8).indices].mean(0, keepdim=True))[0]  # the innermost ring has eight vertices
            across = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), axis)
            across = across / across.norm()
            directions[ball] = around @ torch.stack([across, torch.linalg.cross(axis, across), axis], dim=1)
        return directions

    def _find_eye_front(self, side: str) -> tuple[Int[Tensor, "1 3"], Float[Tensor, "1 3"]]:
        """Corners and barycentric coordinates of the point that the eyeball's axis goes through, where `_shade_eyes` paints the pupil."""
        ball = self.head.topology.faces[self.head.topology.regions[f"eye_{side}"]]
        front = ball[self._eye_directions[ball][..., 2].amin(1) > 0.5]
        weight = torch.linalg.solve(self._eye_directions[front].double().transpose(1, 2), torch.tensor([0.0, 0.0, 1.0]).double())
        weight = (weight / weight.sum(1, keepdim=True)).float()
        hit = weight.amin(1).argmax()
        return front[hit, None], weight[hit, None]


def paint_room(size: int, seed: int) -> Float[np.ndarray, "s s 3"]:
    """A room far out of focus: a wall, a bright window, shelves. Linear."""
    rng = np.random.default_rng([seed, 5])
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    wall = ROOM_COLORS[rng.integers(len(ROOM_COLORS))] * (0.7 + 0.55 * columns - 0.3 * rows)[..., None]
    picture = wall.astype(np.float32)
    picture[(rows > 0.44) & (rows < 0.465) & (columns > 0.6)] = [0.20, 0.11, 0.05]
    for shelf in (0.44, 0.78):
        x = 0.62
        while x < 1.0:
            width, tall = rng.uniform(0.018, 0.05), rng.uniform(0.08, 0.2)
            book = (columns > x) & (columns < x + width) & (rows > shelf - tall) & (rows < shelf)
            picture[book] = rng.uniform(0.04, 0.4) * rng.uniform(0.35, 1.4, 3)
            x += width + rng.choice([0.004, 0.05])
    window = (columns > -1) & (columns < 0.2) & (rows > 0.04) & (rows < 0.6)
    picture[window] = [0.85, 0.95, 1.1]
    picture[window & ((np.abs(columns - 0.1) < 0.009) | (np.abs(rows - 0.32) < 0.009))] = 0.2
    plant = fractal_noise(np.stack([columns.ravel(), rows.ravel()], axis=1), 0.045, 2, seed + 52).reshape(size, size)
    leaves = np.hypot((columns - 0.13) / 0.13, (rows - 0.72) / 0.16) < 0.85 + 0.7 * plant
    picture[leaves] = [0.035, 0.11, 0.04]
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.02 * size, borderType=cv2.BORDER_REFLECT)
    grain = fractal_noise(np.stack([columns.ravel(), rows.ravel()], axis=1), 0.12, 2, seed + 51).reshape(size, size, 1)
    return (blurred * (0.8 + 0.05 * grain)).astype(np.float32)


def paint_wall(size: int, seed: int) -> Float[np.ndarray, "s s 3"]:
    """A beige wall in focus: light from the left, the plaster's grain. Linear."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    places = np.stack([columns.ravel(), rows.ravel()], axis=1)
    grain = sum(fractal_noise(places, scale, 2, seed + 53).reshape(size, size, 1) for scale in (0.015, 0.2))
    return (BEIGE * (1.1 - 0.3 * columns - 0.1 * rows)[..., None] * (1 + 0.06 * grain)).astype(np.float32)


def _develop(linear: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Tone curve and sRGB's gamma, 0 to 255."""
    return (1 - np.exp(-EXPOSURE * np.maximum(linear, 0))) ** np.float32(1 / 2.2) * 255


def _interpolate(values: Float[Tensor, "V C"], corners: Tensor, bary: Tensor) -> Float[Tensor, "n C"]:
    """Values of vertices at points of triangles."""
    a, b, c = (values.index_select(0, corners[:, k]) for k in range(3))
    return a.mul_(bary[:, :1]).addcmul_(b, bary[:, 1:2]).addcmul_(c, bary[:, 2:3])


def _smooth_pixels(coarse: _SampleGrid, fine: _SampleGrid) -> Bool[Tensor, " n"]:
    """Pixels inside skin or cloth without an edge of anything in them."""
    height, width = coarse.camera.height, coarse.camera.width
    part, depth = (
        values.reshape(height, SAMPLES, width, SAMPLES).permute(1, 3, 0, 2).reshape(SAMPLES**2, -1) for values in (fine.part, fine.depth)
    )
    plain = (coarse.part == PARTS.index("skin")) | (coarse.part == PARTS.index("shirt"))
    return plain & (part == coarse.part).all(0) & (depth.amax(0) - depth.amin(0) < SMOOTH_STEP)


def _normalize(vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-9)


def _sample_rays(sample: Int[Tensor, " n"], camera: Camera) -> Float[Tensor, "n 3"]:
    """Direction of each sample in world axes, at depth one."""
    row = sample // camera.width
    x = (sample - row * camera.width + 0.5 - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
    y = (row + 0.5 - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1]
    return torch.stack([x, y, torch.ones_like(x)], dim=1) @ camera.camera_from_world[:3, :3]


def _recess_light(sample: Int[Tensor, " n"], camera: Camera, rim: tuple[float, float]) -> Float[Tensor, " n"]:
    """Light in an opening by its own silhouette: 1 in the middle of a wide one, less at its rim, least under the upper rim.

    Args:
        sample: indices of the samples that show it.
        camera: their grid.
        rim: reach of the rim's shade, radians, and how far that of the upper rim is shifted down, in units of the reach.
    """
    unit = float(camera.intrinsics[1, 1]) * rim[0]
    mask = torch.zeros(camera.height * camera.width)
    mask[sample] = 1.0
    box = max(3, round(2.2 * unit) | 1)
    wide = cv2.blur(cv2.blur(mask.reshape(camera.height, camera.width).numpy(), (box, box)), (box, box))
    shaded = np.minimum(wide, 1.1 * np.roll(wide, round(rim[1] * unit), axis=0))
    return torch.from_numpy(np.clip(0.3 + 0.9 * (shaded * 1.55 - 0.55), 0.2, 1.0)).flatten()[sample]
