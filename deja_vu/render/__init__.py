"""Rasterizers of Gaussians and meshes."""

from deja_vu.render.base import RASTERIZERS, rasterize
from deja_vu.render.mesh import MeshFragments, rasterize_mesh

__all__ = ["RASTERIZERS", "MeshFragments", "rasterize", "rasterize_mesh"]
