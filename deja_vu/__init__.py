"""From a phone video to a 3D Gaussian head avatar that you can drive.

The parts are imported from where they live: `deja_vu.heads.load_head`, `deja_vu.render.rasterize`, `deja_vu.avatars.load_avatar`,
`deja_vu.core.sequence.TrackedSequence`; the recipes are in `deja_vu.pipelines`. Importing this package loads nothing heavy.
"""

__version__ = "0.1.0"
