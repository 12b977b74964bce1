"""Representations of one person's head behind one interface."""

from deja_vu.avatars.base import Avatar
from deja_vu.avatars.gaussian import GaussianAvatar, GaussianConfig
from deja_vu.avatars.io import load_avatar, save_avatar

__all__ = ["Avatar", "GaussianAvatar", "GaussianConfig", "load_avatar", "save_avatar"]
