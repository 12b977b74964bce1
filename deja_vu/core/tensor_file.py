"""Open a safetensors file, whatever bytes its name has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open


@contextmanager
def open_tensors(path: Path | str) -> Iterator[Any]:
    """An open safetensors file; the library knows names in UTF-8 alone, and every system gives what is open a name of its own.

    Raises:
        SafetensorError: it is damaged, or none.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file, safe_open(f"/dev/fd/{file.fileno()}", framework="pt") as tensors:
        yield tensors
