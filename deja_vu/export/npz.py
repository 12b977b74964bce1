"""An avatar's raw maps, and everything that moves them, as one NumPy archive."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from deja_vu.export.rig import Rig
from deja_vu.io.files import write_atomic

FORMAT = "deja-vu rig/2"


def write_npz(rig: Rig, path: Path) -> None:
    """Write a rig, losslessly; `facts` is JSON text, everything else float32 or int32.

    Args:
        rig: the avatar.
        path: .npz file; `numpy.load` reads it without pickle.

    Raises:
        OutputError: the file cannot be written.
    """
    buffer = io.BytesIO()
    texts = {"format": np.array(FORMAT), "facts": np.array(json.dumps(rig.facts))}
    np.savez_compressed(buffer, **(texts | rig.arrays))  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())
