"""The folder of things that can be made or fetched again: the compiled library and downloaded models."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

from deja_vu.core.errors import OutputError


def cache_folder() -> Path:
    """$DEJA_VU_CACHE, else `deja-vu` in the user's cache; a private temporary folder where the user has no home that is there.

    Relative paths in XDG_CACHE_HOME and HOME count for nothing (XDG Base Directory Specification): they would be other folders everywhere.

    Raises:
        OutputError: there is no home, and somebody else owns the temporary folder.
    """
    if chosen := os.environ.get("DEJA_VU_CACHE"):
        return Path(os.path.expanduser(chosen))
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(caches):
        return Path(caches) / "deja-vu"
    home = _find_home()
    if home is not None:
        return home / ".cache" / "deja-vu"
    folder = Path(tempfile.gettempdir()) / f"deja-vu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise OutputError(f"{folder} belongs to somebody else. Set DEJA_VU_CACHE to a folder of your own.")
    return folder


def _find_home() -> Path | None:
    """The user's home, by HOME or by the system's list of users; None where it is not there."""
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) if os.path.isabs(home) and os.path.isdir(home) else None
