"""`deja-vu doctor`."""

from __future__ import annotations

import sys

from deja_vu.pipelines.command import Command


def doctor_command(*, speed: bool = False) -> None:
    """Show what is installed here, and how to get what is missing.

    It checks heads, landmarker, rasterizers, device, codecs and optional parts.

    Args:
        speed: instead measure how fast the processor is, which takes some seconds, so that times of different machines can be compared.
    """
    from deja_vu.pipelines.doctor import run, tell_speed

    if speed:
        tell_speed()
    else:
        sys.exit(run())


COMMAND = Command(run=doctor_command, example="deja-vu doctor")
