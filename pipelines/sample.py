"""The sample subject on disk: a video of a synthetic person, and its ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from deja_vu.core.errors import OutputError
from deja_vu.datasets.synthetic import SyntheticSubject
from deja_vu.io.arrays import write_tensors
from deja_vu.io.video import Image, write_video
from deja_vu.pipelines.configs import TRUTH_SUFFIX


def write_sample(
    path: Path, frames: int = 150, *, size: int = 512, seed: int = 2, fps: float = 25.0, close: bool = False
) -> SyntheticSubject:
    """Write a video of a made-up person, and beside it the truth as `<name>.truth.safetensors`.

    The truth holds, for every frame, the head model's parameters (`expression`, `joints`, `world_from_head`, `torso`), the poses of the
    skull with the neck's turn in it (`world_from_skull`) and of the torso (`world_from_torso`), the pupils' world positions (`pupils`,
    left and right), and for the whole clip the identity (`shape`) and the camera (`intrinsics`).

    Args:
        path: .mp4 file to write; its folder is made.
        frames: length.
        size: width and height in pixels.
        seed: chooses the person and what happens.
        fps: frame rate, 1/s.
        close: whether the head fills the picture, before a beige wall.

    Raises:
        OutputError: the target cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {path.parent} cannot be made ({error.strerror}). Choose another place for {path.name}.") from error
    subject = SyntheticSubject(frames, size, seed, fps, close=close)
    write_video(path, _show(subject.frames(), frames), fps)
    save_truth(subject, path.with_suffix(TRUTH_SUFFIX), close=close)
    return subject


def save_truth(subject: SyntheticSubject, path: Path, *, close: bool = False) -> None:
    """Write what is known about a clip; see `write_sample`.

    Raises:
        OutputError: the file cannot be written.
    """
    params = subject.params
    neck = subject.head.spec.joint_names.index("neck")
    tensors = {
        "shape": params.shape[0],
        "expression": params.expression,
        "joints": params.joints,
        "world_from_head": params.world_from_head,
        "torso": params.torso,
        "world_from_torso": params.world_from_torso,
        "world_from_skull": subject.head.world_from_parts(params)[:, neck + 1],
        "pupils": torch.stack([subject.pupils(index) for index in range(len(subject))]),
        "intrinsics": subject.camera.intrinsics,
    }
    metadata = {"head": subject.head.spec.name, "size": str(subject.size), "fps": str(subject.fps), "seed": str(subject.seed)}
    metadata["close"] = str(close)
    write_tensors(path, tensors, metadata)


def _show(images: Iterable[Image], frames: int) -> Iterator[Image]:
    yield from tqdm(images, desc="sample", total=frames, unit="frame")
