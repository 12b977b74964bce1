from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from deja_vu.core.errors import MissingAssetError, OutputError
from deja_vu.export.frames import PngSequence, VirtualCamera


def test_pictures_keep_color_and_alpha(tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 4), dtype=np.uint8)
    with PngSequence(tmp_path / "new" / "pictures") as sink:
        for frame in frames:
            sink.write(frame)
    files = sorted((tmp_path / "new" / "pictures").iterdir())
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    read = np.stack([cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA) for file in files])
    assert np.array_equal(read, frames)


def test_opaque_pictures_are_written_too(tmp_path) -> None:
    with PngSequence(tmp_path / "pictures") as sink:
        sink.write(np.full((4, 4, 3), (250, 10, 20), np.uint8))
    assert cv2.imread(str(tmp_path / "pictures" / "000000.png"), cv2.IMREAD_UNCHANGED)[0, 0].tolist() == [20, 10, 250]


def test_a_folder_in_use_is_refused(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "000007.png").write_text("mine too")
    with pytest.raises(OutputError, match="holds pictures"):
        PngSequence(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        PngSequence(tmp_path / "notes.txt" / "pictures")


def test_a_virtual_camera_without_its_package_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(MissingAssetError, match=r"pip install .\.\[virtual-camera\]"):
        VirtualCamera(30.0)
