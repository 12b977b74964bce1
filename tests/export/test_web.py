"""The binary of the exported page holds what was exported, whatever bytes it is made of."""

from __future__ import annotations

import gzip
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from deja_vu.core.errors import InputError
from deja_vu.core.orbit import HEAD_ORBIT
from deja_vu.export.rig import Rig, build_rig
from deja_vu.export.web import Clip, pack, quantize, script, write_web, write_webcam

PLAYER = Path(__file__).parents[2] / "deja_vu" / "export" / "player"
KINDS = {"f32": np.float32, "i32": np.int32, "u16": np.uint16, "u8": np.uint8}


def payload(content: bytes) -> bytes:
    """The bytes inside the script, by JavaScript's rules for string literals."""
    literal = re.fullmatch(rb'dejavu\("(.*)"\)\n', content, re.DOTALL)
    assert literal is not None
    text = literal[1]
    assert not re.search(rb'[\r\n]|(?<!\\)(?:\\\\)*"', text)  # would end the string
    return re.sub(rb'\\([nr"\\])', lambda escape: {b"n": b"\n", b"r": b"\r"}.get(escape[1], escape[1]), text)


def unpacked(content: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    data = gzip.decompress(payload(content))
    (size,) = struct.unpack("<I", data[:4])
    header = json.loads(data[4 : 4 + size])
    arrays = {}
    for name, entry in header["arrays"].items():
        start, count = 4 + size + entry["offset"], int(np.prod(entry["shape"]))
        assert start % 4 == 0
        values = np.frombuffer(data, KINDS[entry["type"]], count, start).reshape(entry["shape"])
        if "low" in entry:
            channels = entry["shape"][-1]
            low, step = (np.array(entry[key]).reshape(-1, 1, channels) for key in ("low", "step"))
            values = (low + step * values.reshape(len(low), -1, channels)).reshape(values.shape)
        arrays[name] = values
    return header, arrays


def test_every_byte_survives_the_script():
    every = bytes(range(256)) * 2 + b'\\"\n\r\\\\n'
    assert payload(script(every)) == every


def test_arrays_survive_as_far_as_their_levels_allow(avatar, rest):
    rig = build_rig(avatar, rest)
    header, arrays = unpacked(pack(rig))
    assert header["format"] == "deja-vu web/3"
    assert header["facts"] == json.loads(json.dumps(rig.facts))
    assert arrays.keys() == rig.arrays.keys()
    for name, values in rig.arrays.items():
        found = arrays[name]
        assert found.shape == values.shape
        bits = {"raw": 16, "morphs": 16, "bary": 16, "blendmaps": 8, "tap_weights": 8}.get(name)
        if bits is None:
            np.testing.assert_array_equal(found, values, err_msg=name)
        else:
            axes = 1 if values.ndim == 3 else 0
            step = np.ptp(values, axis=axes, keepdims=True) / (2**bits - 1)
            assert (np.abs(found - values) <= 0.5001 * step + 1e-9).all(), name


@pytest.mark.parametrize("bits", [8, 16])
def test_levels_reach_the_extremes(bits):
    values = np.random.default_rng(0).normal(size=(3, 50, 4)).astype(np.float32)
    values[1, :, 2] = 0.25  # a channel without any spread
    steps = quantize(values, bits)
    assert steps.levels.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_allclose(steps.values().max(1), values.max(1), atol=1e-6)
    np.testing.assert_allclose(steps.values().min(1), values.min(1), atol=1e-6)
    np.testing.assert_array_equal(steps.values()[1, :, 2], np.full(50, 0.25))


def test_large_indices_keep_their_type():
    indices = {"many": np.array([0, 70000]), "few": np.array([3, 65535]), "below": np.array([-1])}
    _, arrays = unpacked(pack(Rig({}, indices)))
    assert arrays["many"].tolist() == [0, 70000]
    assert (arrays["many"].dtype, arrays["few"].dtype, arrays["below"].dtype) == (np.int32, np.uint16, np.int32)


def test_the_folder_holds_page_binary_and_licenses(avatar, subject, controls, motion, tmp_path):
    write_web(avatar, subject, controls, [Clip("Talk", motion, 25.0)], "some <one>", tmp_path / "page")
    names = {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()}
    assert names.keys() == {"index.html", "avatar.bin", "deja-vu.js", "NOTICES.txt"}
    header, arrays = unpacked(names["avatar.bin"])
    assert header["facts"]["clips"] == [{"id": 0, "name": "Talk", "fps": 25.0, "frames": 10}]
    np.testing.assert_allclose(arrays["clip_0_pose"].reshape(10, 3, 4), motion.world_from_head[:, :3], atol=1e-4)
    assert abs(torch.tensor(header["facts"]["center"])).max() < 0.2
    assert "<title>some &lt;one&gt; · Déjà-vu</title>" in names["index.html"].decode()
    facts = header["facts"]
    assert [section["title"] for section in facts["sections"]][:2] == ["Head and gaze", "Jaw and tongue"]
    assert [control["name"] for control in facts["sections"][0]["controls"]] == ["headYaw", "headPitch", "headRoll", "gazeYaw", "gazePitch"]
    assert facts["orbit"] == {"yaw": HEAD_ORBIT.yaw, "pitch": HEAD_ORBIT.pitch}
    assert facts["webcam"] is False
    assert header["facts"]["swing"] == controls.swing.tolist()
    assert header["facts"]["presets"] == {name: face.tolist() for name, face in controls.presets.items()}


def test_the_page_is_whole_and_reaches_for_nothing_outside():
    page = (PLAYER / "player.html").read_text()
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=\"(?!data:)", page)
    assert "/*SCRIPT*/" not in page
    assert "/*STYLE*/" not in page
    notices = (PLAYER / "NOTICES.txt").read_text()
    versions = json.loads((PLAYER / "package.json").read_text())["devDependencies"]
    assert f"three.js {versions['three']}" in notices
    assert f"MediaPipe Tasks Vision {versions['@mediapipe/tasks-vision']}" in notices
    assert "Apache License" in notices


def test_the_script_for_other_pages_is_whole():
    """It reaches for nothing, and would end no element that it is pasted into."""
    script = (PLAYER / "deja-vu.js").read_text()
    assert not re.search(r"\bimport\s*[\"'(]|</script", script)
    assert "globalThis.DejaVu=" in script


def test_a_folder_without_mediapipe_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no vision_wasm_internal\.js"):
        write_webcam(tmp_path, tmp_path / "model.task", tmp_path / "page")
