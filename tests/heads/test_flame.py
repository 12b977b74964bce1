from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.spatial.transform import Rotation

from deja_vu.core.errors import FormatError, MissingAssetError
from deja_vu.core.head import HeadParams
from deja_vu.heads import load_head
from deja_vu.heads.flame import load_2020, load_2023

V, F = 40, 60
NUM_SHAPE, NUM_EXPRESSION = 7, 5


def fake_arrays() -> dict[str, np.ndarray]:
    """Arrays with FLAME's names and axes, filled with random numbers."""
    rng = np.random.default_rng(0)
    weights, regressor = rng.random((V, 5)) ** 4, rng.random((5, V)) ** 8
    weights[:4], weights[4:8] = np.eye(5)[3], np.eye(5)[4]
    faces = np.stack([rng.choice(V, 3, replace=False) for _ in range(F - 2)])
    return {
        "v_template": rng.normal(0, 0.1, (V, 3)),
        "shapedirs": rng.normal(0, 0.01, (V, 3, 400)),
        "posedirs": rng.normal(0, 0.01, (V, 3, 36)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "f": np.concatenate([faces, [[0, 1, 2], [5, 6, 7]]]).astype(np.uint32),
    }


def published_skinning(arrays: dict[str, np.ndarray], shape, expression, pose) -> np.ndarray:
    """FLAME's own recipe in numpy: blend shapes, pose correctives, chains of homogeneous transforms, root pose included."""
    identity, expressions = arrays["shapedirs"][..., :NUM_SHAPE], arrays["shapedirs"][..., 300 : 300 + NUM_EXPRESSION]
    shaped = arrays["v_template"] + identity @ shape
    joints = arrays["J_regressor"] @ shaped
    shaped = shaped + expressions @ expression
    turns = Rotation.from_rotvec(pose).as_matrix()
    posed = shaped + arrays["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    chain = np.zeros((5, 4, 4))
    for joint in range(5):
        parent = int(arrays["kintree_table"][0, joint]) if joint else None
        offset = joints[joint] - (joints[parent] if parent is not None else 0)
        local = np.block([[turns[joint], offset[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
        chain[joint] = local if parent is None else chain[parent] @ local
    for joint in range(5):
        chain[joint, :3, 3] -= chain[joint, :3, :3] @ joints[joint]
    blended = np.einsum("vj,jab->vab", arrays["weights"], chain)
    return np.einsum("vab,vb->va", blended[:, :3, :3], posed) + blended[:, :3, 3], joints[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a user would have it, with a pickle of Python 2's look."""
    arrays = fake_arrays()
    chumpy = types.ModuleType("chumpy.ch")
    chumpy.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    modules = {"chumpy": types.ModuleType("chumpy"), "chumpy.ch": chumpy}
    content = dict(arrays, J_regressor=scipy.sparse.csc_matrix(arrays["J_regressor"]), bs_style="lbs")
    for name in ("v_template", "shapedirs", "posedirs", "weights"):
        content[name] = chumpy.Ch()
        content[name].x = arrays[name]
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps(content, 2))
    np.savez(tmp_path / "flame.npz", **arrays)
    write_obj(tmp_path / "head_template.obj", arrays["f"].astype(int))
    (tmp_path / "FLAME_masks.pkl").write_bytes(pickle.dumps({"face": np.arange(20), "lips": np.array([5, 6, 7])}, 2))
    np.savez(
        tmp_path / "mediapipe_landmark_embedding.npz",
        lmk_face_idx=np.array([3, F - 1]),
        lmk_b_coords=np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]),
        landmark_indices=np.array([1, 152]),
    )
    return tmp_path


def write_obj(path: Path, faces: np.ndarray) -> None:
    """A mesh file with the triangles shuffled and turned; chart vertex 3 f + c has u = f / F, v = (vertex of corner c) / V."""
    lines = [f"v 0 0 {vertex}" for vertex in range(V)]
    lines += [f"vt {f / F} {faces[f, c] / V}" for f in range(F) for c in range(3)]
    for f in np.random.default_rng(1).permutation(F):
        corners = np.roll(np.arange(3), f % 3)
        lines.append("f " + " ".join(f"{faces[f, c] + 1}/{3 * f + c + 1}" for c in corners))
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("file", ["generic_model.pkl", "flame.npz"])
def test_agrees_with_the_published_recipe(folder: Path, file: str) -> None:
    head = load_2020(folder / file, NUM_SHAPE, NUM_EXPRESSION).double()
    rng = np.random.default_rng(2)
    shape, expression, pose = rng.normal(size=NUM_SHAPE), rng.normal(size=NUM_EXPRESSION), 0.5 * rng.normal(size=(5, 3))
    expected, root = published_skinning(fake_arrays(), shape, expression, pose)
    world = np.eye(4)  # the published root turns about its own joint
    world[:3, :3] = Rotation.from_rotvec(pose[0]).as_matrix()
    world[:3, 3] = root - world[:3, :3] @ root
    params = HeadParams(*(torch.from_numpy(value) for value in (shape, expression, pose[1:], world)))
    np.testing.assert_allclose(head(params).numpy(), expected, atol=2e-6)  # the model keeps float32 data


def test_names_sizes_and_parents(folder: Path) -> None:
    head = load_2023(folder / "generic_model.pkl", NUM_SHAPE, NUM_EXPRESSION)
    assert head.spec.name == "flame2023"
    assert head.spec.expression_names == ("expr_000", "expr_001", "expr_002", "expr_003", "expr_004")
    assert head.spec.joint_names == ("neck", "jaw", "eye_left", "eye_right")
    assert head.parents == (-1, 0, 0, 0)
    assert load_2020(folder / "generic_model.pkl").spec.num_shape == 100


def test_chart_follows_the_models_triangles(folder: Path) -> None:
    topology = load_2020(folder / "generic_model.pkl").topology
    np.testing.assert_array_equal(topology.faces.numpy(), fake_arrays()["f"])
    uv = topology.uv[topology.uv_faces]
    torch.testing.assert_close(uv[..., 0], (torch.arange(F) / F)[:, None].expand(F, 3))
    torch.testing.assert_close(1 - uv[..., 1], topology.faces / V)  # v grows downwards here, upwards in the file


def test_chart_of_the_texture_archive(folder: Path) -> None:
    (folder / "head_template.obj").unlink()
    chart = np.arange(3 * F).reshape(F, 3)
    np.savez(folder / "FLAME_texture.npz", vt=np.random.default_rng(0).random((3 * F, 2)), ft=chart)
    np.testing.assert_array_equal(load_2020(folder / "generic_model.pkl").topology.uv_faces.numpy(), chart)


def test_regions_and_landmarks(folder: Path) -> None:
    topology = load_2020(folder / "generic_model.pkl").topology
    assert topology.regions["lips"].nonzero().flatten().tolist() == [F - 1]
    assert topology.regions["eye_left"][F - 2]
    assert not topology.regions["skin"][F - 2]
    assert topology.landmarks["mediapipe"].ids.tolist() == [1, 152]
    for name in ("FLAME_masks.pkl", "mediapipe_landmark_embedding.npz"):
        (folder / name).unlink()
    bare = load_2020(folder / "generic_model.pkl").topology
    assert set(bare.regions) == {"skin", "eye_left", "eye_right"}
    assert bare.landmarks == {}


def test_missing_files_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEJA_VU_FLAME2020", raising=False)
    with pytest.raises(MissingAssetError, match="DEJA_VU_FLAME2020"):
        load_head("flame2020")
    with pytest.raises(MissingAssetError, match=r"nowhere\.pkl"):
        load_head("flame2020", folder / "nowhere.pkl")
    monkeypatch.setenv("DEJA_VU_FLAME2020", str(folder / "generic_model.pkl"))
    assert load_head("flame2020").spec.name == "flame2020"
    (folder / "head_template.obj").unlink()
    with pytest.raises(MissingAssetError, match=r"head_template\.obj"):
        load_head("flame2020")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "weights"),
        ({"weights": np.ones((V, 5))}, "sum to one"),
        ({"posedirs": np.zeros((V, 3, 27))}, "posedirs"),
        ({"v_template": np.full((V, 3), np.nan)}, "not finite"),
        ({"shapedirs": np.zeros((V, 3, 300))}, "components"),
        ({"kintree_table": np.array([[0, 0, 3, 1, 1], [0, 1, 2, 3, 4]])}, "parents"),
        ({"f": np.full((F, 3), V)}, "vertices it does not have"),
        ({"f": np.roll(fake_arrays()["f"], 1, axis=0)[:-1]}, "other triangles"),
        ({"v_template": np.full((V, 3), "x")}, "v_template"),
    ],
)
def test_files_of_another_model_are_refused(folder: Path, change: dict, message: str) -> None:
    arrays = {name: value for name, value in {**fake_arrays(), **change}.items() if value is not None}
    np.savez(folder / "other.npz", **arrays)
    with pytest.raises(FormatError, match=message):
        load_2020(folder / "other.npz")


def test_an_archive_with_objects_inside_is_refused(folder: Path) -> None:
    np.savez(folder / "other.npz", **{**fake_arrays(), "extra": np.array([{}], dtype=object)})
    with pytest.raises(FormatError, match="plain arrays"):
        load_2020(folder / "other.npz")
    (folder / "other.npz").write_bytes(b"not an archive")
    with pytest.raises(FormatError, match="plain arrays"):
        load_2020(folder / "other.npz")


@pytest.mark.parametrize(("place", "value"), [(6, 173), (8, 1), (10, 99)], ids=["version", "encrypted", "compression"])
def test_an_archive_that_no_reader_knows_is_refused(folder: Path, place: int, value: int) -> None:
    """Fields of every entry in the archive's own directory: the version needed, the flags, the way of compression."""
    np.savez(folder / "other.npz", **fake_arrays())
    content = bytearray((folder / "other.npz").read_bytes())
    entry = content.find(b"PK\x01\x02")
    while entry >= 0:
        content[entry + place] = value
        entry = content.find(b"PK\x01\x02", entry + 4)
    (folder / "other.npz").write_bytes(content)
    with pytest.raises(FormatError, match="plain arrays"):
        load_2020(folder / "other.npz")
