"""A made-up FLAME: the toy head in files of FLAME's layout, with its 300 + 100 components, five joints and pose correctives."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import deja_vu.heads.toy as toy_module
from deja_vu.heads.toy import load as load_toy

ROOT = np.array([0.0, -0.13, -0.02])
"""Rest position of the root joint, which is not the origin."""


DENSE = {"RINGS": 130, "COLUMNS": 36, "NECK_RINGS": 26, "EYE_RINGS": 17, "EYE_COLUMNS": 10}
"""Numbers of the toy's rings and columns by which, less the mouth, it has FLAME's 5,023 vertices and 9,976 triangles."""
MOUTH_RING, MOUTH_COLUMNS = 81, range(16, 20)
"""Between which rings and columns the lips of the dense one are open."""


def write_flame(folder: Path, *, dense: bool = False) -> Path:
    """Write model, chart, masks and landmarks; returns the model's path.

    Args:
        folder: for all of them.
        dense: as many vertices and triangles as FLAME has, and a hole between the lips.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in DENSE.items() if dense else ():
            patch.setattr(toy_module, name, value)
        toy = load_toy()
    rng, marks = np.random.default_rng(7), toy.topology.landmarks["mediapipe"]
    template, faces = toy.template.double().numpy(), toy.topology.faces.numpy()
    count, kept = len(template), np.ones(len(faces), dtype=bool)
    if dense:
        low = np.cos(np.radians(toy_module.NECK_ANGLE)) * toy_module.RADII[1]
        template[:, 1] = np.where(template[:, 1] < low, low + (template[:, 1] - low) * 3 / 26, template[:, 1])
        ring = 1 + (MOUTH_RING - 1) * DENSE["COLUMNS"]
        hole = {ring + column for column in (*MOUTH_COLUMNS, MOUTH_COLUMNS.stop)}
        hole |= {vertex + DENSE["COLUMNS"] for vertex in hole}
        kept = ~np.isin(faces, list(hole)).all(1)
    directions = 1e-4 * rng.normal(size=(400, count, 3)) / (1 + np.arange(400) % 300)[:, None, None]
    directions[:6], directions[300:306] = toy.shape_basis.double().numpy(), 0.3 * toy.expression_basis.double().numpy()
    pivots = np.concatenate([[ROOT], toy.joint_pivots.double().numpy()])
    # Each joint is the mean of some vertices, moved by none: the least-norm combination that sums to one and hits it.
    system = np.concatenate([template.T, np.ones((1, count))])
    regressor = np.linalg.lstsq(system, np.concatenate([pivots.T, np.ones((1, 5))]), rcond=None)[0].T
    weights = toy.skin_weights.double().numpy()
    np.savez(
        folder / "generic_model.npz",
        v_template=template,
        shapedirs=directions.transpose(1, 2, 0),
        posedirs=1e-4 * rng.normal(size=(count, 3, 36)),
        J_regressor=regressor,
        weights=weights,
        kintree_table=np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        f=faces[kept].astype(np.uint32),
    )
    uv, chart = toy.topology.uv.double().numpy(), toy.topology.uv_faces.numpy()
    np.savez(folder / "FLAME_texture.npz", vt=uv * [1, -1] + [0, 1], ft=chart[kept])
    regions = {
        name: np.unique(faces[mask.numpy()]) for name, mask in toy.topology.regions.items() if name in ("face", "lips", "scalp", "neck")
    }
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps(regions, 2))
    np.savez(
        folder / "mediapipe_landmark_embedding.npz",
        lmk_face_idx=(kept.cumsum() - 1)[marks.faces.numpy()],
        lmk_b_coords=marks.bary.numpy(),
        landmark_indices=marks.ids.numpy(),
    )
    return folder / "generic_model.npz"


@pytest.fixture(scope="session")
def flame_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's path."""
    return write_flame(tmp_path_factory.mktemp("flame"))


@pytest.fixture(scope="session")
def dense_flame_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of FLAME's size."""
    return write_flame(tmp_path_factory.mktemp("dense_flame"), dense=True)


@pytest.fixture
def flame(flame_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's FLAME, where the environment says it is."""
    for version in ("2020", "2023"):
        monkeypatch.setenv(f"DEJA_VU_FLAME{version}", str(flame_file))
    return flame_file


def posed_vertices(file: Path, shape: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Vertices [V 3] by FLAME's own recipe: blend shapes, pose correctives, chains of transforms from the root on.

    Args:
        file: the model.
        shape: identity coefficients.
        expression: expression coefficients.
        pose: axis-angle rotations of root, neck, jaw and eyes [5 3].
    """
    with np.load(file) as arrays:
        shaped = arrays["v_template"] + arrays["shapedirs"][..., : len(shape)] @ shape
        joints = arrays["J_regressor"] @ shaped
        shaped = shaped + arrays["shapedirs"][..., 300 : 300 + len(expression)] @ expression
        turns = Rotation.from_rotvec(pose).as_matrix()
        posed = shaped + arrays["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
        chain = np.zeros((5, 4, 4))
        for joint in range(5):
            parent = int(arrays["kintree_table"][0, joint]) if joint else -1
            local = np.eye(4)
            local[:3, :3], local[:3, 3] = turns[joint], joints[joint] - (joints[parent] if joint else 0)
            chain[joint] = chain[parent] @ local if joint else local
        chain[:, :3, 3] -= (chain[:, :3, :3] @ joints[..., None])[..., 0]
        blended = np.einsum("vj,jab->vab", arrays["weights"], chain)
    return (blended[:, :3, :3] @ posed[..., None])[..., 0] + blended[:, :3, 3]
