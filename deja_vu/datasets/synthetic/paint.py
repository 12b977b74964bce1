"""The skin of a synthetic person, painted once into the head's texture chart.

Everything is a function of the position on the mean neutral head, in meters (x to the subject's left, y up, z out of the face),
so it sits at the same place on every identity and moves with every expression. Colors are linear, not sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadTopology
from deja_vu.datasets.synthetic.noise import fractal_noise, smooth_step, value_noise
from deja_vu.heads.base import HeadModel
from deja_vu.heads.bust import BustModel
from deja_vu.render.mesh import rasterize_mesh

TEXTURE_SIZE = 1024
LIGHT_SKIN = np.array([0.74, 0.42, 0.29], np.float32)
"""Reflectance of skin without melanin."""
DARK_SKIN = np.array([0.17, 0.085, 0.055], np.float32)
"""Reflectance of skin with the most melanin."""
HAIR_COLORS = np.array(
    [[0.018, 0.012, 0.009], [0.06, 0.03, 0.016], [0.13, 0.065, 0.03], [0.3, 0.17, 0.075], [0.16, 0.05, 0.02]], np.float32
)
IRIS_COLORS = np.array([[0.12, 0.175, 0.225], [0.09, 0.16, 0.09], [0.13, 0.06, 0.02], [0.06, 0.028, 0.012], [0.16, 0.13, 0.05]], np.float32)
SHIRT_COLORS = np.array([[0.03, 0.07, 0.13], [0.06, 0.12, 0.09], [0.2, 0.05, 0.045], [0.3, 0.28, 0.25], [0.05, 0.05, 0.055]], np.float32)
BROW_LINE = np.array([[0.0115, 0.0525], [0.018, 0.0558], [0.026, 0.0583], [0.035, 0.0594], [0.043, 0.0575], [0.0505, 0.0525]], np.float32)
"""Middle of the left brow from nose to temple, x and y."""
MOLES = np.array(
    [
        [0.031, -0.018, 0.094],
        [-0.05, 0.012, 0.079],
        [-0.014, -0.052, 0.1],
        [0.024, 0.082, 0.093],
        [-0.034, 0.07, 0.088],
        [0.055, -0.03, 0.066],
    ]
)
"""Positions of moles to choose from, on the mean head, meters."""
HAIRLINE_ANGLE = [0.0, 20.0, 38.0, 50.0, 60.0, 68.0, 76.0, 84.0, 92.0, 104.0, 118.0, 135.0, 180.0]
HAIRLINE_HEIGHT = [0.104, 0.104, 0.097, 0.082, 0.066, 0.05, 0.022, 0.036, 0.05, 0.046, 0.02, -0.02, -0.04]
"""Lowest hair on the mean head by the angle from the front in the horizontal plane, degrees and meters."""


@dataclass(frozen=True)
class Complexion:
    """Colors and marks of a person."""

    skin: Float[np.ndarray, "3"]
    """Mean reflectance."""
    hair: Float[np.ndarray, "3"]
    """Reflectance."""
    iris: Float[np.ndarray, "3"]
    """Reflectance."""
    shirt: Float[np.ndarray, "3"]
    """Reflectance."""
    freckles: float
    """0 none to 1 many."""
    brow: float
    """Thickness of the brows in units of the usual one."""
    seed: int
    """Chooses every random detail."""

    @staticmethod
    def draw(seed: int) -> Complexion:
        """A person's colors, chosen by a seed."""
        rng = np.random.default_rng([seed, 1])
        melanin = rng.beta(1.6, 2.6)
        skin = LIGHT_SKIN ** (1 - melanin) * DARK_SKIN**melanin
        dark_only = melanin > 0.4
        hair = HAIR_COLORS[rng.integers(2 if dark_only else len(HAIR_COLORS))]
        iris = IRIS_COLORS[rng.integers(2, 4) if dark_only else rng.integers(len(IRIS_COLORS))]
        freckles = 0.0 if dark_only else float(rng.uniform(0, 1))
        return Complexion(skin, hair, iris, SHIRT_COLORS[rng.integers(len(SHIRT_COLORS))], freckles, float(rng.uniform(0.85, 1.15)), seed)


@dataclass(frozen=True)
class SkinTexture:
    """Painted chart; v grows downwards as in `HeadTopology.uv`."""

    color: Float[np.ndarray, "s s 4"]
    """Reflectance, and gloss in [0, 1]; padded beyond the chart's border."""


def paint_skin(head: HeadModel, complexion: Complexion) -> SkinTexture:
    """The texture of the outer skin with brows, lips, lash lines, freckles and the ground of the hair."""
    rows, columns, faces, bary = chart_texels(head.topology)
    skin = head.topology.regions["skin"][faces]
    rows, columns, faces, bary = rows[skin], columns[skin], faces[skin], bary[skin]
    corners = head.topology.faces[faces]
    rest = (head.template[corners] * bary[..., None]).sum(1).numpy()
    lips = (_vertex_share(head, "lips")[corners] * bary).sum(1).numpy()
    color, gloss = _paint_complexion(rest, complexion)
    color = blend(color, _lip_color(rest, complexion), smooth_step(lips, 0.25, 0.8) * 0.85)
    gloss = np.maximum(gloss, 0.75 * smooth_step(lips, 0.3, 0.8))
    color = blend(color, complexion.hair * 0.5 + 0.004, 0.9 * brow_coverage(rest, complexion))
    color = blend(color, complexion.hair * 0.5 + 0.15 * complexion.skin, 0.7 * _lash_line(head, faces, rest))
    color = _cover_with_hair(color, rest, complexion)
    return SkinTexture(fill_chart(rows, columns, np.concatenate([color, gloss[:, None]], axis=1)))


def paint_neck(bust: BustModel, complexion: Complexion) -> SkinTexture:
    """The texture of the bust's skin, which goes on where the head's ends."""
    rows, columns, faces, bary = chart_texels(bust.topology)
    rest = (bust.template[bust.topology.faces[faces]] * bary[..., None]).sum(1).numpy()
    color, gloss = _paint_complexion(rest, complexion)
    color = _cover_with_hair(color, rest, complexion)
    return SkinTexture(fill_chart(rows, columns, np.concatenate([color, gloss[:, None]], axis=1)))


def _cover_with_hair(color: np.ndarray, rest: np.ndarray, complexion: Complexion) -> np.ndarray:
    """The ground of the hair over skin."""
    return blend(color, complexion.hair * 0.6, 0.85 * hair_coverage(rest, fractal_noise(rest, 0.008, 2, complexion.seed + 9)))


def hair_coverage(rest: Float[np.ndarray, "n 3"], ragged: Float[np.ndarray, " n"] | float = 0.0) -> Float[np.ndarray, " n"]:
    """Coverage by hair of points on the mean head, 0 to 1."""
    angle = np.degrees(np.arctan2(np.abs(rest[:, 0]), rest[:, 2] - 0.012))
    line = np.interp(angle, HAIRLINE_ANGLE, HAIRLINE_HEIGHT) + 0.005 * ragged
    ear = (np.abs(rest[:, 0]) > 0.0735) & (rest[:, 1] < 0.05) & (rest[:, 2] < 0.03)
    return np.where(ear, 0.0, smooth_step(rest[:, 1] - line, -0.004, 0.005))


def brow_coverage(rest: Float[np.ndarray, "n 3"], complexion: Complexion) -> Float[np.ndarray, " n"]:
    """Density of the brows' hairs, 0 to 1: short slanted strokes that end softly."""
    x, y = np.abs(rest[:, 0]), rest[:, 1]
    middle = np.interp(x, BROW_LINE[:, 0], BROW_LINE[:, 1])
    along = (x - BROW_LINE[0, 0]) / (BROW_LINE[-1, 0] - BROW_LINE[0, 0])
    half = complexion.brow * np.interp(along, [0.0, 0.2, 0.6, 1.0], [0.0030, 0.0036, 0.0028, 0.0010])
    across = (y - middle) / half
    near = (np.abs(across) < 1.8) & (along > -0.08) & (along < 1.08) & (rest[:, 2] > 0.05)
    slant = np.interp(along, [0.0, 0.4, 1.0], [0.25, 0.9, 1.6]).astype(np.float32)
    side = np.where(rest[:, 0] > 0, 0.0, 50.0)
    strokes = np.stack([(x - slant * (y - middle)) / 0.00055, (y - middle + slant * x) / 0.004 + side], axis=1)
    hairs = value_noise(strokes, 1.0, complexion.seed + 21)
    body = smooth_step(np.abs(across), 1.5, 0.35) * smooth_step(along, -0.06, 0.12) * smooth_step(along, 1.06, 0.85)
    return np.where(near, np.clip(body * (0.45 + 1.0 * hairs), 0, 1), 0.0)


def _paint_complexion(rest: np.ndarray, complexion: Complexion) -> tuple[np.ndarray, np.ndarray]:
    """Color and gloss of bare skin."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    mirrored = np.stack([x, y, z], axis=1)
    blotches = fractal_noise(rest, 0.022, 3, complexion.seed)
    redness = 0.10 * fractal_noise(rest, 0.012, 3, complexion.seed + 1)
    for center, radius, strength in (
        ((0.045, 0.0, 0.085), 0.018, 0.28),
        ((0.0, 0.006, 0.116), 0.012, 0.26),
        ((0.08, 0.02, 0.0), 0.03, 0.22),
        ((0.0, -0.05, 0.1), 0.014, 0.12),
    ):
        redness += strength * _bump(mirrored, center, radius)
    tired = 0.22 * _bump(mirrored, (0.028, 0.027, 0.086), 0.009)
    value = 1 + 0.10 * blotches - 0.5 * tired
    color = complexion.skin * value[:, None] * (1 + redness[:, None] * np.array([0.25, -0.55, -0.45], np.float32))
    color *= 1 + 0.16 * (value_noise(rest, 0.0011, complexion.seed + 2)[:, None] - 0.5)
    spots = smooth_step(value_noise(rest, 0.0019, complexion.seed + 3), 0.8, 0.9)
    where = _bump(mirrored, (0.03, 0.01, 0.1), 0.03) + 0.3 * smooth_step(y, 0.06, 0.08)
    color = blend(
        color, complexion.skin * np.array([0.55, 0.38, 0.3], np.float32), complexion.freckles * 0.75 * np.clip(where, 0, 1) * spots
    )
    for mole in _place_moles(complexion.seed):
        spot = smooth_step(np.linalg.norm(rest - mole, axis=1), 0.0019, 0.0011)
        color = blend(color, complexion.skin * np.array([0.3, 0.2, 0.18], np.float32), 0.8 * spot)
    gloss = 0.32 + 0.25 * _bump(mirrored, (0.0, 0.012, 0.115), 0.014) + 0.18 * _bump(mirrored, (0.0, 0.08, 0.1), 0.03)
    return color.astype(np.float32), (gloss * (1 + 0.35 * fractal_noise(rest, 0.004, 2, complexion.seed + 4))).astype(np.float32)


def _place_moles(seed: int) -> np.ndarray:
    """A few marks on the front of the mean head."""
    rng = np.random.default_rng([seed, 2])
    return MOLES[rng.permutation(len(MOLES))[:4]] + rng.normal(0, 0.003, (4, 3)) * [1, 1, 0]


def _lip_color(rest: np.ndarray, complexion: Complexion) -> np.ndarray:
    """Redder than the skin, with upright wrinkles."""
    wrinkles = value_noise(rest[:, :2] * [1.0, 0.2], 0.0012, complexion.seed + 5)
    return (complexion.skin * np.array([0.72, 0.36, 0.38], np.float32) * (0.88 + 0.24 * wrinkles)[:, None]).astype(np.float32)


def _lash_line(head: HeadModel, faces: torch.Tensor, rest: np.ndarray) -> np.ndarray:
    """Dark rim of the lids, 0 to 1: near the roots of the lashes."""
    lids = head.topology.regions["lids"][faces].numpy()
    ball = torch.cat([head.joint_pivots[head.spec.joint_names.index(f"eye_{side}")][None] for side in ("left", "right")])
    points = head.template[head.topology.faces[head.topology.regions["lashes"]].flatten().unique()]
    reach = torch.cdist(points, ball).min(1).values
    roots = points[reach < reach.quantile(0.4)]
    line = np.zeros(len(rest), np.float32)
    near = np.flatnonzero(lids)
    distance = torch.cdist(torch.from_numpy(rest[near]), roots).min(1).values.numpy()
    line[near] = smooth_step(distance, 0.0016, 0.0006)
    return line


def chart_texels(topology: HeadTopology) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows and columns of the texels that the chart covers, with the triangle and barycentric coordinates of each."""
    plane = torch.cat([topology.uv * TEXTURE_SIZE, torch.ones(len(topology.uv), 1)], dim=1)
    pixel_grid = Camera(torch.eye(4), torch.eye(3), TEXTURE_SIZE, TEXTURE_SIZE)
    fragments = rasterize_mesh(plane, topology.uv_faces, pixel_grid)
    covered = fragments.face_id >= 0
    rows, columns = torch.where(covered)
    return rows, columns, fragments.face_id[covered], fragments.bary[covered]


def _vertex_share(head: HeadModel, region: str) -> Float[torch.Tensor, " V"]:
    """Part of the triangles round each vertex that belongs to a region: the region with a soft border."""
    inside = head.topology.regions[region].float().repeat_interleave(3)
    vertex = head.topology.faces.flatten()
    zero = torch.zeros(len(head.template))
    return zero.index_add(0, vertex, inside) / zero.index_add(0, vertex, torch.ones_like(inside)).clamp_min(1)


def fill_chart(rows: Int[Tensor, " n"], columns: Int[Tensor, " n"], values: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "s s C"]:
    """Painted texels as a texture; empty ones have what the nearest painted one has, so that filtering across the border finds paint."""
    texture = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE, values.shape[1]), np.float32)
    texture[rows, columns] = values
    empty = np.ones(texture.shape[:2], np.uint8)
    empty[rows, columns] = 0
    _, label = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    source = np.zeros((label.max() + 1, texture.shape[2]), np.float32)
    source[label[rows, columns]] = texture[rows, columns]
    return source[label]


def blend(below: np.ndarray, above: np.ndarray, cover: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """One color over another where it covers."""
    return (below + (above - below) * cover[:, None]).astype(np.float32)


def _bump(points: np.ndarray, center: tuple[float, float, float], radius: float) -> np.ndarray:
    return np.exp(-((points - np.array(center, np.float32)) ** 2).sum(1) / np.float32(2 * radius**2))
