"""The radiance field avatar (GPAvatar, ICLR 2024), as published or for one person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deja_vu.core.lazy import lazy_names

if TYPE_CHECKING:
    from deja_vu.avatars.nerf.avatar import NerfAvatar, NerfRender
    from deja_vu.avatars.nerf.config import PUBLISHED, NerfConfig

__all__ = [
    "PUBLISHED",
    "NerfAvatar",
    "NerfConfig",
    "NerfRender",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "NerfAvatar": "deja_vu.avatars.nerf.avatar",
        "NerfConfig": "deja_vu.avatars.nerf.config",
        "NerfRender": "deja_vu.avatars.nerf.avatar",
        "PUBLISHED": "deja_vu.avatars.nerf.config",
    },
)
