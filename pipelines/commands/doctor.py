"""`deja-vu doctor`."""

from __future__ import annotations

import sys

from deja_vu.pipelines.command import Command


def doctor_command(*, speed: bool = False) -> None:
    """Say what is available here, and how to get what is missing.

    It looks at heads, landmarker, rasterizers, device, codecs and optional parts.

    Args:
        speed: measure how fast the processor is instead, in some seconds: times of different machines can then be compared.
    """
    from deja_vu.pipelines.doctor import run, tell_speed

    if speed:
        tell_speed()
    else:
        sys.exit(run())


COMMAND = Command(run=doctor_command, example="deja-vu doctor")
