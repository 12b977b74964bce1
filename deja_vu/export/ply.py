"""Gaussians as the PLY file of 3D Gaussian Splatting, which every splat viewer reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deja_vu.core.gaussians import ACTIVATIONS, Gaussians
from deja_vu.export.space import RIGHT_DOWN_FORWARD, rotate_gaussians
from deja_vu.io.files import write_atomic

FIELDS = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", *(f"scale_{k}" for k in range(3)))
"""Before the quaternion `rot_0` to `rot_3`; normals are zero, as 3DGS writes them."""
LEAST = 1e-6
"""Opacities are kept this far from 0 and 1, where their logit is infinite."""


def write_ply(gaussians: Gaussians, path: Path) -> None:
    """Write one set of Gaussians, losslessly but for rounding.

    Args:
        gaussians: in head space, meters; spherical harmonics of degree 0.
        path: .ply file.

    Raises:
        OutputError: the file cannot be written.

    Source:
        Kerbl et al., 3D Gaussian Splatting, SIGGRAPH 2023: raw values (logit of opacity, logarithm of scales), quaternions wxyz,
        axes right, down, forward.
    """
    there = rotate_gaussians(gaussians, RIGHT_DOWN_FORWARD)
    opacity = there.opacities.clamp(LEAST, 1 - LEAST)
    logit = ACTIVATIONS["opacity_logit"].inverse(opacity)[:, None]
    log_scale = ACTIVATIONS["log_scale"].inverse(there.scales)
    columns = [there.means, torch.zeros_like(there.means), there.sh[:, 0], logit, log_scale, there.quats]
    table = torch.cat(columns, dim=1).numpy().astype("<f4")
    names = (*FIELDS, *(f"rot_{k}" for k in range(4)))
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    write_atomic(path, "\n".join(header).encode() + np.ascontiguousarray(table).tobytes())
