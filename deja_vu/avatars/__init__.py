"""Representations of one person's head behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deja_vu.core.lazy import lazy_names

if TYPE_CHECKING:
    from deja_vu.avatars.base import Avatar
    from deja_vu.avatars.gaussian.avatar import GaussianAvatar
    from deja_vu.avatars.gaussian.config import GaussianConfig
    from deja_vu.avatars.io import AVATARS, kind_of, load_avatar, read_subject, save_avatar
    from deja_vu.avatars.nelf.avatar import NelfAvatar
    from deja_vu.avatars.nelf.config import NelfConfig
    from deja_vu.avatars.nerf.avatar import NerfAvatar
    from deja_vu.avatars.nerf.config import NerfConfig

__all__ = [
    "AVATARS",
    "Avatar",
    "GaussianAvatar",
    "GaussianConfig",
    "NelfAvatar",
    "NelfConfig",
    "NerfAvatar",
    "NerfConfig",
    "kind_of",
    "load_avatar",
    "read_subject",
    "save_avatar",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AVATARS": "deja_vu.avatars.io",
        "Avatar": "deja_vu.avatars.base",
        "GaussianAvatar": "deja_vu.avatars.gaussian.avatar",
        "GaussianConfig": "deja_vu.avatars.gaussian.config",
        "NelfAvatar": "deja_vu.avatars.nelf.avatar",
        "NelfConfig": "deja_vu.avatars.nelf.config",
        "NerfAvatar": "deja_vu.avatars.nerf.avatar",
        "NerfConfig": "deja_vu.avatars.nerf.config",
        "kind_of": "deja_vu.avatars.io",
        "load_avatar": "deja_vu.avatars.io",
        "read_subject": "deja_vu.avatars.io",
        "save_avatar": "deja_vu.avatars.io",
    },
)
