"""Every splat format is read back by another project's reader, and its picture is the avatar's own."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.avatars.base import Avatar
from deja_vu.core.conventions import SH_C0
from deja_vu.core.errors import InputError, OutputError
from deja_vu.export.gltf import write_gltf
from deja_vu.export.ply import write_ply
from deja_vu.export.space import at_rest
from deja_vu.export.spz import write_spz

LOSSLESS_DB, SPZ_DB = 90, 45
"""Float32 through a logit and a logarithm changes the last bits. SPZ keeps 8 bits of color and steps of 6 % in size."""
PREFIX = "KHR_gaussian_splatting:"


def gltf_arrays(path: Path) -> dict[str, np.ndarray]:
    """Attributes of the first primitive, read by pygltflib."""
    pygltflib = pytest.importorskip("pygltflib")
    document = pygltflib.GLTF2().load(str(path))
    blob = document.binary_blob() or document.get_data_from_buffer_uri(document.buffers[0].uri)
    arrays = {}
    for name, number in vars(document.meshes[0].primitives[0].attributes).items():
        if number is None:
            continue
        accessor = document.accessors[number]
        offset = document.bufferViews[accessor.bufferView].byteOffset
        kind, width = (np.float32 if accessor.componentType == 5126 else np.uint8), {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor.type]
        arrays[name] = np.frombuffer(blob, kind, accessor.count * width, offset).reshape(-1, width)
    return arrays


def test_a_ply_file_shows_the_same_picture(exported, agreement, tmp_path):
    gsply = pytest.importorskip("gsply")
    write_ply(exported, tmp_path / "a.ply")
    read = gsply.plyread(str(tmp_path / "a.ply"))
    w, x, y, z = read.quats.T
    head = (read.means * [1, -1, -1], np.stack([-x, w, -z, y], 1))  # right-down-forward to head axes: half a turn about x
    opacities = 1 / (1 + np.exp(-read.opacities.astype(float)))
    assert agreement(*head, np.exp(read.scales), opacities, read.sh0) > LOSSLESS_DB


def test_a_ply_file_has_the_header_of_3dgs(exported, tmp_path):
    write_ply(exported, tmp_path / "a.ply")
    head, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    lines = head.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", f"element vertex {len(exported.means)}"]
    names = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    assert lines[3:] == [f"property float {name}" for name in names]
    assert len(body) == 4 * len(names) * len(exported.means)


def test_an_spz_file_shows_nearly_the_same_picture(exported, agreement, tmp_path):
    gsply = pytest.importorskip("gsply")
    write_spz(exported, tmp_path / "a.spz")
    read = gsply.read_spz(str(tmp_path / "a.spz"))
    assert np.abs(read.means - exported.means.numpy()).max() <= 2.0**-19 + 1e-7
    opacities = 1 / (1 + np.exp(-read.opacities.astype(float)))
    assert agreement(read.means, read.quats, np.exp(read.scales), opacities, read.sh0) > SPZ_DB


def test_an_spz_file_is_laid_out_as_described(exported, tmp_path):
    write_spz(exported, tmp_path / "a.spz")
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    count = len(exported.means)
    assert struct.unpack("<4sIIBBBB", data[:16]) == (b"NGSP", 3, count, 0, 18, 0, 0)
    assert len(data) == 16 + count * (9 + 1 + 3 + 3 + 4)
    alphas = np.frombuffer(data, np.uint8, count, 16 + 9 * count)
    assert np.abs(alphas / 255 - exported.opacities.numpy()).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_a_gltf_file_shows_the_same_picture(suffix, exported, agreement, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_gltf(exported, path, "someone")
    read = gltf_arrays(path)
    wxyz = read[f"{PREFIX}ROTATION"][:, [3, 0, 1, 2]]
    values = read["POSITION"], wxyz, read[f"{PREFIX}SCALE"], read[f"{PREFIX}OPACITY"][:, 0], read[f"{PREFIX}SH_DEGREE_0_COEF_0"]
    assert agreement(*values) > LOSSLESS_DB
    np.testing.assert_allclose(np.linalg.norm(wxyz, axis=1), 1, atol=1e-6)


def test_viewers_without_the_extension_see_colored_points(exported, tmp_path):
    """COLOR_0 is in linear light: sRGB 0.7354 is 0.5 there, sRGB 0.5 is 0.214."""
    gray = torch.zeros_like(exported.sh)
    gray[0] = (0.7354 - 0.5) / SH_C0
    write_gltf(type(exported)(exported.means, exported.quats, exported.scales, exported.opacities, gray), tmp_path / "a.glb", "someone")
    color = gltf_arrays(tmp_path / "a.glb")["COLOR_0"]
    assert color[0, :3].tolist() == [128] * 3  # IEC 61966-2-1
    assert color[1, :3].tolist() == [55] * 3
    assert np.abs(color[:, 3] / 255 - exported.opacities.numpy()).max() <= 0.5 / 255 + 1e-6


VALIDATOR = Path(__file__).parents[2] / "deja_vu" / "export" / "player" / "node_modules" / "gltf-validator"
SCRIPT = """
const { validateBytes } = require(process.argv[1]), { readFileSync } = require("fs");
validateBytes(new Uint8Array(readFileSync(process.argv[2])), { maxIssues: 0 }).then((report) => console.log(JSON.stringify(report)));
"""


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_the_khronos_validator_finds_no_structural_fault(suffix, exported, tmp_path):
    """The validator on npm does not know the extension; it must have nothing else to say than that and the names it prescribes."""
    if shutil.which("node") is None or not VALIDATOR.is_dir():
        pytest.skip("needs node, and `npm ci` in deja_vu/export/player (make web does it)")
    path = tmp_path / f"a{suffix}"
    write_gltf(exported, path, "someone")
    done = subprocess.run(["node", "-e", SCRIPT, str(VALIDATOR), str(path)], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    issues = {(message["code"], message["pointer"].rsplit("/", 1)[1]) for message in report["issues"]["messages"]}
    names = {f"{PREFIX}{name}" for name in ("ROTATION", "SCALE", "OPACITY", "SH_DEGREE_0_COEF_0")}
    assert issues == {("UNSUPPORTED_EXTENSION", "0")} | {("MESH_PRIMITIVE_INVALID_ATTRIBUTE", name) for name in names}
    assert report["info"]["totalVertexCount"] == len(exported.means)


def test_an_avatar_without_gaussians_is_refused_with_the_reason(pose, rest):
    class Rays(Avatar):
        def render(self, params, camera, background):
            raise AssertionError

        def regularizers(self):
            return {}

        def param_groups(self):
            return {}

    with pytest.raises(InputError, match="A Rays has no Gaussians to export"):
        at_rest(Rays(), pose, rest)


def test_a_failed_write_leaves_nothing_behind(exported, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="could not be written"):
        write_ply(exported, tmp_path / "taken" / "a.ply")
    (tmp_path / "a.ply").mkdir()
    with pytest.raises(OutputError, match="Make room or choose another"):
        write_ply(exported, tmp_path / "a.ply")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply", "taken"]
