"""Native code: found, built, loaded and called; the kernels' sources are in `csrc/`."""

from deja_vu.native.abi import (
    RASTER_WORKSPACE,
    Attach,
    Color,
    Mesh,
    Neighbors,
    Picture,
    RasterGradients,
    RasterInput,
    RasterOutput,
    RasterWork,
    Ssim,
)
from deja_vu.native.library import NativeError, available, call, load, select_variant, variant

__all__ = [
    "RASTER_WORKSPACE",
    "Attach",
    "Color",
    "Mesh",
    "NativeError",
    "Neighbors",
    "Picture",
    "RasterGradients",
    "RasterInput",
    "RasterOutput",
    "RasterWork",
    "Ssim",
    "available",
    "call",
    "load",
    "select_variant",
    "variant",
]
