from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse

from deja_vu.core.errors import FormatError
from deja_vu.heads.restricted_pickle import ADMITTED, read_pickle


@pytest.fixture
def chumpy_array(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], object]:
    """Makes objects that pickle as chumpy's arrays do: class chumpy.ch.Ch, the values under `x` in its state."""
    module = types.ModuleType("chumpy.ch")
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)

    def make(values: np.ndarray) -> object:
        array = module.Ch()
        array.__dict__.update(x=values, _dirty_vars=[], _status="new")
        return array

    return make


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its texts and array contents."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def write(path: Path, content: object, protocol: int | str) -> Path:
    if protocol == "python2":
        stream = io.BytesIO()
        Python2Pickler(stream, 2).dump(content)
        path.write_bytes(stream.getvalue())
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5, "python2"])
def test_arrays_of_every_protocol_come_back(tmp_path: Path, chumpy_array, protocol: int | str) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "doubles": generator.normal(size=(7, 3, 4)),
        "fortran": np.asfortranarray(generator.normal(size=(5, 6)).astype(np.float32)),
        "big_endian": generator.normal(size=4).astype(">f8"),
        "unsigned": generator.integers(0, 2**32, (6, 3), dtype=np.uint32),
        "bytes": np.arange(256, dtype=np.uint8),
        "empty": np.zeros((0, 3)),
        "none": np.array(1.5),
    }
    content = collections.OrderedDict(
        **arrays,
        chumpy=chumpy_array(arrays["doubles"]),
        columns=scipy.sparse.csc_matrix(scipy.sparse.random(5, 60, 0.1, random_state=0)),
        rows=scipy.sparse.csr_matrix(scipy.sparse.random(5, 60, 0.1, random_state=1)),
        scalar=np.float32(2.5),
        text="generic",
        number=3,
    )
    read = read_pickle(write(tmp_path / "model.pkl", content, protocol))
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)
    np.testing.assert_array_equal(read["chumpy"], arrays["doubles"])
    np.testing.assert_array_equal(read["columns"], content["columns"].toarray())
    np.testing.assert_array_equal(read["rows"], content["rows"].toarray())
    assert (read["scalar"], read["text"], read["number"]) == (2.5, "generic", 3)


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call

    def __call__(self) -> None:
        """Only for the pickler, which asks whether the first part of a call can be called."""


def attacks(mark: Path) -> dict[str, object]:
    """Objects that create the file `mark` when they are unpickled in the ordinary way."""
    return {
        "os.system": Calls(os.system, f"touch {mark}"),
        "eval": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Calls(exec, f"open({str(mark)!r}, 'w')"),
        "open": Calls(open, str(mark), "w"),
        "nested getattr": Calls(Calls(getattr, Calls(__import__, "os"), "system"), f"touch {mark}"),
        "numpy": Calls(np.savetxt, str(mark), [1.0]),
        "inside an array's state": {"v_template": [np.zeros(3), {"deep": Calls(os.system, f"touch {mark}")}]},
    }


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", attacks(Path()))
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path, name: str, protocol: int) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps({"v_template": np.zeros(3), "x": attacks(mark)[name]}, protocol)
    pickle.loads(content)
    assert mark.exists(), "the attack must be a real one"
    mark.unlink()
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(FormatError, match=r"not on the list of harmless names. Nothing in it was run"):
        read_pickle(tmp_path / "model.pkl")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy", "dtype.__class__"),
        ("chumpy.ch", "MatVecMult"),
        ("deja_vu.heads.restricted_pickle", "_Record"),
    ],
)
def test_names_off_the_list_are_refused_by_name(tmp_path: Path, module: str, name: str) -> None:
    stack_global = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93)R."
    for content in (stack_global, f"c{module}\n{name}\n(tR.".encode(), f"(i{module}\n{name}\n.".encode()):
        (tmp_path / "model.pkl").write_bytes(content)
        with pytest.raises(FormatError, match=rf"{module}\.{name}".replace("__", "_+")):
            read_pickle(tmp_path / "model.pkl")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"# not a pickle", id="text"),
        pytest.param(pickle.dumps({"a": np.zeros(100)})[:-40], id="truncated"),
        pytest.param(pickle.dumps([1, 2]), id="no dictionary"),
        pytest.param(pickle.dumps({"a": np.array([{}, None], dtype=object)}), id="array of objects"),
        pytest.param(pickle.dumps({"a": np.array(["text"])}), id="array of texts"),
        pytest.param(b"cnumpy\nndarray\n}S'args'\nI1\nsb.", id="state for a class"),
        pytest.param(b"ccopy_reg\n_reconstructor\n(cbuiltins\nobject\nNNtRI1\na.", id="append to a record"),
        pytest.param(b"ccopy_reg\n_reconstructor\n(I1\nNNtR.", id="rebuild a number"),
        pytest.param(b"ccollections\nOrderedDict\n(tR}S'update'\nI1\nsb.", id="state for a dictionary"),
        pytest.param(b"Pid\n.", id="persistent id"),
        pytest.param(b"(dS'a'\ncchumpy.ch\nCh\n(tRp0\n(dS'x'\ng0\nsbs.", id="a chumpy array of itself"),
        pytest.param(b"\x80\x02\x82\x01.", id="extension registry"),
    ],
)
def test_damaged_or_odd_files_are_refused(tmp_path: Path, content: bytes) -> None:
    admitted, methods = dict(ADMITTED), {kind: dict(vars(kind)) for kind in ADMITTED.values()}
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(FormatError, match=r"model\.pkl"):
        read_pickle(tmp_path / "model.pkl")
    assert admitted == ADMITTED
    assert methods == {kind: dict(vars(kind)) for kind in ADMITTED.values()}


def test_an_array_with_missing_bytes_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"a": np.zeros(4)}, 2)
    assert content.count(b"K\x04\x85") == 1  # the shape (4,)
    (tmp_path / "model.pkl").write_bytes(content.replace(b"K\x04\x85", b"K\x05\x85"))
    with pytest.raises(FormatError, match="damaged"):
        read_pickle(tmp_path / "model.pkl")
