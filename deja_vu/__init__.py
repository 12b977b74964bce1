"""From a phone video to a 3D Gaussian avatar that you can drive.

    import deja_vu

    me = deja_vu.load("runs/me")  # a run folder, or its avatar.safetensors
    me.render({"jawOpen": 0.6, "mouthSmileLeft": 0.5}, yaw=15, size=512).save("me.png")

The names below are loaded when they are first used, so importing this package loads nothing heavy. Everything else is imported from
where it lives, as `deja_vu.avatars.GaussianAvatar`; the stages are in `deja_vu.pipelines`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deja_vu.core.lazy import lazy_names

if TYPE_CHECKING:
    from deja_vu.avatars import Avatar, load_avatar
    from deja_vu.core.camera import Camera
    from deja_vu.core.gaussians import Gaussians
    from deja_vu.core.head import HeadParams
    from deja_vu.core.sequence import TrackedSequence
    from deja_vu.heads import load_head
    from deja_vu.pipelines.person import load
    from deja_vu.render import rasterize
    from deja_vu.tracking import track_video

__version__ = "0.1.0"

__all__ = [
    "Avatar",
    "Camera",
    "Gaussians",
    "HeadParams",
    "TrackedSequence",
    "load",
    "load_avatar",
    "load_head",
    "rasterize",
    "track_video",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Avatar": "deja_vu.avatars",
        "Camera": "deja_vu.core.camera",
        "Gaussians": "deja_vu.core.gaussians",
        "HeadParams": "deja_vu.core.head",
        "TrackedSequence": "deja_vu.core.sequence",
        "load": "deja_vu.pipelines.person",
        "load_avatar": "deja_vu.avatars",
        "load_head": "deja_vu.heads",
        "rasterize": "deja_vu.render",
        "track_video": "deja_vu.tracking",
    },
)
