"""The light field avatar (LightAvatar, 2024): one pass from a code and a camera to a picture."""

from deja_vu.avatars.nelf.avatar import NelfAvatar, NelfRender
from deja_vu.avatars.nelf.network import PUBLISHED, NelfConfig
from deja_vu.avatars.nelf.warp import WarpField

__all__ = ["PUBLISHED", "NelfAvatar", "NelfConfig", "NelfRender", "WarpField"]
