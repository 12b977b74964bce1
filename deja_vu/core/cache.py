"""The folder of things that can be made or fetched again: the compiled library and downloaded models."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from deja_vu.core.errors import OutputError


def cache_folder() -> Path:
    """$DEJA_VU_CACHE, else `deja-vu` in the user's cache; a private temporary folder where the user has no home.

    Raises:
        OutputError: there is no home, and somebody else owns the temporary folder.
    """
    if chosen := os.environ.get("DEJA_VU_CACHE"):
        return Path(os.path.expanduser(chosen))
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "deja-vu"
    home = os.path.expanduser("~")
    if home != "~":
        return Path(home) / ".cache" / "deja-vu"
    folder = Path(tempfile.gettempdir()) / f"deja-vu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise OutputError(f"{folder} belongs to somebody else. Set DEJA_VU_CACHE to a folder of your own.")
    return folder
