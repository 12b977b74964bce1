"""FLAME (Li et al., SIGGRAPH Asia 2017) from the user's own download; its license does not let us ship it.

Beside the model file lie the files that belong to it (all from the FLAME project page):
  head_template.obj or FLAME_texture.npz       the texture chart; needed
  FLAME_masks.pkl                              named regions; without it only skin and eyes are known
  mediapipe_landmark_embedding.npz             MediaPipe landmarks; without it the head can be driven but not tracked
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deja_vu.core.array_archive import read_npz
from deja_vu.core.errors import FormatError, MissingAssetError
from deja_vu.core.head import HeadSpec, HeadTopology, LandmarkSet
from deja_vu.heads.base import HeadData, HeadModel
from deja_vu.heads.mouth_sheet import ChartedMesh, add_mouth
from deja_vu.heads.restricted_pickle import read_pickle

JOINTS = ("neck", "jaw", "eye_left", "eye_right")
"""FLAME's joints after its root, in its order."""
FIRST_EXPRESSION = 300
"""Components of `shapedirs` before this one are identity, the others expression."""
NUM_EXPRESSION = 100
"""Components of expression in all."""
FULL = "_full"
"""Ends the name of a head that has all components instead of the hundred and fifty strongest."""
CHART_FILES = ("head_template.obj", "head_template_mesh.obj", "FLAME_texture.npz")
MASKS_FILE = "FLAME_masks.pkl"
LANDMARKS_FILE = "mediapipe_landmark_embedding.npz"
HOME_PAGE = "https://flame.is.tue.mpg.de"


def load_2020(path: Path | None = None, num_shape: int = 100, num_expression: int = 50) -> HeadModel:
    """FLAME 2020 (`generic_model.pkl`); see `load`."""
    return load("flame2020", path, num_shape, num_expression)


def load_2023(path: Path | None = None, num_shape: int = 100, num_expression: int = 50) -> HeadModel:
    """FLAME 2023 (`flame2023.pkl`); see `load`."""
    return load("flame2023", path, num_shape, num_expression)


def load_2020_full(path: Path | None = None) -> HeadModel:
    """FLAME 2020 with all of its components, as some data sets use it; see `load`."""
    return load(f"flame2020{FULL}", path, FIRST_EXPRESSION, NUM_EXPRESSION)


def load_2023_full(path: Path | None = None) -> HeadModel:
    """FLAME 2023 with all of its components, as some data sets use it; see `load`."""
    return load(f"flame2023{FULL}", path, FIRST_EXPRESSION, NUM_EXPRESSION)


def load(name: str, path: Path | None, num_shape: int, num_expression: int) -> HeadModel:
    """Build the head from FLAME's files, which are read without running anything in them.

    Differences from the published code: there the joints also shift a little with expression, here with identity only; and where the masks
    say which are the lips, sheets close the mouth behind them, see `mouth_sheet`.

    Args:
        name: `flame2020` or `flame2023`, perhaps with `FULL` behind it: the name tracked folders and avatars will carry.
        path: the model, `.pkl` or `.npz`; the environment variable DEJA_VU_FLAME2020 or DEJA_VU_FLAME2023 names it when None.
        num_shape: identity components to keep, at most 300.
        num_expression: expression components to keep, at most 100.

    Raises:
        MissingAssetError: no path is known, or the model or its chart is not there.
        FormatError: a file is unsafe, damaged, or of another model.
    """
    path = _model_path(name, path)
    arrays = _read(path)
    data, faces = _make_head_data(path, arrays, num_shape, num_expression)
    regions = _read_regions(path.parent, faces, data.skin_weights.numpy())
    surface = add_mouth(ChartedMesh(data, faces, *_read_chart(path.parent, faces), regions))
    topology = HeadTopology(
        faces=torch.from_numpy(surface.faces),
        uv=torch.from_numpy(surface.uv).float(),
        uv_faces=torch.from_numpy(surface.uv_faces),
        regions=surface.regions,
        landmarks=_read_landmarks(path.parent, len(faces)),
    )
    names = tuple(f"expr_{index:03d}" for index in range(num_expression))
    return HeadModel(HeadSpec(name, num_shape, names, JOINTS, in_deviations=True), topology, surface.data)


def read_root(name: str, path: Path | None = None, num_shape: int = FIRST_EXPRESSION) -> tuple[Tensor, Tensor]:
    """Rest position of FLAME's root joint on the mean surface [3], and its displacement by identity [S 3], meters.

    FLAME turns about that joint, where a head of this project turns about its origin.

    Args:
        name: as of `load`.
        path: as of `load`.
        num_shape: identity components.

    Raises:
        MissingAssetError: no path is known, or there is no model.
        FormatError: it is not FLAME.
    """
    path = _model_path(name, path)
    arrays = _read(path)
    template = _take(path, arrays, "v_template", (None, 3))
    directions = _take(path, arrays, "shapedirs", (len(template), 3, None))[..., :num_shape].transpose(2, 0, 1)
    regressor = _take(path, arrays, "J_regressor", (len(JOINTS) + 1, len(template)))[0]
    return _to_tensor(regressor @ template), _to_tensor(regressor @ directions)


def _model_path(name: str, path: Path | None) -> Path:
    variable = f"DEJA_VU_{name.removesuffix(FULL).upper()}"
    chosen = path or os.environ.get(variable)
    if chosen is None:
        raise MissingAssetError(
            f"The head {name!r} needs your own copy of FLAME, which may not be passed on. Download it from {HOME_PAGE} and set "
            f"{variable} to the model file, with {CHART_FILES[0]}, {MASKS_FILE} and {LANDMARKS_FILE} beside it; "
            "or use the head 'anny', which ships with the package."
        )
    if not Path(chosen).expanduser().is_file():
        raise MissingAssetError(f"There is no FLAME model at {chosen}. Give the .pkl or .npz file itself, or correct {variable}.")
    return Path(chosen).expanduser()


def _read(path: Path) -> dict[str, Any]:
    """Arrays of a .pkl or .npz by name."""
    if path.suffix != ".npz":
        return read_pickle(path)
    return read_npz(path, f"Download it again from {HOME_PAGE}.")


def _make_head_data(path: Path, arrays: dict[str, Any], num_shape: int, num_expression: int) -> tuple[HeadData, np.ndarray]:
    """FLAME's arrays in our axes order, and its triangles."""
    template = _take(path, arrays, "v_template", (None, 3))
    vertices, joints = len(template), len(JOINTS)
    directions = _take(path, arrays, "shapedirs", (vertices, 3, None)).transpose(2, 0, 1)
    if not (0 < num_shape <= FIRST_EXPRESSION and 0 < num_expression <= len(directions) - FIRST_EXPRESSION):
        raise FormatError(
            f"{path} has {len(directions)} components: 1 to {FIRST_EXPRESSION} of identity, the others of expression. "
            f"{num_shape} and {num_expression} were asked for; ask for fewer, or use the full model file."
        )
    shape, expression = directions[:num_shape], directions[FIRST_EXPRESSION : FIRST_EXPRESSION + num_expression]
    correctives = _take(path, arrays, "posedirs", (vertices, 3, 9 * joints)).transpose(2, 0, 1)
    regressor = _take(path, arrays, "J_regressor", (joints + 1, vertices))
    weights = _take(path, arrays, "weights", (vertices, joints + 1))
    kinship = _take(path, arrays, "kintree_table", (2, joints + 1))[0, 1:]
    faces = _take(path, arrays, "f", (None, 3)).astype(np.int64)
    if faces.min() < 0 or faces.max() >= vertices or not np.allclose(weights.sum(1), 1, atol=1e-3):
        raise FormatError(f"{path} names vertices it does not have, or its skinning weights do not sum to one; it is not FLAME.")
    parents = tuple(int(parent) - 1 for parent in kinship)
    if not all(-1 <= parent < joint for joint, parent in enumerate(parents)):
        raise FormatError(f"{path}: the joints' parents are {kinship.tolist()}, expected [0, 1, 1, 1]; it is not FLAME.")
    data = HeadData(
        template=_to_tensor(template),
        shape_basis=_to_tensor(shape),
        expression_basis=_to_tensor(expression),
        joint_pivots=_to_tensor((regressor @ template)[1:]),
        joint_shape_basis=_to_tensor((regressor @ shape)[:, 1:]),
        skin_weights=_to_tensor(weights / weights.sum(1, keepdims=True)),
        parents=parents,
        pose_basis=_to_tensor(correctives),
    )
    return data, faces


def _take(path: Path, arrays: dict[str, Any], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One array in float64, of the shape expected (None: any size)."""
    value = arrays.get(name)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim != len(shape):
        found = "nothing" if value is None else getattr(value, "shape", type(value).__name__)
        raise FormatError(f"{path} is not a FLAME model: `{name}` should be numbers with {len(shape)} axes, found {found}.")
    if any(want not in (None, have) for want, have in zip(shape, value.shape, strict=True)) or not value.size:
        raise FormatError(f"{path} is not a FLAME model: `{name}` has shape {value.shape}, expected {shape} (None: any).")
    if not np.isfinite(value).all():
        raise FormatError(f"{path}: `{name}` holds values that are not finite. Download it again from {HOME_PAGE}.")
    return value.astype(np.float64)


def _to_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()


def _read_chart(folder: Path, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates with v downwards, and the model's triangles in the chart."""
    path = next((folder / name for name in CHART_FILES if (folder / name).is_file()), None)
    if path is None:
        raise MissingAssetError(
            f"FLAME's texture chart is missing in {folder}: one of {', '.join(CHART_FILES)} has to lie beside the model. "
            f"They come with the downloads of {HOME_PAGE}."
        )
    if path.suffix == ".npz":
        arrays = _read(path)
        uv, uv_faces = _take(path, arrays, "vt", (None, 2)), _take(path, arrays, "ft", (len(faces), 3)).astype(np.int64)
    else:
        corners, uv, chart = _read_obj(path)
        uv_faces = _match_faces(path, faces, corners, chart)
    if uv_faces.min() < 0 or uv_faces.max() >= len(uv):
        raise FormatError(f"{path} names texture coordinates it does not have.")
    return uv * [1, -1] + [0, 1], uv_faces


def _match_faces(path: Path, faces: np.ndarray, corners: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """Chart indices of a mesh file, brought into the order of the model's triangles and of their corners."""
    ours, theirs = (np.lexsort(np.sort(triangles, axis=1).T) for triangles in (faces, corners))
    matched = np.empty_like(faces)
    if len(corners) == len(faces):
        rank, other = np.argsort(faces[ours], axis=1), np.argsort(corners[theirs], axis=1)
        same = np.take_along_axis(faces[ours], rank, axis=1) == np.take_along_axis(corners[theirs], other, axis=1)
        ordered = np.empty_like(faces)
        np.put_along_axis(ordered, rank, np.take_along_axis(chart[theirs], other, axis=1), axis=1)
        matched[ours] = ordered
        if same.all():
            return matched
    raise FormatError(f"{path} has other triangles than the model ({len(corners)} to {len(faces)}). Use the head template of FLAME itself.")


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles, texture coordinates and triangles in the chart of a Wavefront file."""
    uv, corners, chart = [], [], []
    try:
        for line in path.read_text().splitlines():
            kind, *fields = line.split() or [""]
            if kind == "vt":
                uv.append([float(fields[0]), float(fields[1])])
            elif kind == "f":
                pairs = [field.split("/")[:2] for field in fields]
                corners.append([int(vertex) - 1 for vertex, _ in pairs])
                chart.append([int(texture) - 1 for _, texture in pairs])
        result = np.array(corners).reshape(-1, 3), np.array(uv).reshape(-1, 2), np.array(chart).reshape(-1, 3)
    except (ValueError, IndexError) as error:
        raise FormatError(f"{path} is not a triangle mesh with texture coordinates ({error}).") from error
    if not len(uv):
        raise FormatError(f"{path} has no texture coordinates. Use the head template of FLAME's texture download.")
    return result


def _read_regions(folder: Path, faces: np.ndarray, weights: np.ndarray) -> dict[str, Tensor]:
    """Eyes from the skinning, skin as the rest, and the regions of FLAME's masks where they are there."""
    chosen = {f"eye_{side}": weights[:, 1 + JOINTS.index(f"eye_{side}")] > 0.5 for side in ("left", "right")}
    chosen["skin"] = ~(chosen["eye_left"] | chosen["eye_right"])
    if (path := folder / MASKS_FILE).is_file():
        for name, vertices in read_pickle(path).items():
            mask = np.zeros(len(weights), dtype=bool)
            if (
                not isinstance(vertices, np.ndarray)
                or vertices.dtype.kind not in "iu"
                or not ((vertices >= 0) & (vertices < len(mask))).all()
            ):
                raise FormatError(f"{path}: the region {name!r} is not a list of this model's vertices.")
            mask[vertices] = True
            chosen[name] = mask
    return {name: torch.from_numpy(mask[faces].all(1)) for name, mask in chosen.items()}


def _read_landmarks(folder: Path, num_faces: int) -> dict[str, LandmarkSet]:
    """MediaPipe's landmarks where FLAME's embedding is there."""
    path = folder / LANDMARKS_FILE
    if not path.is_file():
        return {}
    arrays = _read(path)
    faces = _take(path, arrays, "lmk_face_idx", (None,)).astype(np.int64)
    ids = _take(path, arrays, "landmark_indices", (len(faces),)).astype(np.int64)
    bary = _take(path, arrays, "lmk_b_coords", (len(faces), 3))
    if faces.min() < 0 or faces.max() >= num_faces:
        raise FormatError(f"{path} names triangles that the model does not have.")
    return {"mediapipe": LandmarkSet(torch.from_numpy(ids), torch.from_numpy(faces), _to_tensor(bary), torch.ones(len(faces)))}
