"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

from deja_vu.core.errors import OutputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step; a former one is kept where that fails.

    Args:
        path: file to write; its folder is made.
        content: all of it.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        if part.is_file():
            part.unlink()
        raise OutputError(f"{path} could not be written ({error.strerror or error}). Make room or choose another --out.") from error
