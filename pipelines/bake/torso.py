"""Neck and torso of the base mesh: arms lowered, cut, dressed, and laid out on an atlas of their own (steps of `bake.bust`)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from scipy.sparse import coo_array, csr_array, diags_array, vstack
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from deja_vu.pipelines.bake.mesh import METERS_PER_UNIT, BaseMesh, Cut, Source, charts, clip, place, set_upright, split_quads

BUST_PLANE = 3.06
"""Height (MakeHuman space) of the cut below the chest: about 32 cm below the chin, above the elbows of lowered arms."""
HANGING = np.radians([[6.0, 6.0], [32.0, 32.0]])
"""How far the left and the right shoulder sink when the arms hang, and how far the upper arms turn down about the shoulder joints besides,
from the base mesh's raised ones, radians."""
HANGING_SPREAD = np.radians([[5.0], [6.0]])
"""Deviations of both between people."""
HANGING_UNEVEN = np.radians([[1.5], [3.0]])
"""Deviations of each side besides."""
NECK_BASE = (np.array([0.0, 5.55, 0.69]), np.array([0.0, 0.97, 0.24]))
"""Point and normal (MakeHuman space) of the plane above the collarbones and lowest vertebra of the neck, below which nothing turns."""
NECK_REACH = 1.0
"""Distance to either side beyond which nothing turns, decimeters."""
BREAST_TIPS = np.array([[0.325, 0.6985], [0.4365, 0.6985]])
"""Middles in the base mesh's chart of what clothes even out."""
BREAST_TIP = 0.017
"""Radius of that, in units of the chart."""
SHOULDER = 0.5
"""Distance to either side from which what looks up is a shoulder, decimeters."""
NECK_TURNS = 0.02
"""Share of the head's motion from which a face belongs to the neck."""
BUST_BOX = (0.0, 0.0, 1.0, 0.82)
"""Where the chart of neck and torso goes: left, top, right, bottom."""
NAPE_BOXES = {1: (0.30, 0.84, 0.49, 1.0), -1: (0.51, 0.84, 0.70, 1.0)}
"""Where the subject's left and right half of the nape go, seen from behind."""
HULL_ROUNDS = 3
"""Times that the garment's height is averaged with its neighbors', as the hull's large triangles would show."""
CLOTHED = 0.72
"""Least cosine between a vertex's normal and the way to its nearest point of the garment, where it is under the garment."""


@dataclass(frozen=True)
class Arms:
    """Shares of rows in the turns of both clavicles and both upper arms."""

    clavicle: Float[Array, "R 2"]
    upper: Float[Array, "R 2"]

    def lower(
        self, points: Float[Array, "*n R 3"], pivots: Float[Array, "*n 4 3"], drop: Float[Array, "2 2"] = HANGING
    ) -> Float[Array, "*n R 3"]:
        """Points with hanging arms.

        A vertex turns by its share of the whole angle: blending of turned positions would flatten the shoulders.

        Args:
            points: rows of people.
            pivots: their clavicle and shoulder joints, the left ones first.
            drop: turns of the left and right clavicle, then of the upper arms, radians.
        """
        for side, sign in ((0, -1), (1, 1)):
            clavicle, shoulder = pivots[..., 2 * side, :][..., None, :], pivots[..., 2 * side + 1, :][..., None, :]
            sunk = _roll(sign * drop[0, side] * self.clavicle[:, side])
            points = clavicle + np.einsum("rij,...rj->...ri", sunk, points - clavicle)
            shoulder = clavicle + (shoulder - clavicle) @ _roll(sign * drop[:1, side])[0].T
            points = shoulder + np.einsum("rij,...rj->...ri", _roll(sign * drop[1, side] * self.upper[:, side]), points - shoulder)
        return points


def draw_hanging(count: int, rng: np.random.Generator) -> Float[Array, "n 2 2"]:
    """Turns of random people's clavicles and upper arms."""
    return HANGING + HANGING_SPREAD * rng.normal(size=(count, 2, 1)) + HANGING_UNEVEN * rng.normal(size=(count, 2, 2))


def _roll(angle: Float[Array, " R"]) -> Float[Array, "R 3 3"]:
    """Rotations about z."""
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    rows = [np.cos(angle), -np.sin(angle), zero, np.sin(angle), np.cos(angle), zero, zero, zero, one]
    return np.stack(rows, -1).reshape(-1, 3, 3)


def read_arms(source: Source, rows: csr_array) -> Arms:
    """The rig's shares of every row."""
    rig = json.loads(source.read("mpfb2/rigs/standard/rig.default.json"))
    bones = rig.get("bones", rig)
    weights = json.loads(source.read("mpfb2/rigs/standard/weights.default.json"))["weights"]
    shares = np.zeros((rows.shape[1], 4))
    for bone, entries in weights.items():
        line = [bone]
        while bones[line[-1]]["parent"]:
            line.append(bones[line[-1]]["parent"])
        turned = [f"{name}.{side}" in line for side in "LR" for name in ("clavicle", "upperarm01")]
        if entries and any(turned):
            index, value = np.array(entries).T
            np.add.at(shares, index.astype(int), value[:, None] * turned)
    shares = rows @ shares
    return Arms(shares[:, 0::2], shares[:, 1::2])


def arm_pivots(base: BaseMesh) -> csr_array:
    """Matrix from body vertices to the joints that `Arms.lower` takes."""
    names = [f"joint-{side}-{joint}" for side in "lr" for joint in ("clavicle", "shoulder")]
    groups = [base.vertex_groups[name] for name in names]
    rows = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    share = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups])
    return coo_array((share, (rows, np.concatenate(groups))), shape=(len(groups), len(base.vertices))).tocsr()


def cut_bust(base: BaseMesh, lowered: Float[Array, "B 3"], dropped: Int[Array, "n 3"]) -> Cut:
    """Neck, torso and upper arms above the cut, with what an avatar of the head leaves out of the head's chart.

    Args:
        base: the full body.
        lowered: its vertices with hanging arms.
        dropped: body vertices of the head chart's faces that belong to the bust.
    """
    cut = clip(base, np.where(np.array(base.groups) == "body", "body", ""), lowered[:, 1] - BUST_PLANE)
    labels = charts(cut)
    wanted = {tuple(sorted(face)) for face in dropped.tolist()}
    ids = body_vertices(cut)
    below = labels == labels[np.argmin((cut.mix @ lowered)[cut.faces][..., 1].mean(1))]
    nape = np.array([tuple(sorted(face)) in wanted for face in ids[cut.faces].tolist()])
    assert nape.sum() == len(wanted), (nape.sum(), len(wanted))
    chosen = below | nape
    parts = np.where(nape, "nape", "torso")[chosen]
    vertices, faces = np.unique(cut.faces[chosen], return_inverse=True)
    texture, uv_faces = np.unique(cut.uv_faces[chosen], return_inverse=True)
    bust = Cut(cut.mix[vertices], cut.uv[texture], faces.reshape(-1, 3), uv_faces.reshape(-1, 3), parts)
    return replace(bust, mix=even_breasts(bust))


def even_breasts(cut: Cut) -> csr_array:
    """The bust's `mix` with the tips of the breasts as smooth as clothes show them: every vertex there is the mean of its neighbors."""
    where = np.zeros((cut.mix.shape[0], 2))
    where[cut.faces] = cut.uv[cut.uv_faces]
    tip = (np.linalg.norm(where[:, None] - BREAST_TIPS, axis=-1) < BREAST_TIP).any(1)
    near = neighbors(cut.faces)
    laplacian = (diags_array(near.sum(1)) - near).tocsr()[tip]
    filled = spsolve(laplacian[:, tip].tocsc(), -(laplacian[:, ~tip] @ cut.mix[~tip]).tocsc())
    order = np.concatenate([np.flatnonzero(~tip), np.flatnonzero(tip)])
    return vstack([cut.mix[~tip], csr_array(filled)]).tocsr()[np.argsort(order)]


def neighbors(faces: Int[Array, "F 3"]) -> csr_array:
    """1 for every two vertices that share an edge [V V]."""
    i, j = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    half = coo_array((np.ones(len(i)), (i, j)), shape=(faces.max() + 1,) * 2).tocsr()
    return half.maximum(half.T)


def body_vertices(cut: Cut) -> Int[Array, " V"]:
    """The body vertex that each vertex of a piece is, -1 where an edge was clipped."""
    return np.where(cut.mix.max(axis=1).toarray().ravel() > 1 - 1e-9, cut.mix.argmax(axis=1).ravel(), -1)


def harmonic(vertices: Float[Array, "V 3"], faces: Int[Array, "F 3"], fixed: Float[Array, " V"]) -> Float[Array, " V"]:
    """The smoothest values over a surface (cotangent Laplacian) that keep the given ones, NaN where none is given."""
    weights = np.zeros((3, len(faces)))
    for k in range(3):
        a, b = (vertices[faces[:, (k + turn) % 3]] - vertices[faces[:, k]] for turn in (1, 2))
        weights[k] = (a * b).sum(1) / np.linalg.norm(np.cross(a, b), axis=1).clip(1e-12)
    i, j = np.concatenate([faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]]).T
    half = coo_array((weights.ravel().clip(1e-3), (i, j)), shape=(len(vertices), len(vertices)))
    near = (half + half.T).tocsr()
    laplacian = (diags_array(np.asarray(near.sum(1)).ravel()) - near).tocsr()
    free = np.isnan(fixed)
    values = fixed.copy()
    values[free] = spsolve(laplacian[free][:, free].tocsc(), -laplacian[free][:, ~free] @ fixed[~free])
    return values


def neck_share(vertices: Float[Array, "V 3"], faces: Int[Array, "F 3"], seam: Int[Array, " n"]) -> Float[Array, " V"]:
    """How much of the head's motion each vertex follows: 1 at the seam, 0 below the neck's base, level at both ends.

    Args:
        vertices: MakeHuman space.
        faces: of the bust.
        seam: its vertices that the head's avatar has too.
    """
    fixed = np.full(len(vertices), np.nan)
    fixed[((vertices - NECK_BASE[0]) @ NECK_BASE[1] < 0) | (np.abs(vertices[:, 0]) > NECK_REACH)] = 0
    fixed[seam] = 1
    share = harmonic(vertices, faces, fixed).clip(0, 1)
    return share * share * (3 - 2 * share)


def distance_to(vertices: Float[Array, "V 3"], faces: Int[Array, "F 3"], start: Int[Array, " n"]) -> Float[Array, " V"]:
    """Length of the shortest way along edges to one of some vertices."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    graph = coo_array((length, edges.T), shape=(len(vertices), len(vertices))).tocsr()
    return dijkstra(graph.maximum(graph.T), directed=False, indices=start, min_only=True)


def clothing_height(base: BaseMesh, cut: Cut, faces: Int[Array, "F 3"], bare: Bool[Array, " V"]) -> Float[Array, " V"]:
    """Distance of the body's garment hull above the skin, meters; 0 on bare vertices and where the hull has ended.

    Args:
        base: the full body, arms raised.
        cut: the bust.
        faces: its faces.
        bare: vertices without clothes.
    """
    skin = cut.mix @ base.vertices
    hull = np.concatenate(split_quads(base, np.flatnonzero(np.array(base.groups) == "helper-tights"))[:1])
    weights = np.array([(i, j, 8 - i - j) for i in range(9) for j in range(9 - i)]) / 8
    samples = np.einsum("sk,fkc->fsc", weights, base.vertices[hull]).reshape(-1, 3)
    distance, nearest = cKDTree(samples).query(skin)
    away = (samples[nearest] - skin) / distance[:, None].clip(1e-9)
    normal = np.zeros_like(skin)
    corners = skin[faces]
    np.add.at(normal, faces, np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, None])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    covered = ((away * normal).sum(1) > CLOTHED) & ~bare
    fixed = np.where(covered, METERS_PER_UNIT * distance, np.nan)
    fixed[bare] = 0
    height, near = harmonic(skin, faces, fixed), neighbors(faces)
    for _ in range(HULL_ROUNDS):
        height = np.where(bare, 0, 0.5 * height + 0.5 * (near @ height) / near.sum(1))
    return height


def lay_out_bust(cut: Cut, vertices: Float[Array, "V 3"]) -> tuple[Float[Array, "T 2"], Int[Array, "F 3"]]:
    """One atlas in [0, 1], v down: neck and torso as the source has them, front in the middle; below, as from behind, the nape's halves."""
    uv: list[Array] = []
    uv_faces = np.zeros_like(cut.uv_faces)
    side = np.sign(vertices[cut.faces][..., 0].mean(1)).astype(int)
    pieces = [(cut.parts == "torso", BUST_BOX)] + [((cut.parts == "nape") & (side == sign), box) for sign, box in NAPE_BOXES.items()]
    for inside, box in pieces:
        used, corners = np.unique(cut.uv_faces[inside], return_inverse=True)
        corners = corners.reshape(-1, 3)
        points, across = cut.uv[used] * [1, -1], vertices[cut.faces[inside]][..., 0]
        if box != BUST_BOX:  # lies on its side in the source
            points, across = cut.uv[used][:, ::-1].copy(), -across
        uv_faces[inside] = corners + sum(map(len, uv))
        uv.append(place(set_upright(points, corners, across, vertices[cut.faces[inside]][..., 1]), box))
    return np.concatenate(uv), uv_faces


def bust_regions(
    cut: Cut, vertices: Float[Array, "V 3"], share: Float[Array, " V"], upper_arm: Float[Array, " V"]
) -> dict[str, Bool[Array, " F"]]:
    """Named sets of faces; each face is in one.

    Args:
        cut: the bust.
        vertices: its base shape, MakeHuman space.
        share: of the head's motion.
        upper_arm: share of an arm's turn.
    """
    corners = vertices[cut.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    behind = (cut.parts == "nape") | (normal[:, 2] < -0.1)
    neck = (share[cut.faces].mean(1) > NECK_TURNS) | (cut.parts == "nape")
    turned = upper_arm[cut.faces].mean(1)
    arm = ~neck & (turned > 0.5)
    aside = np.abs(corners[..., 0].mean(1)) > SHOULDER
    shoulder = ~neck & ~arm & (((normal[:, 1] > 0.6) & aside) | (turned > 0.3))
    rest = ~neck & ~arm & ~shoulder
    return {
        "neck_front": neck & ~behind,
        "nape": neck & behind,
        "chest": rest & (normal[:, 2] > 0),
        "shoulder": shoulder,
        "back": rest & (normal[:, 2] <= 0),
        "arm": arm,
    }
