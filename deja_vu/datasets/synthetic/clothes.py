"""A knitted shirt on the bust: cut at the neckline, raised above the skin, with folds, a ribbed collar and stripes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.datasets.synthetic.noise import fractal_noise, smooth_step, value_noise
from deja_vu.datasets.synthetic.paint import Complexion, blend, chart_texels, fill_chart
from deja_vu.heads.bust import BustModel

NECKLINE = (-0.134, 0.053)
"""Height and depth of the neckline's front on the mean bust, meters."""
NECKLINE_SLOPE = 0.25
"""Of the neckline, lower in front, meters per meter."""
OPENING = (0.074, 0.088)
"""Half width and half depth of the opening for the neck, meters."""
OPENING_DEPTH = -0.012
"""Depth of its middle, meters."""
ROUND_CORNER = 0.012
"""Radius with which the two bounds of the neckline go over into each other, meters."""
COLLAR = 0.017
"""Width of the collar, meters."""
COLLAR_RISE = 0.0024
"""Height of its middle above the cloth below, meters."""
THINNEST = 0.0022
"""Least height of cloth above the skin, meters."""
EASE = 0.006
"""Additional height where the shirt hangs, meters."""
FOLDS = 0.0075
"""Height of its folds, meters."""
ROUNDING = 0.75
"""How far middles of edges move towards the planes of both ends (Phong tessellation, SIGGRAPH Asia 2008)."""
STRIPE = 0.026
"""Period of the stripes, meters."""
ZIGZAG = 0.003
"""Height of their zigzag, meters."""
TEETH = 40
"""Of the zigzag round the neck."""
RIBS = 84
"""Of the collar."""
WALE = 0.0052
"""Period of the knit's upright ribs, meters."""


@dataclass(frozen=True)
class Shirt:
    """Triangles that follow the bust's surface."""

    start: Int[Tensor, " m"]
    """Every point of the cut lies on an edge of the bust, from this vertex"""
    end: Int[Tensor, " m"]
    """to this one,"""
    share: Float[Tensor, "m 1"]
    """this part of the way."""
    middles: Int[Tensor, "k 2"]
    """Points of the cut between which further vertices lie half way."""
    source: Int[Tensor, " n"]
    """Which of those points each vertex is on; the rim of the collar has two vertices on one."""
    height: Float[Tensor, "n 1"]
    """Above the skin, meters."""
    faces: Int[Tensor, "F 3"]
    uv: Float[Tensor, "F 3 2"]
    """In the bust's chart."""

    def wear(self, skin: Float[Tensor, "V 3"], normals: Float[Tensor, "V 3"]) -> Float[Tensor, "n 3"]:
        """The shirt's vertices over a posed bust."""
        up = self.spread(normals)
        return self.spread(skin) + self.height * up / up.norm(dim=1, keepdim=True)

    def spread(self, values: Float[Tensor, "V C"]) -> Float[Tensor, "n C"]:
        """Values of the bust's vertices on the shirt's."""
        cut = torch.lerp(values[self.start], values[self.end], self.share)
        return torch.cat([cut, cut[self.middles].mean(1)])[self.source]


def neckline_height(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """How far points of the mean bust lie above the neckline, meters: above a plane, and within a cylinder about the neck."""
    height, depth = NECKLINE
    above = points[:, 1] - height + NECKLINE_SLOPE * (points[:, 2] - depth)
    within = OPENING[0] * (1 - np.hypot(points[:, 0] / OPENING[0], (points[:, 2] - OPENING_DEPTH) / OPENING[1]))
    return (above + within - np.hypot(above - within, ROUND_CORNER)) / 2


def sew_shirt(bust: BustModel, normals: Float[Tensor, "V 3"], seed: int) -> Shirt:
    """A sweater with a round collar.

    Args:
        bust: to be dressed.
        normals: of its mean surface.
        seed: chooses the folds.
    """
    ends, faces, uv = _cut(bust)
    middles, faces, uv = _halve_edges(faces, uv)
    count, share = len(ends) + len(middles), ends[:, 2].astype(np.float32)
    on_neckline = np.concatenate([share > 0, (share[middles] > 0).all(1)])
    faces, uv, fold = _turn_in(faces, uv, on_neckline)
    shirt = Shirt(
        start=torch.from_numpy(ends[:, 0].astype(int)),
        end=torch.from_numpy(ends[:, 1].astype(int)),
        share=torch.from_numpy(share[:, None]),
        middles=torch.from_numpy(middles),
        source=torch.from_numpy(np.concatenate([np.arange(count), fold])),
        height=torch.zeros(count + len(fold), 1),
        faces=torch.from_numpy(faces),
        uv=torch.from_numpy(uv),
    )
    height = _find_height(shirt, bust, seed) + _round_edges(shirt, len(ends), bust.template, normals)
    height[count:] = 0.0
    return replace(shirt, height=height)


def _cut(bust: BustModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What lies below the neckline: edge and share of each point [m 3], triangles of points, and their places in the chart [F 3 2]."""
    above = neckline_height(bust.template.numpy())
    chart = bust.topology.uv[bust.topology.uv_faces].numpy()
    point_of: dict[tuple[int, int], int] = {}
    ends: list[tuple[int, int, float]] = []
    faces, uv = [], []
    for face, places in zip(bust.topology.faces.tolist(), chart, strict=True):
        polygon: list[tuple[int, np.ndarray]] = []
        for i, j in ((0, 1), (1, 2), (2, 0)):
            a, b = face[i], face[j]
            if above[a] < 0:
                polygon.append((point_of.setdefault((a, a), len(point_of)), places[i]))
                ends += [(a, a, 0.0)] * (len(point_of) > len(ends))
            if (above[a] < 0) != (above[b] < 0):
                part = above[a] / (above[a] - above[b])
                low, high = min(a, b), max(a, b)
                polygon.append((point_of.setdefault((low, high), len(point_of)), places[i] + part * (places[j] - places[i])))
                ends += [(low, high, part if a == low else 1 - part)] * (len(point_of) > len(ends))
        for k in range(1, len(polygon) - 1):
            faces.append([polygon[c][0] for c in (0, k, k + 1)])
            uv.append([polygon[c][1] for c in (0, k, k + 1)])
    return np.array(ends), np.array(faces), np.array(uv, np.float32)


def _halve_edges(faces: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four triangles for each: the pairs of points that new vertices lie between, numbered after the points, and the triangles."""
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), axis=1)
    middles, index = np.unique(edges, axis=0, return_inverse=True)
    between = faces.max() + 1 + index.reshape(-1, 3)
    uv_between = (uv + np.roll(uv, -1, 1)) / 2

    def split(corner: np.ndarray, middle: np.ndarray) -> np.ndarray:
        near = [np.stack([corner[:, k], middle[:, k], middle[:, k - 1]], 1) for k in range(3)]
        return np.concatenate([*near, middle])

    return middles, split(faces, between), split(uv, uv_between)


def _turn_in(faces: np.ndarray, uv: np.ndarray, on_neckline: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Close the gap between collar and skin: triangles with a strip along the neckline, and the vertices that its inner side repeats."""
    edges = np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2)
    rim = np.flatnonzero(on_neckline[edges].all(1))
    known = {tuple(edge) for edge in edges[rim].tolist()}
    rim = rim[[(b, a) not in known for a, b in edges[rim].tolist()]]
    (a, b), place = edges[rim].T, np.stack([uv, np.roll(uv, -1, 1)], 2).reshape(-1, 2, 2)[rim]
    fold = np.unique(edges[rim])
    inner = np.zeros(len(on_neckline), int)
    inner[fold] = len(on_neckline) + np.arange(len(fold))
    strip = [np.stack([b, a, inner[a]], 1), np.stack([b, inner[a], inner[b]], 1)]
    return np.concatenate([faces, *strip]), np.concatenate([uv, place[:, [1, 0, 0]], place[:, [1, 0, 1]]]), fold


def _find_height(shirt: Shirt, bust: BustModel, seed: int) -> Float[Tensor, "n 1"]:
    """Height of usual clothes, more where the shirt hangs, with folds and a collar."""
    rest = shirt.spread(bust.template).numpy()
    below = -neckline_height(rest)
    usual = shirt.spread(bust.clothing[:, None]).numpy()[:, 0]
    loose = smooth_step(below, 1.5 * COLLAR, 0.1)
    folds = FOLDS * fractal_noise(rest * np.array([1.0, 0.55, 1.0], np.float32), 0.07, 3, seed + 41)
    across = np.clip(2 * below / COLLAR - 1, -1, 1)
    collar = COLLAR_RISE * np.sqrt(1 - across**2)
    height = np.maximum(usual + loose * (EASE + folds), THINNEST) + collar
    return torch.from_numpy(height.astype(np.float32))[:, None]


def _round_edges(shirt: Shirt, points: int, surface: Tensor, normals: Tensor) -> Float[Tensor, "n 1"]:
    """How far middles of edges rise above the flat triangles of a surface, so that its outline is round."""
    edge = torch.lerp(surface[shirt.start], surface[shirt.end], shirt.share)[shirt.middles]
    up = torch.lerp(normals[shirt.start], normals[shirt.end], shirt.share)[shirt.middles]
    up = up / up.norm(dim=2, keepdim=True)
    half = (edge[:, 1] - edge[:, 0]) / 2
    moved = (-(half * up[:, 0]).sum(1, keepdim=True) * up[:, 0] + (half * up[:, 1]).sum(1, keepdim=True) * up[:, 1]) / 2
    middle = up.mean(1)
    rise = ROUNDING * (moved * middle / middle.norm(dim=1, keepdim=True)).sum(1, keepdim=True)
    return torch.cat([torch.zeros(points, 1), rise])[shirt.source]


def paint_shirt(bust: BustModel, complexion: Complexion) -> Float[np.ndarray, "s s 3"]:
    """Reflectance of the knit in the bust's chart: stripes, flecks of wool, upright ribs, a plain collar."""
    rows, columns, faces, bary = chart_texels(bust.topology)
    rest = (bust.template[bust.topology.faces[faces]] * bary[..., None]).sum(1).numpy()
    below = -neckline_height(rest)
    bright = complexion.shirt.mean() > 0.2
    other = 0.3 * complexion.shirt + (0.02 if bright else np.array([0.24, 0.22, 0.19], np.float32))
    angle = np.arctan2(rest[:, 0], rest[:, 2] - OPENING_DEPTH)
    zigzag = 4 * ZIGZAG * (np.abs(angle * TEETH / (2 * np.pi) % 1 - 0.5) - 0.25)
    phase = np.abs((below - COLLAR + zigzag) / STRIPE % 1 - 0.5) * STRIPE
    stripe = smooth_step(phase, 0.0048, 0.004) * smooth_step(below, COLLAR + 0.001, COLLAR + 0.003)
    color = blend(np.tile(complexion.shirt, (len(rest), 1)), other, 0.85 * stripe)
    flecks = smooth_step(value_noise(rest, 0.0026, complexion.seed + 45), 0.8, 0.92)
    color = blend(color, 0.5 * color + 0.12, 0.45 * flecks)
    ribs = np.where(below < COLLAR, np.cos(RIBS * angle), np.cos(2 * np.pi * (rest[:, 0] + 0.6 * rest[:, 2]) / WALE))
    wool = (
        1
        + 0.1 * ribs
        + 0.22 * (value_noise(rest, 0.0022, complexion.seed + 46) - 0.5)
        + 0.12 * fractal_noise(rest, 0.03, 3, complexion.seed + 47)
    )
    return fill_chart(rows, columns, (color * wool[:, None]).astype(np.float32))
