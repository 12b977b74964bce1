"""What one training or evaluation step sees of a video."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams


@dataclass(frozen=True)
class Batch:
    """Frames with everything a loss needs, on one pixel grid."""

    positions: Int[Tensor, "B"]
    """Places in the sequence."""
    image: Float[Tensor, "B H W 3"]
    """Cropped frames, sRGB in [0, 1]."""
    head: Float[Tensor, "B H W 1"]
    """Head alpha."""
    person: Float[Tensor, "B H W 1"]
    """Alpha of the whole person, neck and torso included."""
    known: Float[Tensor, "B H W 1"]
    """1 where the frame shows what was filmed, 0 beyond its border and behind bars."""
    counted: Float[Tensor, "B H W 1"]
    """1 on the head and the true background, 0 on neck, torso and what is not known, which count for nobody."""
    attention: Float[Tensor, "B H W 1"]
    """1 on eyes and mouth."""
    params: HeadParams
    camera: Camera
