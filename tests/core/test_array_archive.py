"""Archives of arrays from strangers."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from deja_vu.core import array_archive
from deja_vu.core.array_archive import read_npz
from deja_vu.core.errors import FormatError


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False])}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz", "Export it again.")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())


def test_one_array_alone_is_no_archive(tmp_path: Path) -> None:
    """NumPy opens it whatever its name, and returns something else."""
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(FormatError, match=r"not an archive of plain arrays.*Export it again"):
        read_npz(tmp_path / "x.npz", "Export it again.")


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(array_archive, "MAX_BYTES", 1_000_000)
    np.savez_compressed(tmp_path / "x.npz", zeros=np.zeros(1_000_000))
    assert (tmp_path / "x.npz").stat().st_size < 20_000
    with pytest.raises(FormatError, match="unpacks to"):
        read_npz(tmp_path / "x.npz", "Export it again.")


def test_a_shape_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    with pytest.raises(FormatError, match="not an archive of plain arrays"):
        read_npz(tmp_path / "x.npz", "Export it again.")
