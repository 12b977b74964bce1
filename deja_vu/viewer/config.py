"""Settings of the viewer, apart from its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from deja_vu.core.ranges import Pixels, Range
from deja_vu.motion.config import TorsoMode


@dataclass(frozen=True)
class ViewerConfig:
    """Where and how large the page is."""

    host: str = "127.0.0.1"
    """Address to listen on. The default is this machine alone; 0.0.0.0 is everybody who can reach it."""
    port: Annotated[int, Range(1, 65535)] = 8080
    """Port to listen on."""
    film: Literal["here", "all", "never"] = "here"
    """Who may put filmed frames beside the renders: visitors where this machine alone can open the page, all visitors, or none."""
    size: Pixels = 1080
    """Largest height of the pictures, pixels; they are as large as the window up to it."""
    torso: TorsoMode = "still"
    """What a whole person's torso does in further motions: still stays as far as the neck reaches, follow goes a part of the head's way and
    late, source does as the mover's own. In the person's own film it does as filmed."""
