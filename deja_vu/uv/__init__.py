"""The head's surface as an image: which texel shows which point, and how texels follow the posed head."""

from deja_vu.uv.attach import SurfaceFrames, attach, to_gaussians, vertex_normals
from deja_vu.uv.binding import Carrier, Resample, SummedMap, build_carrier, carry
from deja_vu.uv.layout import UVLayout, build_layout, resample_weights

__all__ = [
    "Carrier",
    "Resample",
    "SummedMap",
    "SurfaceFrames",
    "UVLayout",
    "attach",
    "build_carrier",
    "build_layout",
    "carry",
    "resample_weights",
    "to_gaussians",
    "vertex_normals",
]
