"""Read the arrays of a pickled dictionary without running anything that the file asks for.

A pickle is a program: it names functions and calls them. Here every name it may use stands for a record of our own, which
notes what it was called with and does nothing; any other name is refused. Afterwards the records are turned into arrays.
This also frees the reader from the packages (chumpy, old scipy) that wrote the file.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from deja_vu.core.errors import FormatError


class _Record:
    """A call that was noted and not made: its arguments, and the state the file gave to the result."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Record):
    """numpy.ndarray, empty until its state (version, shape, dtype, Fortran order, bytes) arrives."""


class _ArrayFromBuffer(_Record):
    """An array as protocol 5 writes it: (bytes, dtype, shape, order)."""


class _Dtype(_Record):
    """numpy.dtype: (name, ...), state (version, byte order, ...)."""


class _Scalar(_Record):
    """A numpy scalar: (dtype, bytes)."""


class _Encoded(_Record):
    """Bytes that Python 2 compatible pickles write as text: (text, encoding), or () where there are none."""


class _Column(_Record):
    """scipy.sparse matrix compressed by columns; its state names data, indices, indptr and shape."""


class _Row(_Record):
    """scipy.sparse matrix compressed by rows."""


class _Chumpy(_Record):
    """chumpy's differentiable array; its state keeps the values under `x`."""


class _Rebuilt:
    """copyreg's way to make an empty object of a class: answers with that class's record."""

    def __new__(cls, kind: Any, *_: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, _Record)):
            raise TypeError(f"{kind!r} is not a class of arrays")
        return kind()

    def __setstate__(self, state: Any) -> None:
        raise TypeError("this name takes no state")


class _Mapping(dict):
    """collections.OrderedDict; plain dictionaries keep their order, too."""

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a dictionary takes no state")


ADMITTED: dict[tuple[str, str], type] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _ArrayFromBuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encoded,
    ("__builtin__", "bytes"): _Encoded,
    **{(f"scipy.sparse.{module}", "csc_matrix"): _Column for module in ("csc", "_csc")},
    **{(f"scipy.sparse.{module}", "csr_matrix"): _Row for module in ("csr", "_csr")},
    ("chumpy.ch", "Ch"): _Chumpy,
    ("copy_reg", "_reconstructor"): _Rebuilt,
    ("copyreg", "_reconstructor"): _Rebuilt,
    ("__builtin__", "object"): _Record,
    ("builtins", "object"): _Record,
    ("collections", "OrderedDict"): _Mapping,
}
"""Every name a file may use, and the record that stands in for it."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise FormatError(
                f"the file asks for {module}.{name}, which is not on the list of harmless names. Nothing in it was run. "
                "Use the file exactly as its publisher distributes it."
            )
        return ADMITTED[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """The arrays, numbers and texts of a pickled dictionary; entries of any other kind come back as they are noted.

    Args:
        path: a pickle of Python 2 or 3, of any protocol.

    Raises:
        FormatError: the file names anything outside `ADMITTED`, is damaged, or holds no dictionary.
    """
    try:
        with path.open("rb") as file:
            content = _Reader(file, encoding="latin1").load()
        if not isinstance(content, dict):
            raise FormatError("it holds no dictionary")
        return {str(name): _decode(value) for name, value in content.items()}
    except FormatError as error:
        raise FormatError(f"{path} cannot be used: {error}") from error
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise FormatError(f"{path} is damaged or not a pickle of arrays ({error}). Download it again from its publisher.") from error


def _decode(value: Any) -> Any:
    """Turn a record into what it stands for; other values pass."""
    match value:
        case _Chumpy():
            return _decode(value.state["x"])
        case _Array():
            _, shape, dtype, fortran, content = value.state
            return _array(content, dtype, shape, "F" if fortran else "C")
        case _ArrayFromBuffer():
            content, dtype, shape, order = value.args
            return _array(content, dtype, shape, order)
        case _Scalar():
            return _array(value.args[1], value.args[0], (), "C")[()]
        case _Column() | _Row():
            return _dense(value)
        case _:
            return value


def _array(content: Any, dtype: Any, shape: tuple[int, ...], order: Any) -> np.ndarray:
    """An array of numbers from its bytes; np.frombuffer and reshape check that the sizes agree."""
    if not isinstance(dtype, _Dtype) or not isinstance(dtype.args[0], str):
        raise FormatError("an array in it has no plain type of numbers")
    kind: str = dtype.args[0]
    byte_order: Any = dtype.state[1] if dtype.state else "="
    if kind[:1] not in "fiub" or not kind[1:].isdigit():
        raise FormatError(f"it holds an array of type {kind!r}; only numbers are read")
    if isinstance(content, _Encoded):
        content = content.args[0] if content.args else b""
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    return np.frombuffer(raw, np.dtype(kind).newbyteorder(byte_order)).reshape(shape, order=order)


def _dense(matrix: _Record) -> np.ndarray:
    """A sparse matrix in full."""
    state = matrix.state
    data, indices, indptr = (_decode(state[name]) for name in ("data", "indices", "indptr"))
    rows, columns = (int(size) for size in state.get("_shape", state.get("shape")))
    major = columns if isinstance(matrix, _Column) else rows
    if len(indptr) != major + 1 or rows * columns > 10**7:
        raise FormatError(f"it holds a sparse matrix of {rows} x {columns} with {len(indptr)} pointers, which do not agree")
    dense = np.zeros((rows, columns), dtype=data.dtype)
    other = np.repeat(np.arange(major), np.diff(indptr))
    np.add.at(dense, (indices, other) if isinstance(matrix, _Column) else (other, indices), data)
    return dense
