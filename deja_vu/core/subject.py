"""Facts about the person of an avatar that are needed to show and drive it; no picture of the person is among them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from deja_vu.core.camera import Camera
from deja_vu.core.documents import parse_json
from deja_vu.core.errors import FormatError
from deja_vu.core.head import HEAD_PARAM_FIELDS, HeadParams


@dataclass(frozen=True)
class Subject:
    """The person behind an avatar; an avatar's file carries it in its header."""

    name: str
    """What the person is called, by default the video's file name."""
    head_name: str
    """Head model of the parameters."""
    neutral: HeadParams
    """The face at rest, where it usually was before the camera [1]."""
    camera: Camera
    """That filmed the person, on the tracked crop's pixel grid, at the world's origin."""
    fps: float
    """Frame rate of the tracked video, 1/s."""
    filmed: tuple[float, float] | None = None
    """Range of the yaws from which the head was filmed, degrees, as `orbit.seen_from` has them; None in files of older versions."""

    def to_json(self) -> str:
        """Text that `from_json` reads back, exactly."""
        neutral = {name: getattr(self.neutral, name)[0].tolist() for name in HEAD_PARAM_FIELDS}
        camera = {"intrinsics": self.camera.intrinsics.tolist(), "width": self.camera.width, "height": self.camera.height}
        values = {"name": self.name, "head": self.head_name, "neutral": neutral, "camera": camera, "fps": self.fps, "filmed": self.filmed}
        return json.dumps(values)

    @staticmethod
    def from_json(text: str, where: str) -> Subject:
        """The subject that `to_json` wrote.

        Args:
            text: JSON.
            where: names the file in messages.

        Raises:
            FormatError: something is missing, of another shape, or not finite.
        """
        try:
            values: dict[str, Any] = parse_json(text, where)
            neutral = HeadParams(**{name: torch.tensor(value)[None] for name, value in values["neutral"].items()})
            intrinsics = torch.tensor(values["camera"]["intrinsics"])
            camera = Camera(torch.eye(4), intrinsics, int(values["camera"]["width"]), int(values["camera"]["height"]))
            filmed = None
            if values.get("filmed") is not None:
                least, largest = values["filmed"]
                filmed = float(least), float(largest)
            subject = Subject(str(values["name"]), str(values["head"]), neutral, camera, float(values["fps"]), filmed)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{where} says of its person what cannot be read ({type(error).__name__}: {error}).") from error
        tensors = (*(getattr(neutral, name) for name in HEAD_PARAM_FIELDS), intrinsics)
        if {neutral.world_from_head.shape, neutral.torso.shape} != {(1, 4, 4)} or neutral.joints.dim() != 3 or intrinsics.shape != (3, 3):
            raise FormatError(f"{where}: its neutral face or its camera has other shapes than such have.")
        if not all(bool(torch.isfinite(value).all()) for value in (*tensors, torch.tensor(filmed or 0.0))):
            raise FormatError(f"{where}: its neutral face, its camera or what was filmed holds values that are not finite.")
        return subject
