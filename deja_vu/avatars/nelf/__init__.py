"""The light field avatar (LightAvatar, 2024): one pass from a code and a camera to a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deja_vu.core.lazy import lazy_names

if TYPE_CHECKING:
    from deja_vu.avatars.nelf.avatar import NelfAvatar, NelfRender
    from deja_vu.avatars.nelf.config import PUBLISHED, NelfConfig
    from deja_vu.avatars.nelf.warp import WarpField

__all__ = [
    "PUBLISHED",
    "NelfAvatar",
    "NelfConfig",
    "NelfRender",
    "WarpField",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "NelfAvatar": "deja_vu.avatars.nelf.avatar",
        "NelfConfig": "deja_vu.avatars.nelf.config",
        "NelfRender": "deja_vu.avatars.nelf.avatar",
        "PUBLISHED": "deja_vu.avatars.nelf.config",
        "WarpField": "deja_vu.avatars.nelf.warp",
    },
)
