"""The head's surface as an image: which texel shows which point, and how texels follow the posed head."""

from deja_vu.uv.attach import SurfaceFrames, attach, to_gaussians, vertex_normals
from deja_vu.uv.binding import Resample, SummedMap, SurfaceBinding, bind_texels, pose_gaussians
from deja_vu.uv.layout import UVLayout, build_layout, resample_weights

__all__ = [
    "Resample",
    "SummedMap",
    "SurfaceBinding",
    "SurfaceFrames",
    "UVLayout",
    "attach",
    "bind_texels",
    "build_layout",
    "pose_gaussians",
    "resample_weights",
    "to_gaussians",
    "vertex_normals",
]
