"""Stop a run when a value is not finite, and name the value."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor

from deja_vu.core.batch import Batch
from deja_vu.core.errors import DivergedError

REMEDY = "Lower the learning rate, or track the video again if its frames' parameters are to blame."
POSE_FIELDS = ("expression", "joints", "world_from_head", "torso")


def refuse_divergence(terms: Mapping[str, float], positions: Int[Tensor, " B"], step: int) -> None:
    """Stop at the first term that is not finite.

    Args:
        terms: by name.
        positions: frames of the step, for the message.
        step: number of the step.

    Raises:
        DivergedError: names the term and the frames.
    """
    for name, value in terms.items():
        if not math.isfinite(value):
            raise DivergedError(f"The term '{name}' became {value} at step {step} on frames {positions.tolist()}. {REMEDY}")


def refuse_broken_frames(batch: Batch, step: int) -> None:
    """Stop where a frame's parameters are not finite, and so cannot be drawn.

    Raises:
        DivergedError: names the parameters and the frames.
    """
    refuse_broken({f"frames' {name}": getattr(batch.params, name) for name in POSE_FIELDS}, batch, step)


def refuse_broken(tensors: Mapping[str, Tensor], batch: Batch, step: int) -> None:
    """Stop where a named tensor holds values that are not finite.

    Raises:
        DivergedError: names the tensors and the frames.
    """
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        where = f"at step {step} on frames {batch.positions.tolist()}"
        raise DivergedError(f"The {', the '.join(broken)} hold values that are not finite {where}. {REMEDY}")
