"""How far around a head one may look where a visitor turns the camera: the exported page and the viewer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Orbit:
    """Largest turn of the camera about the head, away from where it first stands, degrees to both sides."""

    yaw: float
    pitch: float


ORBIT = Orbit(yaw=75.0, pitch=35.0)
"""A head learned from a video of its front has no neck and no back: beyond these angles one looks into it."""
