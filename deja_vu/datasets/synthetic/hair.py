"""Hair for a synthetic person: triangles in the head's own space that follow the skull."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from deja_vu.datasets.synthetic.noise import fractal_noise, smooth_step
from deja_vu.datasets.synthetic.paint import hair_coverage
from deja_vu.heads.base import HeadModel

STRANDS = 4800
"""Strands of the hair, before those too near to an ear are left out."""
STRAND_POINTS = 5
"""Points along each strand."""
STRAND_WIDTH = [0.0009, 0.0019, 0.0017, 0.0006]
"""From root to tip, meters."""
EAR_CLEARANCE = 0.0045
"""Strands that come nearer to an ear are left out, meters."""


@dataclass(frozen=True)
class Haircut:
    """Length, lift and parting of hair."""

    length: float = 1.0
    """Of the strands, in units of a short cut's."""
    lift: float = 1.0
    """Height at which they stand off, in units of a short cut's."""
    parting: float = 0.024
    """Position of the parting on top, meters to the subject's left."""

    @staticmethod
    def draw(seed: int) -> Haircut:
        """Cropped to full, parted on either side or combed over from far out."""
        rng = np.random.default_rng([seed, 7])
        return Haircut(float(rng.uniform(0.35, 1.5)), float(rng.uniform(0.3, 1.7)), float(rng.uniform(-0.06, 0.06)))


@dataclass(frozen=True)
class Garment:
    """A mesh at rest in head space."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    along: Float[np.ndarray, "V 3"]
    """Unit direction of the fiber."""
    normal: Float[np.ndarray, "V 3"]
    """Unit outward direction."""
    shade: Float[np.ndarray, " V"]
    """Brightness factor about one."""


def grow_hair(head: HeadModel, rest: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"], seed: int, haircut: Haircut) -> Garment:
    """Short combed hair as flat strands over the scalp.

    Args:
        head: topology and mean surface, on which the hairline is drawn.
        rest: the person's neutral surface in head space.
        normals: of that surface.
        seed: chooses the roots and how strands stray.
        haircut: how it is cut and combed.
    """
    rng = np.random.default_rng([seed, 3])
    skin = head.topology.faces[head.topology.regions["skin"] & ~head.topology.regions["ears"]].numpy()
    roots, out = _draw_roots(head, rest, normals, skin, rng)
    ground = np.unique(skin)
    surface, surface_normal = rest[ground], normals[ground]
    clump = fractal_noise(roots, 0.012, 2, seed + 31)
    length, height = _trim(out)
    length *= haircut.length * (1 + 0.25 * clump + rng.uniform(-0.2, 0.15, len(roots)))
    height *= haircut.lift * (rng.uniform(0.25, 1.1, len(roots)) + 0.25 * clump)
    stray = rng.normal(0, 0.14, (len(roots), 3)) + 0.6 * np.stack([clump, fractal_noise(roots, 0.018, 2, seed + 32), clump], axis=1)
    path = np.empty((len(roots), STRAND_POINTS, 3), np.float32)
    up = np.empty_like(path)
    point, normal = roots, out
    for step in range(STRAND_POINTS):
        t = step / (STRAND_POINTS - 1)
        path[:, step], up[:, step] = point + normal * (height * (0.1 + 1.1 * t - 0.35 * t * t))[:, None], normal
        flow = _comb(roots, normal, haircut.parting) + stray * (0.4 + 0.6 * t)
        flow -= (flow * normal).sum(1, keepdims=True) * normal
        point = point + flow / np.linalg.norm(flow, axis=1, keepdims=True) * (length / (STRAND_POINTS - 1))[:, None]
        point, normal = _project_to_surface(point, surface, surface_normal)
    ears = torch.from_numpy(rest)[head.topology.faces[head.topology.regions["ears"]].unique()]
    free = torch.cdist(torch.from_numpy(path[:, 2:].reshape(-1, 3)), ears).amin(1).reshape(len(path), -1).amin(1).numpy() > EAR_CLEARANCE
    path, up, clump = path[free], up[free], clump[free]
    brightness = (0.85 + 0.3 * clump + rng.normal(0, 0.16, len(path))).clip(0.3, 1.6)
    return _build_ribbons(path, up, brightness, rng)


def _draw_roots(
    head: HeadModel, rest: np.ndarray, normals: np.ndarray, faces: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points of the scalp, evenly by area, with their normals."""
    corners = rest[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    template = head.template.numpy()
    area *= hair_coverage(template[faces].mean(1)) > 0
    picked = faces[rng.choice(len(faces), 2 * STRANDS, p=area / area.sum())]
    bary = rng.dirichlet([1.0, 1.0, 1.0], 2 * STRANDS)[..., None]
    mean = (template[picked] * bary).sum(1)
    kept = np.flatnonzero(hair_coverage(mean, fractal_noise(mean, 0.006, 2, 5)) > rng.uniform(0.5, 0.95, len(mean)))[:STRANDS]
    normal = (normals[picked[kept]] * bary[kept]).sum(1)
    return (rest[picked[kept]] * bary[kept]).sum(1), normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _trim(out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length and lift of a strand by where its root looks: long on top, short at the sides and the nape."""
    top = smooth_step(out[:, 1], -0.1, 0.75)
    front = smooth_step(out[:, 2], 0.1, 0.7) * top
    return 0.014 + 0.034 * top + 0.006 * front, 0.004 + 0.013 * top + 0.006 * front


def _comb(roots: np.ndarray, normal: np.ndarray, parting: float) -> np.ndarray:
    """Direction in which hair is combed: from the parting and the forehead to the sides and back, then down."""
    side = np.tanh((roots[:, 0] - parting) / 0.012)
    over = np.stack([side * 1.0, np.zeros_like(side), np.full_like(side, -0.45)], axis=1)
    down = np.tile([0.0, -1.0, -0.55], (len(side), 1))
    swept = np.stack([side * 0.9, np.full_like(side, 0.3), np.full_like(side, -0.6)], axis=1)
    top, front = smooth_step(normal[:, 1], 0.15, 0.8)[:, None], smooth_step(normal[:, 2], 0.2, 0.7)[:, None]
    return over * top + (swept * front + down * (1 - front)) * (1 - top)


def _project_to_surface(point: np.ndarray, surface: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop points onto a surface along the normals of its three nearest vertices."""
    distance, near = torch.cdist(torch.from_numpy(point).float(), torch.from_numpy(surface).float()).topk(3, dim=1, largest=False)
    weight = (1 / (distance.numpy() + 1e-4))[..., None]
    index = near.numpy()
    normal = (normals[index] * weight).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    away = (((point[:, None] - surface[index]) * normals[index]).sum(-1, keepdims=True) * weight).sum(1) / weight.sum(1)
    return point - away * normal, normal


def _build_ribbons(path: np.ndarray, up: np.ndarray, brightness: np.ndarray, rng: np.random.Generator) -> Garment:
    """Two rows of vertices along each strand, turned a little at random."""
    count, steps = path.shape[:2]
    along = np.gradient(path, axis=1)
    along /= np.linalg.norm(along, axis=2, keepdims=True)
    across = np.cross(along, up)
    across /= np.linalg.norm(across, axis=2, keepdims=True)
    turn = rng.uniform(-0.7, 0.7, (count, 1, 1))
    across = across * np.cos(turn) + np.cross(along, across) * np.sin(turn)
    t = np.linspace(0, 1, steps)
    width = np.interp(t, [0, 0.2, 0.5, 1], STRAND_WIDTH)[None, :, None] * rng.uniform(0.6, 1.3, (count, 1, 1))
    edges = np.stack([path - across * width / 2, path + across * width / 2], axis=2)
    normal = up + 0.35 * across * rng.choice([-1, 1], (count, 1, 1))
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    shade = brightness[:, None] * np.interp(t, [0, 0.35, 1], [0.55, 0.9, 1.1])
    index = np.arange(count * steps * 2).reshape(count, steps, 2)
    a, b, c, d = index[:, :-1, 0], index[:, :-1, 1], index[:, 1:, 0], index[:, 1:, 1]
    faces = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    return _make_garment(edges, faces, np.repeat(along, 2, axis=1), np.repeat(normal, 2, axis=1), np.repeat(shade, 2, axis=1))


def _make_garment(vertices: np.ndarray, faces: np.ndarray, along: np.ndarray, normal: np.ndarray, shade: np.ndarray) -> Garment:
    vertices, along, normal = (field.reshape(-1, 3).astype(np.float32) for field in (vertices, along, normal))
    return Garment(vertices, faces, along, normal, shade.ravel().astype(np.float32))
