"""`deja-vu doctor`."""

from __future__ import annotations

import sys

from deja_vu.pipelines.command import Command


def doctor_command() -> None:
    """Say what is available here, and how to get what is missing.

    It looks at heads, landmarker, rasterizers, device, codecs and optional parts.
    """
    from deja_vu.pipelines.doctor import run

    sys.exit(run())


COMMAND = Command(run=doctor_command, example="deja-vu doctor")
