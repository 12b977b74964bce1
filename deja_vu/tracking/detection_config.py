"""Settings of finding, tracking and cropping a face, separate from their code."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from deja_vu.core.ranges import Count, Positive, Range, Rate, Share

CHOICES = ("main", "left", "right", "largest")
"""Words for the face to be followed."""
Runtime = Literal["litert", "mediapipe"]
"""What runs the networks that find faces and persons: LiteRT, or the package mediapipe, where it is installed (`.[mediapipe]`)."""


@dataclass(frozen=True)
class LetterboxConfig:
    """How bars at the picture's border are told from what was filmed."""

    tolerance: Annotated[int, Range(0, 255)] = 24
    """Largest channel difference from the corner's color that still counts as the bar's own; codecs blur the edge."""
    min_cut: Share = 0.15
    """Share of the border line that must change at once where a bar ends."""
    abruptness: Share = 0.7
    """Least ratio of that change to the widest one of the next lines; a head before a plain wall begins narrow and widens."""
    next_lines: Positive = 8
    """How many lines these are."""
    min_width: Positive = 2
    """Bars thinner than this are codec borders, pixels."""
    soft_width: Count = 2
    """Pixels behind a bar's end that scaling and codecs mix with it."""


@dataclass(frozen=True)
class CropConfig:
    """The window about the head. Lengths are in heights of the face from hairline to chin, some 18 cm."""

    skull_up: Share = 0.25
    """Middle of skull and hair above the point between the ears."""
    skull_radius: Rate = 0.75
    """Radius of the ball that holds them: the crown lies so far above the ears, hair adds some."""
    margin: Share = 0.05
    """Room around the landmarks."""
    below_chin: Share = 0.15
    """Room under the chin."""
    outliers: Annotated[float, Range(0, 49)] = 1.0
    """Frames at either end that may lie beyond the window, percent."""


@dataclass(frozen=True)
class DetectionConfig:
    """How one face is found and followed, and which videos are refused."""

    runtime: Runtime = "litert"
    """What runs the landmarker; both give the same landmarks within 0.2 pixels."""
    min_face_px: Positive = 64
    """Narrowest face that still shows eyes and lips, pixels."""
    min_found: Share = 0.3
    """Share of a video's frames that must show the face."""
    small_face: Share = 0.16
    """Face width over the picture's longer side below which MediaPipe's detector starts to miss it (measured: 250 of 1920 found, 150
    lost)."""
    window_faces: Annotated[float, Range(1, 20)] = 4.0
    """Side of the search window around a small face, in face widths."""
    window_drift: Share = 0.2
    """Way of the face from the window's middle, in sides of the window, up to which the window stays."""
    window_shrink: Share = 0.7
    """Side of the window that the face asks for, over the one it has, above which it stays."""
    window_growth: Annotated[float, Range(1, 10)] = 1.4
    """The same, below which it stays."""
    search_frames: Count = 5
    """Frames after the face was lost in which the whole picture is searched in parts, which costs some twenty detections."""
    search_every: Positive = 10
    """Frames from one search to the next after these."""
    search_faces: Positive = 3
    """Least side of a searched part, in narrowest faces."""
    same_face_overlap: Share = 0.2
    """Overlap of two boxes from which a face counts as the same one in the next frame."""
    face: str = "main"
    """Whom to follow where there are several: main (seen longest and largest), or by the first frame that shows several at once: left,
    right, largest, the number from the left, or X,Y: a place in the face, pixels from the upper left corner, as an image viewer shows
    them, in the first frame with a face or in that one (stored as faces.png). From there on position and appearance decide, not size."""
    max_faces: Annotated[int, Range(1, 6)] = 6
    """Most faces looked for in a frame."""
    other_appearance: Share = 0.07
    """Difference of color from frame to frame from which a face in the same place is first taken for another's: 0.02 and less are usual."""
    same_appearance: Share = 0.12
    """Difference of the usual color up to which a face seen later may be the followed person's, where nobody seen beside that person looks
    more like it; two people have 0.02 to 0.14, one person in two recordings 0.01, and up to 0.15 in profile."""
    alone_appearance: Share = 0.25
    """The same where nobody is seen beside the followed person: light and profile change more than between two people."""
    neighbor_way: Rate = 1.0
    """Way of a face from one frame to the next, in its widths, from which it is not believed where the frame after contradicts it."""
    neighbor_ratio: Annotated[float, Range(1, 10)] = 1.6
    """The same of its width."""
    turn_frames: Positive = 5
    """Frames with a face in which it is looked for in a turned picture too, for the detector takes an upside-down face for another one."""
    crowded: Share = 0.02
    """Share of the frames with several faces from which the user is told."""
    letterbox: LetterboxConfig = field(default_factory=LetterboxConfig)
    crop: CropConfig = field(default_factory=CropConfig)

    @property
    def point(self) -> tuple[int, int] | None:
        """Where the wanted face is in the video's picture, as `face` says; None where it says otherwise."""
        written = re.fullmatch(r"\s*(\d{1,5})\s*[,x]\s*(\d{1,5})\s*", self.face)
        return (int(written[1]), int(written[2])) if written else None

    def misfit(self) -> str | None:
        """What `face` should have been, if it means nothing."""
        if self.face in (*CHOICES, *map(str, range(1, 7))) or self.point is not None:
            return None
        near = difflib.get_close_matches(self.face, CHOICES, n=1)
        expected = f"Expected {', '.join(CHOICES)}, a number from 1 to 6, or X,Y in pixels, such as 640,220."
        return f"face is '{self.face[:40]}'. {expected}" + (f" Did you mean {near[0]}?" if near else "")
