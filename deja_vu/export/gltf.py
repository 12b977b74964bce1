"""Gaussians as glTF 2.0 with the Khronos extension KHR_gaussian_splatting; viewers without it show a cloud of colored points."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import numpy as np
import torch

from deja_vu.core.gaussians import Gaussians, sh_to_rgb
from deja_vu.io.files import write_atomic

EXTENSION = "KHR_gaussian_splatting"
FLOAT = 5126
"""glTF's number of a component type, as are the next two of a type, a buffer target and a primitive mode."""
UNSIGNED_BYTE = 5121
ARRAY_BUFFER = 34962
POINTS = 0
TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def write_gltf(gaussians: Gaussians, path: Path, name: str) -> None:
    """Write one set of Gaussians, losslessly.

    Args:
        gaussians: in head space, meters, which are glTF's own axes and unit; spherical harmonics of degree 0.
        path: .glb for the binary container, .gltf for JSON with the data inside.
        name: of the node and the mesh.

    Raises:
        OutputError: the file cannot be written.

    Source:
        KHR_gaussian_splatting: a primitive of points; quaternions xyzw, linear scales, opacities in [0, 1], colors as sRGB on display.
    """
    attributes = _attributes(gaussians)
    data = b""
    views: list[dict] = []
    accessors: list[dict] = []
    for values in attributes.values():
        view = {"buffer": 0, "byteOffset": len(data), "byteLength": values.nbytes, "target": ARRAY_BUFFER}
        accessor = {"bufferView": len(views), "count": len(values), "type": TYPES[values.shape[1]]}
        accessor["componentType"] = FLOAT if values.dtype == np.float32 else UNSIGNED_BYTE
        if values.dtype == np.uint8:
            accessor["normalized"] = True
        views.append(view)
        accessors.append(accessor)
        data += values.tobytes()
    position = attributes["POSITION"]
    accessors[0] |= {"min": position.min(0).tolist(), "max": position.max(0).tolist()}
    splats = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective", "sortingMethod": "cameraDistance"}
    primitive = {"mode": POINTS, "attributes": {key: k for k, key in enumerate(attributes)}, "extensions": {EXTENSION: splats}}
    document = {
        "asset": {"version": "2.0", "generator": "deja-vu"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(data)}],
    }
    write_atomic(path, _text(document, data) if path.suffix == ".gltf" else _binary(document, data))


def _attributes(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Values by attribute name, [n, components]; sizes of all are multiples of four bytes."""
    color = torch.cat([sh_to_rgb(gaussians.sh[:, 0]), gaussians.opacities[:, None]], 1)
    # Points without the extension are shaded in linear light, which COLOR_0 is to be given in.
    linear = torch.where(color[:, :3] <= 0.04045, color[:, :3] / 12.92, ((color[:, :3].clamp_min(0) + 0.055) / 1.055) ** 2.4)
    point = torch.cat([linear, color[:, 3:]], 1).mul(255).round().clamp(0, 255).to(torch.uint8)
    unit = torch.nn.functional.normalize(gaussians.quats, dim=-1)
    tensors = {
        "POSITION": gaussians.means,
        "COLOR_0": point,
        f"{EXTENSION}:ROTATION": unit[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": gaussians.scales,
        f"{EXTENSION}:OPACITY": gaussians.opacities[:, None],
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": gaussians.sh[:, 0],
    }
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}


def _text(document: dict, data: bytes) -> bytes:
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    return json.dumps(document).encode()


def _binary(document: dict, data: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
