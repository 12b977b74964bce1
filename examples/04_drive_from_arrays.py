"""Drive an avatar with numbers of your own: a face tracker's, a game's, a talking program's.

    python examples/04_drive_from_arrays.py runs/demo

What drives it is an array of expression strengths and one of angles, a row a frame. Reads a run folder or an avatar.safetensors. Writes
driven.mp4.
"""

import sys
from pathlib import Path

import numpy as np

import deja_vu
from deja_vu.io.video import write_video

FPS = 25
NAMES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight")


def main(run: str, frames: int = 50, size: int = 256) -> None:
    me = deja_vu.load(run)
    seconds = np.arange(frames) / FPS
    talk, smile = 0.25 - 0.25 * np.cos(14 * seconds), np.clip(seconds - 0.5, 0, 0.6)
    weights = np.stack([talk, smile, smile], axis=1)  # [frames, names], in [0, 1]
    angles = np.stack([15 * np.sin(3 * seconds), 5 * np.sin(5 * seconds)], axis=1)  # [frames, 2]: yaw and pitch, degrees
    pictures = (
        np.asarray(me.render(dict(zip(NAMES, row.tolist(), strict=True)), yaw=yaw, pitch=pitch, size=size))
        for row, (yaw, pitch) in zip(weights, angles.tolist(), strict=True)
    )
    write_video(Path("driven.mp4"), pictures, FPS)
    print("written: driven.mp4")


if __name__ == "__main__":
    main(*sys.argv[1:2])
