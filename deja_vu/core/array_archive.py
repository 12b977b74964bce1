"""Archives of plain arrays (.npz), read so that nothing in them is executed and none exhausts the machine's memory."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from deja_vu.core.documents import in_short
from deja_vu.core.errors import FormatError

DAMAGE = (ValueError, OSError, EOFError, LookupError, MemoryError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What the readers of archives and arrays raise at damaged ones."""
MAX_BYTES = 1 << 30
"""Most that the arrays of an archive may take together; a few kilobytes of zeros can unpack to more than any machine has."""


def read_npz(path: Path, advice: str) -> dict[str, np.ndarray]:
    """Arrays of an archive by name.

    Args:
        path: of a file.
        advice: what to do about a file that is none, a sentence.

    Raises:
        FormatError: it is damaged, too large, or holds anything else than plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MAX_BYTES:
            raise FormatError(f"{path} unpacks to {size / 1e9:.1f} GB; expected at most {MAX_BYTES / 1e9:.1f}. {advice}")
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except DAMAGE as error:
        raise FormatError(f"{path} is not an archive of plain arrays ({in_short(error)}). {advice}") from error
