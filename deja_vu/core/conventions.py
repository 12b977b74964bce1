"""Conventions, stated once. Every module follows them and none repeats them.

Units      meters, radians, seconds.
Axes       right-handed. Head space: x to the subject's left, y up, z out of the face, origin at the head joint.
           Camera space (OpenCV): x right, y down, z forward. A pixel's center lies at its index + 0.5.
Matrices   act on column vectors; ``a_from_b`` maps coordinates in b to coordinates in a.
Rotations  quaternions are wxyz; joints are axis-angle vectors.
Images     [..., height, width, 3], float in [0, 1], sRGB as stored in the video; alpha is straight, not premultiplied.
Masks      are named for what is True (or 1).

Letters in shapes:

    B batch   T frames   V vertices   F faces   N Gaussians   M valid texels   s texels a side
    S identity components   E expressions   J joints   K blendmaps   C image channels
"""

import torch

FACING_CAMERA = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Rotation of a head that looks straight into a camera: camera axes from head axes, half a turn about x [3 3]."""

SH_C0 = 0.28209479177387814
"""Value of the constant spherical harmonic: color = 0.5 + SH_C0 * coefficient (3D Gaussian Splatting, SIGGRAPH 2023)."""
