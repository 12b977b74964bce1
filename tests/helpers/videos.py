"""Files that look like videos and are none."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write_sound(path: Path) -> None:
    """A quarter of a second of silence without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
