"""Tracking of a head in a video, a photo or the pictures of a webcam.

`track_video` makes a tracked folder of a video, `fit_photo` a portrait of a photo, `LiveMotion` a motion of a webcam. All three move
one `FaceSolver`; they differ in the terms that they pass to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deja_vu.core.lazy import lazy_names

if TYPE_CHECKING:
    from deja_vu.tracking.photo import fit_photo
    from deja_vu.tracking.tracker import track_video
    from deja_vu.tracking.webcam import LiveMotion

__all__ = ["LiveMotion", "fit_photo", "track_video"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "LiveMotion": "deja_vu.tracking.webcam",
        "fit_photo": "deja_vu.tracking.photo",
        "track_video": "deja_vu.tracking.tracker",
    },
)
