"""A head of four hundred vertices made from formulas: for tests, and to show what a head model has to provide.

An ellipsoid with a nose on a neck, two eyeballs, one chart for the skin and one disk for each eye. Everything is smooth and
mirror-symmetric, so left and right expressions must mirror each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from deja_vu.core.head import HeadSpec, HeadTopology, LandmarkSet
from deja_vu.heads.base import HeadData, HeadModel

RINGS = 15
"""Rings of skin vertices below the crown."""
COLUMNS = 22
"""Vertices in each ring."""
NECK_RINGS = 3
"""The lowest rings, which form the neck."""
EYE_RINGS = 4
"""Rings of an eyeball's vertices around its front."""
EYE_COLUMNS = 8
"""Vertices in each of those."""
RADII = np.array([0.076, 0.112, 0.095])
EYE_RADIUS = 0.014
EYE_CENTERS = np.array([[0.032, 0.01, 0.078], [-0.032, 0.01, 0.078]])
"""Left, then right: the subject's left is +x."""
NOSE = np.array([0.0, -0.012, 0.096])
MOUTH = np.array([0.0, -0.052, 0.084])
PIVOTS = np.array([[0.0, -0.1, -0.01], [0.0, -0.015, 0.01], *EYE_CENTERS])
SKIN_CHART_HEIGHT = 0.8
"""The skin's chart takes this upper part of the atlas; the eyes' disks lie below it."""
EYE_DISKS = np.array([[0.9, 0.9], [0.1, 0.9]])
EYE_DISK_RADIUS = 0.08
SPEC = HeadSpec(
    name="toy",
    num_shape=6,
    expression_names=("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight", "browInnerUp"),
    joint_names=("neck", "jaw", "eye_left", "eye_right"),
)
# Ids of MediaPipe's face landmarks, and where they lie: longitude (0 in front, + to the subject's left) and polar angle in degrees.
SKIN_LANDMARKS = {
    1: (0, 96),
    10: (0, 55),
    13: (0, 114),
    14: (0, 121),
    33: (-38, 85),
    61: (-18, 118),
    133: (-12, 85),
    152: (0, 143),
    234: (-85, 92),
    263: (38, 85),
    291: (18, 118),
    362: (12, 85),
    454: (85, 92),
}
IRIS_LANDMARKS = {473: 0, 468: 1}
"""Ids of the iris centers, left and right eye."""
NECK_ANGLE = 150.0
"""Polar angle at which the ellipsoid ends and the neck begins, degrees."""


@dataclass(frozen=True)
class _Surface:
    """Vertices [V 3], chart [T 2], triangles in both, and which part every vertex belongs to (0 skin, 1 left eye, 2 right eye)."""

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    uv_faces: np.ndarray
    part: np.ndarray


def load() -> HeadModel:
    """The toy head: about 400 vertices, 6 identity components, 6 expressions with ARKit's names, neck, jaw and eye joints."""
    surface = _build_surface()
    tensors = {
        "template": surface.vertices,
        "shape_basis": _evaluate_on_surface(surface, _move_by_identity),
        "expression_basis": _evaluate_on_surface(surface, _move_by_expressions) * (surface.part == 0)[:, None],
        "joint_pivots": PIVOTS,
        "joint_shape_basis": _move_by_identity(PIVOTS),
        "skin_weights": _skin_weights(surface),
    }
    data = HeadData(**{name: torch.from_numpy(value).float() for name, value in tensors.items()}, parents=(-1, 0, 0, 0))
    topology = HeadTopology(
        faces=torch.from_numpy(surface.faces),
        uv=torch.from_numpy(surface.uv).float(),
        uv_faces=torch.from_numpy(surface.uv_faces),
        regions={name: torch.from_numpy(mask) for name, mask in _find_regions(surface).items()},
        landmarks={"mediapipe": _place_landmarks(surface)},
    )
    return HeadModel(SPEC, topology, data)


def _build_surface() -> _Surface:
    """Skin first, then the left and the right eyeball."""
    vertices, uv, faces, uv_faces = _build_skin()
    part = [np.zeros(len(vertices), dtype=np.int64)]
    for eye, (center, disk) in enumerate(zip(EYE_CENTERS, EYE_DISKS, strict=True)):
        ball, chart, triangles = _build_eyeball()
        faces = np.concatenate([faces, triangles + len(vertices)])
        uv_faces = np.concatenate([uv_faces, triangles + len(uv)])
        vertices = np.concatenate([vertices, ball * EYE_RADIUS + center])
        uv = np.concatenate([uv, chart * EYE_DISK_RADIUS + disk])
        part.append(np.full(len(ball), eye + 1))
    return _Surface(vertices, uv, faces, uv_faces, np.concatenate(part))


def _build_skin() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, chart and triangles of the skin; the chart is cut along the back, where longitude jumps from 180 to -180 degrees."""
    crown = np.array([[0.0, RADII[1], 0.0]])
    longitude = 2 * np.pi * (np.arange(COLUMNS) / COLUMNS - 0.5)
    rings = []
    for level in range(1, RINGS + 1):
        polar = np.radians(min(level / (RINGS - NECK_RINGS), 1) * NECK_ANGLE)
        below = max(level - (RINGS - NECK_RINGS), 0) * 0.02
        x, z = np.sin(longitude) * np.sin(polar), np.cos(longitude) * np.sin(polar)
        rings.append(np.stack([x * RADII[0], np.full(COLUMNS, np.cos(polar) * RADII[1] - below), z * RADII[2]], axis=1))
    vertices = np.concatenate([crown, *rings])
    vertices[:, 2] += 0.024 * _bump(vertices, NOSE, 0.018)
    # One more column in the chart than on the surface (the cut), and a crown for each column, which keeps its triangles upright.
    column, ring = np.meshgrid(np.arange(COLUMNS + 1), np.arange(1, RINGS + 1))
    uv = np.stack([column.ravel() / COLUMNS, ring.ravel() / RINGS * SKIN_CHART_HEIGHT], axis=1)
    crowns = np.stack([(np.arange(COLUMNS) + 0.5) / COLUMNS, np.zeros(COLUMNS)], axis=1)
    faces, uv_faces = [], []
    for c in range(COLUMNS):
        right = (c + 1) % COLUMNS
        faces.append([0, 1 + c, 1 + right])
        uv_faces.append([len(uv) + c, c, c + 1])
        for r in range(RINGS - 1):
            top, bottom = 1 + r * COLUMNS, 1 + (r + 1) * COLUMNS
            faces += [[top + c, bottom + c, bottom + right], [top + c, bottom + right, top + right]]
            top, bottom = r * (COLUMNS + 1) + c, (r + 1) * (COLUMNS + 1) + c
            uv_faces += [[top, bottom, bottom + 1], [top, bottom + 1, top + 1]]
    return vertices, np.concatenate([uv, crowns]), np.array(faces), np.array(uv_faces)


def _build_eyeball() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit ball looking along +z, open at the back, with its chart in the unit disk: distance from the center is the polar angle."""
    ring, column = (grid.ravel() for grid in np.meshgrid(np.arange(1, EYE_RINGS + 1), np.arange(EYE_COLUMNS), indexing="ij"))
    polar, turn = np.radians(ring / EYE_RINGS * 120), 2 * np.pi * column / EYE_COLUMNS
    ball = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    chart = np.stack([np.cos(turn), -np.sin(turn)], axis=1) * (ring / EYE_RINGS)[:, None]
    faces = []
    for c in range(EYE_COLUMNS):
        right = (c + 1) % EYE_COLUMNS
        faces.append([0, 1 + c, 1 + right])
        for r in range(EYE_RINGS - 1):
            inner, outer = 1 + r * EYE_COLUMNS, 1 + (r + 1) * EYE_COLUMNS
            faces += [[inner + c, outer + c, outer + right], [inner + c, outer + right, inner + right]]
    return np.concatenate([[[0.0, 0.0, 1.0]], ball]), np.concatenate([[[0.0, 0.0]], chart]), np.array(faces)


def _evaluate_on_surface(surface: _Surface, fields: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Evaluate displacement fields; an eyeball moves as one piece, by the value at its center."""
    anchor = surface.vertices.copy()
    for eye, center in enumerate(EYE_CENTERS):
        anchor[surface.part == eye + 1] = center
    return fields(anchor)


def _move_by_identity(points: np.ndarray) -> np.ndarray:
    """Displacement of points by one standard deviation of width, height, depth, nose, jaw width and eye distance [6 n 3]."""
    x, y, z = points.T
    zero = np.zeros_like(x)
    eyes = _bump(points, EYE_CENTERS[0], 0.02) - _bump(points, EYE_CENTERS[1], 0.02)
    return np.stack(
        [
            np.stack([0.05 * x, zero, zero], axis=1),
            np.stack([zero, 0.05 * y, zero], axis=1),
            np.stack([zero, zero, 0.05 * z], axis=1),
            np.stack([zero, zero, 0.004 * _bump(points, NOSE, 0.018)], axis=1),
            np.stack([0.1 * x * _chin_weight(points), zero, zero], axis=1),
            np.stack([0.003 * eyes, zero, zero], axis=1),
        ]
    )


def _move_by_expressions(points: np.ndarray) -> np.ndarray:
    """Displacement of skin points by each expression of `SPEC` at one [6 n 3]."""
    down_and_back, up_and_out = np.array([0.0, -0.022, -0.008]), np.array([0.006, 0.009, -0.002])
    corner, mirror = MOUTH + np.array([0.024, 0.0, -0.004]), np.array([-1.0, 1.0, 1.0])
    close = np.array([0.0, -0.003, 0.016])
    return np.stack(
        [
            _chin_weight(points)[:, None] * down_and_back,
            _bump(points, EYE_CENTERS[0], 0.018)[:, None] * close,
            _bump(points, EYE_CENTERS[1], 0.018)[:, None] * close,
            _bump(points, corner, 0.016)[:, None] * up_and_out,
            _bump(points, corner * mirror, 0.016)[:, None] * up_and_out * mirror,
            _bump(points, np.array([0.0, 0.035, 0.09]), 0.02)[:, None] * np.array([0.0, 0.008, 0.002]),
        ]
    )


def _bump(points: np.ndarray, center: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian of the distance to a center, 1 there."""
    return np.exp(-((points - center) ** 2).sum(1) / (2 * radius**2))


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _chin_weight(points: np.ndarray) -> np.ndarray:
    """Weight of points, 1 at the chin, 0 above the mouth, behind the jaw and on the neck."""
    _, y, z = points.T
    return _step(-y, 0.04, 0.06) * _step(z, 0.0, 0.04) * _step(y, -0.125, -0.1)


def _skin_weights(surface: _Surface) -> np.ndarray:
    """Weights of root, neck, jaw, left and right eye: the neck's lower end stays with the root, the chin follows the jaw."""
    head = _step(surface.vertices[:, 1], -0.15, -0.1)
    jaw = head * _chin_weight(surface.vertices)
    weights = np.stack([1 - head, head - jaw, jaw, np.zeros_like(head), np.zeros_like(head)], axis=1)
    for eye in (1, 2):
        weights[surface.part == eye] = np.eye(5)[2 + eye]
    return weights


def _find_regions(surface: _Surface) -> dict[str, np.ndarray]:
    """Named sets of triangles, by the part and the center of each."""
    part, center = surface.part[surface.faces[:, 0]], surface.vertices[surface.faces].mean(1)
    skin = part == 0
    neck = skin & (surface.vertices[surface.faces][:, :, 1].min(1) < np.cos(np.radians(NECK_ANGLE)) * RADII[1] - 1e-6)
    face = skin & ~neck & (center[:, 2] > 0.02) & (center[:, 1] < 0.07)
    lips = face & (np.abs(center - MOUTH) < [0.03, 0.014, 0.03]).all(1)
    scalp = skin & ~neck & ~face & (center[:, 1] > -0.04)
    return {"skin": skin, "face": face, "lips": lips, "scalp": scalp, "neck": neck, "eye_left": part == 1, "eye_right": part == 2}


def _place_landmarks(surface: _Surface) -> LandmarkSet:
    """A handful of MediaPipe's landmarks: skin points by longitude and polar angle, irises at the eyeballs' front."""
    found = []
    for longitude, polar in SKIN_LANDMARKS.values():
        ring = polar / NECK_ANGLE * (RINGS - NECK_RINGS)
        found.append(_find_in_chart(surface, np.array([longitude / 360 + 0.5, ring / RINGS * SKIN_CHART_HEIGHT])))
    for eye in IRIS_LANDMARKS.values():
        front = np.flatnonzero(surface.part == eye + 1)[0]
        found.append((int(np.flatnonzero(surface.faces[:, 0] == front)[0]), np.array([1.0, 0.0, 0.0])))
    ids = torch.tensor([*SKIN_LANDMARKS, *IRIS_LANDMARKS])
    bary = torch.from_numpy(np.stack([weights for _, weights in found])).float()
    return LandmarkSet(ids, torch.tensor([face for face, _ in found]), bary, torch.ones(len(ids)))


def _find_in_chart(surface: _Surface, point: np.ndarray) -> tuple[int, np.ndarray]:
    """The triangle whose image in the chart contains a point, and the point's barycentric coordinates in it."""
    corners = surface.uv[surface.uv_faces]
    system = np.concatenate([corners.transpose(0, 2, 1), np.ones((len(corners), 1, 3))], axis=1)
    bary = np.linalg.solve(system, np.broadcast_to(np.append(point, 1.0)[:, None], (len(corners), 3, 1)))[..., 0]
    face = int(bary.min(1).argmax())
    return face, bary[face]
