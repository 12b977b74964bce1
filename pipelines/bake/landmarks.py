"""Find where a landmark detector's points lie on the head by showing it painted renderings (last step of `bake.head`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams, LandmarkSet
from deja_vu.heads.base import HeadModel, surface_points
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.face_mesh import FaceMeshes

POINTS = 478
IRISES = np.arange(468, 478)
INNER_LIPS = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95])
"""MediaPipe's points on the inner rims of the lips; they coincide in pairs when the mouth is closed."""
VIEWS = ((0, 0), (-15, 0), (15, 0), (-30, 5), (30, 5), (0, -14), (0, 14))
"""Yaw and pitch of the head in each rendering, degrees."""
IMAGE = 640
DISTANCE = 0.8
"""From the camera to the head, meters."""
FOCAL = 1300.0
IRIS_ANGLE = np.radians(22)
"""Half angle of the iris seen from the eyeball's center."""
PUPIL_ANGLE = np.radians(8)
"""Half angle of the pupil seen from the eyeball's center."""
SNAP_PIXELS = 8
"""How far a point may lie from a surface it can belong to."""
GRAZING = 0.3
"""Cosine to the line of sight below which a point is not counted in a turned view: it slides along the contour."""
OUTER = 0.6
"""Share of the face's half width beyond which a point on the averted side is not counted."""


@dataclass(frozen=True)
class Rendering:
    """One picture of the head and the surface behind its pixels."""

    image: Array
    """Colors [H, W, 3], uint8."""
    rest: Float[Array, "H W 3"]
    """Where each pixel's surface point lies on the mean neutral head, meters."""
    facing: Float[Array, "H W"]
    """Cosine between surface normal and line of sight."""
    face_id: Int[Array, "H W"]


def paint(head: HeadModel, rest: Float[Array, "n 3"], face_id: Int[Array, " n"], tone: float) -> Float[Array, "n 3"]:
    """Colors that make a detector see a face: skin, lips, hair, brows, teeth and eyes with irises.

    Args:
        head: the head.
        rest: surface points on its mean neutral shape, meters.
        face_id: triangle of each point.
        tone: brightness of the skin in [0, 1].
    """
    skin = np.array([0.35, 0.22, 0.16]) + tone * np.array([0.5, 0.46, 0.4])
    colors: dict[str, Array | list[float]] = {"teeth_upper": [0.85, 0.83, 0.76], "teeth_lower": [0.85, 0.83, 0.76]}
    colors |= {"eye_socket": skin * 0.6, "lips": skin * [0.8, 0.55, 0.55], "scalp": [0.12, 0.09, 0.07]}
    colors |= {"mouth_inner": [0.25, 0.06, 0.06], "tongue": [0.6, 0.25, 0.25]}
    painted = np.tile(skin, (len(rest), 1))
    for region, color in colors.items():
        painted[head.topology.regions[region].numpy()[face_id]] = color
    pivots = head.joint_pivots.numpy()
    for side in ("left", "right"):
        eyeball = head.topology.regions[f"eye_{side}"].numpy()[face_id]
        around = rest - pivots[head.spec.joint_names.index(f"eye_{side}")]
        cosine = around @ optical_axis(head, side) / np.linalg.norm(around, axis=1).clip(1e-9)
        eye = np.where(cosine[:, None] > np.cos(IRIS_ANGLE), [[0.25, 0.15, 0.08]], [[0.88, 0.86, 0.84]])
        eye[cosine > np.cos(PUPIL_ANGLE)] = 0.02
        painted[eyeball] = eye[eyeball]
        across = np.abs(rest[:, 0]) - abs(pivots[-1, 0])  # from above the eye towards the temple
        middle = pivots[-1, 1] + 0.0175 - 9.0 * (across - 0.004) ** 2
        thick = 0.0036 - 0.09 * across.clip(0)
        brow = (np.abs(rest[:, 1] - middle) < thick) & (across > -0.019) & (across < 0.023) & (rest[:, 2] > 0.05)
        painted[brow & head.topology.regions["face"].numpy()[face_id]] = [0.1, 0.07, 0.05]
    return painted


def optical_axis(head: HeadModel, side: str) -> Float[Array, "3"]:
    """Unit vector from an eyeball's center through the middle of its innermost ring of vertices."""
    used = torch.unique(head.topology.faces[head.topology.regions[f"eye_{side}"]])
    around = (head.template[used] - head.joint_pivots[head.spec.joint_names.index(f"eye_{side}")]).numpy()
    front = around[np.argsort(-around[:, 2])[:8]].mean(0)
    return front / np.linalg.norm(front)


def draw(head: HeadModel, params: HeadParams, rng: np.random.Generator) -> Rendering:
    """Render one head under a random light, without lashes: the modeled ones are so thick that a detector takes them for the lids.

    Args:
        head: the head.
        params: one set of parameters; its pose puts the head before a camera at the origin.
        rng: source of the light and the skin tone.
    """
    vertices = head(params)
    faces = head.topology.faces * ~head.topology.regions["lashes"][:, None]  # a triangle of one vertex covers no pixel
    fragments = rasterize_mesh(vertices, faces, Camera.from_focal(FOCAL, IMAGE, IMAGE))
    hit = (fragments.face_id >= 0).numpy()
    face_id, bary = fragments.face_id[hit], fragments.bary[hit].to(vertices.dtype)
    corners = vertices[faces]
    flat = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.zeros_like(vertices).index_add_(0, faces.flatten(), flat.repeat_interleave(3, 0))
    normal = torch.nn.functional.normalize(surface_points(normals, faces[face_id], bary), dim=-1).numpy()
    sight = -torch.nn.functional.normalize(surface_points(vertices, faces[face_id], bary), dim=-1).numpy()
    rest = surface_points(head.template, faces[face_id], bary).numpy()
    light = np.array([rng.uniform(-0.5, 0.5), -0.5, -0.8])
    shade = 0.45 + 0.6 * (normal @ (light / np.linalg.norm(light))).clip(0)
    image, rests, facing = np.full((*hit.shape, 3), 0.6), np.zeros((*hit.shape, 3)), np.zeros(hit.shape)
    image[hit] = paint(head, rest, face_id.numpy(), rng.uniform(0.5, 1)) * shade[:, None]
    rests[hit], facing[hit] = rest, (normal * sight).sum(1)
    return Rendering((255 * image.clip(0, 1)).astype(np.uint8), rests, facing, fragments.face_id.numpy())


def pose(yaw: float, pitch: float) -> Float[Tensor, "4 4"]:
    """World from head that turns the head and sets it before a camera at the origin (degrees)."""
    (sy, sp), (cy, cp) = np.sin(np.radians([yaw, pitch])), np.cos(np.radians([yaw, pitch]))
    turn = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    world = np.eye(4)
    world[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ turn
    world[:3, 3] = [0, 0, DISTANCE] - world[:3, :3] @ [0, 0.01, 0.05]
    return torch.from_numpy(world).float()


def make_people(head: HeadModel, count: int, rng: np.random.Generator) -> list[HeadParams]:
    """Random identities in every view; mouths closed, open and smiling in turn."""
    names, people = head.spec.expression_names, []
    for person in range(count):
        neutral = head.neutral()
        shape = torch.from_numpy(rng.normal(0, 0.8, head.spec.num_shape)).float() * (person > 2)
        expression = neutral.expression.clone()
        if person % 3:
            expression[names.index("jawOpen")] = rng.uniform(0.25, 0.6)
        if person % 3 == 2:
            expression[[names.index("mouthSmileLeft"), names.index("mouthSmileRight")]] = float(rng.uniform(0.3, 0.8))
        people += [HeadParams(shape, expression, neutral.joints, pose(*view)) for view in VIEWS]
    return people


def nearest_belonging(rendering: Rendering, pixels: Float[Array, "n 2"], allowed: Bool[Array, " F"]) -> tuple[Array, Array, Array]:
    """Rest position [n, 3], distance in pixels [n] and cosine to the line of sight [n] of the closest allowed pixel."""
    shown = allowed[rendering.face_id] & (rendering.face_id >= 0)
    distance, (rows, cols) = distance_transform_edt(~shown, return_indices=True)
    col, row = np.floor(pixels).astype(int).clip(0, IMAGE - 1).T
    row_to, col_to = rows[row, col], cols[row, col]
    return rendering.rest[row_to, col_to], distance[row, col], rendering.facing[row_to, col_to]


def observe(head: HeadModel, bundle: Path, people: list[HeadParams], rng: np.random.Generator) -> tuple[Array, Array]:
    """Points on the mean head [n, P, 3] where the detector found each point (nan: not seen), and its own points [n, P, 3] (x, y, z)."""
    eyes = (head.topology.regions["eye_left"] | head.topology.regions["eye_right"]).numpy()
    skin = head.topology.regions["skin"].numpy()
    seen, raw = np.full((2, len(people), POINTS, 3), np.nan)
    find = FaceMeshes(bundle, 1, min_score=0.3)
    for index, params in enumerate(people):
        rendering = draw(head, params, rng)
        found = find(rendering.image)
        if not found:
            continue
        raw[index] = found[0].landmarks / IMAGE - [0.5, 0.5, 0]
        pixels = (raw[index, :, :2] + 0.5) * IMAGE
        for ids, allowed in ((np.arange(468), skin), (IRISES, eyes)):
            rest, distance, facing = nearest_belonging(rendering, pixels[ids], allowed)
            frontal, yaw = raw[index - index % len(VIEWS), ids, 0], VIEWS[index % len(VIEWS)][0]
            averted = frontal * yaw > 0
            slides = averted & ((facing < GRAZING) | (np.abs(frontal) > OUTER * np.nanmax(np.abs(frontal))))
            valid = (distance <= SNAP_PIXELS) & ~slides
            seen[index, ids[valid]] = rest[valid]
        if params.expression[head.spec.expression_names.index("jawOpen")] == 0:
            seen[index, INNER_LIPS] = np.nan
    print(f"detected in {np.isfinite(seen).any((1, 2)).sum()} of {len(people)} renderings")
    return seen, raw


def geometric_median(points: Float[Array, "n 3"]) -> Float[Array, "3"]:
    """Point with the least sum of distances (Weiszfeld)."""
    center = np.median(points, axis=0)
    for _ in range(50):
        weight = 1 / np.linalg.norm(points - center, axis=1).clip(1e-6)
        center = (weight[:, None] * points).sum(0) / weight.sum()
    return center


def mirror_pairs(points: Float[Array, "P 3"]) -> Int[Array, " P"]:
    """Point that each point becomes when left and right change places, given the points of a face seen from the front."""
    cost = np.linalg.norm(points[:, None] - points * [-1, 1, 1], axis=-1)
    partner = linear_sum_assignment(cost**2)[1]
    assert (partner[partner] == np.arange(len(partner))).all(), np.flatnonzero(partner[partner] != np.arange(len(partner)))
    return partner


def project_to(triangles: Float[Array, "F 3 3"], points: Float[Array, "n 3"]) -> tuple[Int[Array, " n"], Float[Array, "n 3"]]:
    """Closest triangle and barycentric coordinates for each point, searched among the triangles nearest by center."""
    _, near = cKDTree(triangles.mean(1)).query(points, k=24)
    a, b, c = (triangles[near][:, :, k] for k in range(3))
    steps = np.linspace(0, 1, 17)
    u, v = (g.ravel() for g in np.meshgrid(steps, steps))
    grid = np.stack([1 - u - v, u, v], 1)[u + v <= 1 + 1e-9]
    samples = np.einsum("gk,knmd->nmgd", grid, np.stack([a, b, c]))
    distance = np.linalg.norm(samples - points[:, None, None], axis=-1).reshape(len(points), -1)
    face, cell = np.divmod(distance.argmin(1), len(grid))
    return near[np.arange(len(points)), face], grid[cell]


def find_landmarks(head: HeadModel, bundle: Path, identities: int = 36, seed: int = 0) -> LandmarkSet:
    """MediaPipe's 478 points as places on the head, left and right alike.

    Each point is the geometric median of where it was seen; its weight falls from 1 where the sightings scatter by 2 mm or less.

    Args:
        head: the head without landmarks.
        bundle: MediaPipe's face landmarker.
        identities: random people shown, each in every view.
        seed: seed of the people and the lights.
    """
    rng = np.random.default_rng(seed)
    seen, raw = observe(head, bundle, make_people(head, identities, rng), rng)
    partner = mirror_pairs(np.nanmedian(raw[:: len(VIEWS)], axis=0))
    seen = np.concatenate([seen, seen[:, partner] * [-1, 1, 1]])
    clouds = [p[np.isfinite(p[:, 0])] for p in seen.swapaxes(0, 1)]
    centers = np.stack([geometric_median(cloud) for cloud in clouds])
    scatter = np.array([np.median(np.linalg.norm(cloud - center, axis=1)) for cloud, center in zip(clouds, centers, strict=True)])
    print("scatter mm: median {:.2f}, 90 % {:.2f}, largest {:.2f}".format(*1e3 * np.quantile(scatter, [0.5, 0.9, 1.0])))
    regions, triangles = head.topology.regions, head.template[head.topology.faces].numpy()
    faces, bary = np.zeros(POINTS, dtype=int), np.zeros((POINTS, 3))
    for ids, region in ((np.arange(468), regions["skin"]), (IRISES, regions["eye_left"] | regions["eye_right"])):
        members = np.flatnonzero(region.numpy())
        face, bary[ids] = project_to(triangles[members], centers[ids])
        faces[ids] = members[face]
    weight = ((0.002 / scatter) ** 1.5).clip(0.15, 1)
    columns = (np.arange(POINTS, dtype=np.int32), faces.astype(np.int32), bary.astype(np.float32), weight.astype(np.float32))
    return LandmarkSet(*map(torch.from_numpy, columns))
