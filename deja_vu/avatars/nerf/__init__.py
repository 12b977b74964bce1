"""The radiance field avatar (GPAvatar, ICLR 2024), as published or for one person."""

from deja_vu.avatars.nerf.avatar import NerfAvatar, NerfRender
from deja_vu.avatars.nerf.config import PUBLISHED, NerfConfig

__all__ = ["PUBLISHED", "NerfAvatar", "NerfConfig", "NerfRender"]
