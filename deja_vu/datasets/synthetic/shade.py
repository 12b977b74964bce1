"""Light on skin, eyes, hair and cloth. Directions are in camera axes (x right, y down, z forward), colors linear."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.render.mesh import rasterize_mesh


@dataclass(frozen=True)
class Lamp:
    """A far lamp."""

    towards: tuple[float, float, float]
    """Direction in which it is seen; any length."""
    color: tuple[float, float, float]
    """Radiance times pi."""


@dataclass(frozen=True)
class Lighting:
    """Light of a scene; by default that of a room with a window."""

    key: Lamp = Lamp((-0.6, -0.55, -0.75), (1.35, 1.24, 1.10))
    fill: Lamp = Lamp((0.85, -0.05, -0.65), (0.26, 0.30, 0.36))
    rim: Lamp = Lamp((0.75, -0.55, 0.6), (0.75, 0.80, 0.88))
    sky: tuple[float, float, float] = (0.22, 0.24, 0.27)
    """From above."""
    ground: tuple[float, float, float] = (0.11, 0.085, 0.075)
    """From below."""

    @staticmethod
    def draw(seed: int) -> Lighting:
        """Key light from any side and height before the face, hard or soft, warm or cold."""
        rng = np.random.default_rng([seed, 6])
        side, height = rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 0.1)
        warmth = np.exp(rng.normal(0, 0.1) * np.array([1.0, 0.0, -1.2]))
        hardness = rng.uniform(0.35, 1.1)
        around = 2.2 - hardness
        lighting = Lighting()

        def tint(lamp: Lamp, towards: tuple[float, float, float], strength: float) -> Lamp:
            return Lamp(towards, _to_triple(strength * warmth * lamp.color))

        sky, ground = (_to_triple(around * np.array(color) * warmth) for color in (lighting.sky, lighting.ground))
        key = tint(lighting.key, (side, height, -0.75), hardness)
        fill = tint(lighting.fill, (-1.4 * side, -0.05, -0.65), around * rng.uniform(0.5, 1.5))
        return Lighting(key, fill, tint(lighting.rim, (-1.25 * side, -0.55, 0.6), rng.uniform(0, 1.2)), sky, ground)


SKIN_WRAP = (0.38, 0.20, 0.15)
"""Wrap of diffuse light into the shade, by channel: red goes farthest."""
SHADOW_SIZE = 416
"""Side of the shadow map, pixels."""
SHADOW_DISTANCE = 4.0
"""Distance of its camera, meters."""
SHADOW_FIELD = 0.8
"""Width of what it sees, meters."""
IRIS_ANGLE = math.asin(0.0062 / 0.0149)
"""Half angle of the iris seen from the eyeball's center."""
PUPIL_ANGLE = math.asin(0.0023 / 0.0149)
"""Half angle of the pupil seen from the eyeball's center."""


@dataclass(frozen=True)
class ShadingPoints:
    """Surface points as shading needs them: normals, view and light."""

    normal: Float[Tensor, "n 3"]
    """Unit, outward."""
    view: Float[Tensor, "n 3"]
    """Unit, towards the camera."""
    openness: Float[Tensor, " n"]
    """Share of the surroundings that the point sees."""
    lit: Float[Tensor, " n"]
    """1 where the key light reaches it, 0 in its shadow."""
    lighting: Lighting


@dataclass(frozen=True)
class ShadowMap:
    """Depth of the scene as the key light sees it."""

    camera: Camera
    depth: Float[Tensor, "s s"]
    """Meters; 9 where there is nothing."""

    def light_up(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """1 where the key light reaches a world point, 0 where something is well in front of it."""
        pixels, depth = self.camera.project(points)
        index = (pixels - 0.5).round().long().clamp(0, SHADOW_SIZE - 1)
        blocker = self.depth[index[:, 1], index[:, 0]]
        return 1 - ((depth - blocker - 0.004) / 0.006).clamp(0, 1)


def cast_shadows(vertices: Float[Tensor, "V 3"], faces: Tensor, center: Float[Tensor, "3"], key: Lamp) -> ShadowMap:
    """The shadow map of a mesh.

    Args:
        vertices: world space, meters.
        faces: vertex indices.
        center: middle of what has to be covered.
        key: the lamp.
    """
    camera = camera_along(-lamp_direction(key), center, SHADOW_DISTANCE, SHADOW_FIELD, SHADOW_SIZE)
    fragments = rasterize_mesh(vertices, faces, camera)
    return ShadowMap(camera, torch.where(fragments.face_id >= 0, fragments.depth, torch.full_like(fragments.depth, 9.0)))


def camera_along(forward: Float[Tensor, "3"], center: Float[Tensor, "3"], distance: float, field: float, size: int) -> Camera:
    """A square camera far off, so that it is nearly orthographic.

    Args:
        forward: unit viewing direction in the world.
        center: point in the middle of the picture.
        distance: of the camera from it, meters.
        field: width of what is seen there, meters.
        size: pixels a side.
    """
    helper = torch.tensor([1.0, 0.0, 0.0]) if forward[1].abs() > 0.9 else torch.tensor([0.0, 1.0, 0.0])
    right = torch.linalg.cross(helper, forward)
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ (center - forward * distance)
    flat = Camera.from_focal(size * distance / field, size, size)
    return Camera(pose, flat.intrinsics, size, size)


def lamp_direction(light: Lamp) -> Float[Tensor, "3"]:
    """Unit vector towards a lamp."""
    towards = torch.tensor(light.towards)
    return towards / towards.norm()


def shade_skin(color: Float[Tensor, "n 3"], gloss: Float[Tensor, " n"], at: ShadingPoints) -> Float[Tensor, "n 3"]:
    """Radiance of skin.

    Args:
        color: reflectance.
        gloss: strength of the highlight, 0 to 1.
        at: the points.
    """
    normal, view, open_, lit, lighting = at.normal, at.view, at.openness, at.lit, at.lighting
    wrap = torch.tensor(SKIN_WRAP)
    lit3 = lit[:, None] ** torch.tensor([0.75, 1.0, 1.1])  # a shadow's edge on skin is red
    light = _ambient_light(normal, lighting) * _bounce_light(open_, color)
    light = light + _wrap_light(normal, lighting.key, wrap) * lit3
    light = (
        light
        + _wrap_light(normal, lighting.fill, wrap) * (0.35 + 0.65 * open_[:, None])
        + _wrap_light(normal, lighting.rim, wrap) * open_[:, None]
    )
    facing = (normal * view).sum(1).clamp(0, 1)
    fresnel = 0.035 + 0.45 * (1 - facing) ** 5
    shine = torch.zeros_like(color)
    for lamp, exponent, strength in (
        (lighting.key, 14.0, 0.8),
        (lighting.key, 55.0, 1.6),
        (lighting.rim, 18.0, 1.2),
        (lighting.fill, 18.0, 0.8),
    ):
        half = view + lamp_direction(lamp)
        lobe = (normal * half).sum(1) / half.norm(dim=1)
        amount = strength * (exponent + 8) / 25 * lobe.clamp(0, 1) ** exponent * (lit if lamp is lighting.key else open_)
        shine = shine + (amount * fresnel * gloss * open_)[:, None] * torch.tensor(lamp.color)
    return color * light + shine


def shade_cloth(color: Float[Tensor, "n 3"], at: ShadingPoints) -> Float[Tensor, "n 3"]:
    """Radiance of cloth: diffuse, with a soft bright edge.

    Args:
        color: reflectance.
        at: the points.
    """
    wrap, lighting = torch.full((3,), 0.15), at.lighting
    soft = _ambient_light(at.normal, lighting) + _wrap_light(at.normal, lighting.fill, wrap) + _wrap_light(at.normal, lighting.rim, wrap)
    light = soft * at.openness[:, None] + _wrap_light(at.normal, lighting.key, wrap) * at.lit[:, None]
    fuzz = 0.25 * (1 - (at.normal * at.view).sum(1).clamp(0, 1)) ** 3
    return color * light * (1 + fuzz[:, None])


def shade_hair(color: Float[Tensor, "n 3"], along: Float[Tensor, "n 3"], at: ShadingPoints) -> Float[Tensor, "n 3"]:
    """Radiance of hair (Kajiya and Kay, SIGGRAPH 1989): fibers scatter round their axis, with two highlights.

    Args:
        color: reflectance.
        along: unit direction of the fiber.
        at: the points, with normals outward from the tuft.
    """
    normal, view, lit, lighting = at.normal, at.view, at.lit, at.lighting
    total = color * _ambient_light(normal, lighting) * 0.8
    for lamp, reach in ((lighting.key, 0.25 + 0.75 * lit), (lighting.fill, torch.ones_like(lit)), (lighting.rim, torch.ones_like(lit))):
        towards = lamp_direction(lamp)
        across = (1 - (along @ towards) ** 2).clamp_min(0).sqrt()
        facing = ((normal @ towards + 0.3) / 1.3).clamp(0, 1) * reach
        half = view + towards
        half = half / half.norm(dim=1, keepdim=True)
        sine = (1 - (along * half).sum(1) ** 2).clamp_min(0).sqrt()
        white, tinted = 0.055 * sine**90, 0.55 * sine**22
        total = total + (facing[:, None] * torch.tensor(lamp.color)) * (color * (0.75 * across + tinted)[:, None] + white[:, None])
    return total


def shade_eyes(q: Float[Tensor, "n 3"], iris: Float[Tensor, "3"], lids: Float[Tensor, " n"], at: ShadingPoints) -> Float[Tensor, "n 3"]:
    """Radiance of eyeballs.

    Args:
        q: unit direction from the eyeball's center in the eyeball's own axes (z through the pupil).
        iris: reflectance of the iris.
        lids: 1 far from the lids, less beside them.
        at: the points.
    """
    normal, view, lighting, wrap = at.normal, at.view, at.lighting, torch.full((3,), 0.3)
    color, mirror = paint_eye(q, iris)
    light = (
        _ambient_light(normal, lighting)
        + _wrap_light(normal, lighting.key, wrap) * (0.3 + 0.7 * at.lit[:, None])
        + _wrap_light(normal, lighting.fill, wrap)
    )
    total = color * light * lids[:, None]
    for lamp, strength in ((lighting.key, 3.0), (lighting.fill, 0.8)):
        half = view + lamp_direction(lamp)
        lobe = ((normal * half).sum(1) / half.norm(dim=1)).clamp(0, 1)
        glint = torch.sigmoid((lobe - math.cos(math.radians(8.0))) * 1800.0)
        total = total + (strength * glint * mirror * (0.3 + 0.7 * lids))[:, None] * torch.tensor(lamp.color)
    return total


def paint_eye(q: Float[Tensor, "n 3"], iris: Float[Tensor, "3"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Reflectance of the eyeball, and how clearly it mirrors lamps (the cornea more than the white).

    Args:
        q: unit direction from the eyeball's center, z through the pupil.
        iris: mean reflectance of the iris.
    """
    angle = torch.acos(q[:, 2].clamp(-1, 1))
    turn = torch.atan2(q[:, 1], q[:, 0])
    r = angle / IRIS_ANGLE
    fibers = 0.5 + 0.25 * torch.sin(turn * 23 + 3 * torch.sin(turn * 5)) + 0.25 * torch.sin(turn * 41 + 7 * r)
    collar = torch.exp(-(((r - 0.52) / 0.13) ** 2))
    ring = _step(r, 0.72, 1.0)
    inside = iris * ((0.7 + 0.9 * fibers * r) * (1 - 0.75 * ring) + 0.7 * collar)[:, None]
    inside = inside + (torch.tensor([0.10, 0.06, 0.02]) * (collar * 0.35)[:, None])
    inside = inside * (1 - _step(angle, PUPIL_ANGLE * 1.06, PUPIL_ANGLE * 0.94) * 0.985)[:, None]
    pink = _step(angle, 0.5, 1.15)
    white = torch.tensor([0.60, 0.56, 0.53]) * (1 - pink[:, None] * torch.tensor([0.15, 0.42, 0.42]))
    edge = _step(r, 1.06, 0.95)[:, None]
    return white * (1 - edge) + inside * edge, 0.35 + 0.65 * _step(r, 1.25, 1.0)


def _to_triple(color: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in color)
    return red, green, blue


def _step(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _ambient_light(normal: Float[Tensor, "n 3"], lighting: Lighting) -> Float[Tensor, "n 3"]:
    up = (0.5 - 0.5 * normal[:, 1:2]).clamp(0, 1)
    return torch.tensor(lighting.ground) + (torch.tensor(lighting.sky) - torch.tensor(lighting.ground)) * up


def _bounce_light(open_: Float[Tensor, " n"], color: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Darkening of a hollow whose walls have this color: bright walls return some of the light."""
    o = open_[:, None]
    return o / (1 - color.clamp(0, 0.9) * (1 - o))


def _wrap_light(normal: Float[Tensor, "n 3"], lamp: Lamp, wrap: Float[Tensor, "3"]) -> Float[Tensor, "n 3"]:
    facing = (normal @ lamp_direction(lamp))[:, None]
    return ((facing + wrap) / (1 + wrap)).clamp_min(0) * torch.tensor(lamp.color)
