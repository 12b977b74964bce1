"""MediaPipe as a package: loaded quietly, and kept from reporting to its publisher."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

from deja_vu.core.errors import MissingAssetError

APT_COMMAND = "apt-get install -y libegl1 libgles2 libgl1 libglib2.0-0"
"""System libraries that the mediapipe and OpenCV wheels link on Linux."""
NO_PROXY = b"nowhere://127.0.0.1:9"
"""A proxy of a kind that libcurl does not know: it gives up before it opens a socket or asks for a name."""


def stop_usage_reports() -> None:
    """Keep MediaPipe from sending its publisher how often, where and for how long it was used; call it before a task is made.

    Its tasks post such reports through a libcurl of their own (`mediapipe/tasks/c/libmediapipe.so`, to play.googleapis.com), with no
    option against it. libcurl reads its proxy from the C library's environment when it connects, so a proxy that cannot be is set there;
    Python's `os.environ`, by which this program's own downloads go, is another copy and stays as it is.
    """
    libc = ctypes.CDLL(None)
    for name in (b"no_proxy", b"NO_PROXY"):
        libc.unsetenv(name)
    for name in (b"https_proxy", b"HTTPS_PROXY"):
        libc.setenv(name, NO_PROXY, 1)


def missing_mediapipe(error: Exception) -> MissingAssetError:
    """The error that says how to make mediapipe load."""
    if isinstance(error, ModuleNotFoundError):
        return MissingAssetError(f"The package {error.name} is not installed. Tracking needs it: pip install 'mediapipe>=1.2'")
    return MissingAssetError(f"mediapipe cannot load a system library: {error}. On Debian or Ubuntu run as root: {APT_COMMAND}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what native libraries write to file descriptor 2; Python's own errors still arrive as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
