"""Signs that the mattes of a video are wrong."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from deja_vu.tracking.config import MatteCheckConfig


def check_mattes(
    alpha: UInt8[np.ndarray, "T H W"],
    valid: UInt8[np.ndarray, "H W"],
    index: Int[np.ndarray, " T"],
    config: MatteCheckConfig = MatteCheckConfig(),
) -> tuple[str, ...]:
    """What to tell the user about the mattes of one video.

    Args:
        alpha: of the person.
        valid: 255 where the crop shows what was filmed.
        index: frame of the source that each matte belongs to.
        config: bounds.
    """
    filmed = valid > 127
    top = int(filmed.any(1).argmax())
    border = alpha[:, top : top + max(2, round(config.top_height * len(valid))), filmed.any(0)] > 127
    touching = int((border.mean((1, 2)) > config.max_top).sum())
    notes = []
    if 2 * touching > len(alpha):
        notes.append(
            f"The person reaches the picture's upper border in {touching} of {len(alpha)} frames: the head is cut there, or the wall was "
            "taken for hair. Look at overlay.mp4; film with room above the hair, before a wall of another color."
        )
    jumps = find_jumps(alpha[:, filmed].mean(1), index, config.max_jump)
    if len(jumps):
        notes.append(
            f"The person's outline jumps {len(jumps)} times, first at frame {jumps[0]}: parts of the background come and go in it. "
            "Look at overlay.mp4; film before a calm background."
        )
    return tuple(notes)


def find_jumps(area: Float[np.ndarray, " T"], index: Int[np.ndarray, " T"], max_jump: float) -> Int[np.ndarray, " n"]:
    """Source frames at which the area is another than just before; where frames are missing between, it may be."""
    gap = np.diff(index)
    neighbors = gap <= 2 * gap.min(initial=len(index))
    return index[1:][neighbors & (np.abs(np.diff(area)) > max_jump * area.mean())]
