"""Gaussians as SPZ, Niantic's compressed format: 19 bytes a Gaussian before gzip."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deja_vu.core.gaussians import Gaussians
from deja_vu.io.files import write_atomic

MAGIC = 0x5053474E
VERSION = 3
"""The version whose rotations are exact to 0.1 degrees; version 2 keeps 8 bits a component."""
FRACTION_BITS = 18
"""Positions in steps of 4 micrometers, up to 32 m: a head needs finer steps than the 0.24 mm that scenes are stored with."""
COLOR_SCALE = 0.15
"""Levels of 1/255 for one unit of the constant spherical harmonic, as the format fixes it."""


def write_spz(gaussians: Gaussians, path: Path) -> None:
    """Write one set of Gaussians, rounded as the format does.

    Args:
        gaussians: in head space, meters; spherical harmonics of degree 0.
        path: .spz file.

    Raises:
        OutputError: the file cannot be written.

    Source:
        The format's public description: header of 16 bytes, then all positions, opacities, colors, scales, rotations; gzip.
        Axes right, up, back.
    """
    header = struct.pack("<IIIBBBB", MAGIC, VERSION, len(gaussians.means), 0, FRACTION_BITS, 0, 0)
    parts = [
        _fixed24(gaussians.means),
        _bytes(gaussians.opacities * 255),
        _bytes((gaussians.sh[:, 0] * COLOR_SCALE + 0.5) * 255),
        _bytes((gaussians.scales.log() + 10) * 16),
        _smallest_three(gaussians.quats),
    ]
    write_atomic(path, gzip.compress(header + b"".join(part.tobytes() for part in parts), mtime=0))


def _bytes(values: Float[Tensor, "..."]) -> UInt8[np.ndarray, "..."]:
    return values.round().clamp(0, 255).to(torch.uint8).numpy()


def _fixed24(values: Float[Tensor, "n 3"]) -> UInt8[np.ndarray, "n 3 3"]:
    """Signed fixed-point numbers of 24 bits, lowest byte first."""
    limit = 2**23 - 1
    whole = (values.double() * 2**FRACTION_BITS).round().clamp(-limit, limit).to(torch.int32).numpy()
    return np.ascontiguousarray(whole.astype("<i4").view(np.uint8).reshape(-1, 3, 4)[:, :, :3])


def _smallest_three(quats: Float[Tensor, "n 4"]) -> UInt8[np.ndarray, "n 4"]:
    """Unit quaternions in 32 bits: index of the largest component (order xyzw), then sign and 9 bits of each of the others."""
    xyzw = torch.nn.functional.normalize(quats.double(), dim=-1)[:, [1, 2, 3, 0]]
    largest = xyzw.abs().argmax(1)
    flip = torch.where(xyzw.gather(1, largest[:, None]) < 0, -1.0, 1.0)
    others = torch.tensor([[k for k in range(4) if k != skipped] for skipped in range(4)])[largest]
    rest = (xyzw * flip).gather(1, others)
    size = (rest.abs() * 2**0.5 * 511).round().clamp(0, 511).long()
    fields = (rest < 0).long() * 512 + size
    packed = (largest << 30) | (fields[:, 0] << 20) | (fields[:, 1] << 10) | fields[:, 2]
    return packed.numpy().astype("<u4").view(np.uint8).reshape(-1, 4)
