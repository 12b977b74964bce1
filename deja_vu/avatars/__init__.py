"""Representations of one person's head behind one interface."""

from deja_vu.avatars.base import Avatar
from deja_vu.avatars.gaussian.avatar import GaussianAvatar, GaussianConfig
from deja_vu.avatars.io import AVATARS, kind_of, load_avatar, read_subject, save_avatar
from deja_vu.avatars.nelf import NelfAvatar, NelfConfig
from deja_vu.avatars.nerf import NerfAvatar, NerfConfig

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
