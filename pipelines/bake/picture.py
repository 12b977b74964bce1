"""Make the moving picture of README from what `make demo` left: `make picture`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from deja_vu.avatars import Avatar
from deja_vu.core.camera import Camera
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE, to_uint8
from deja_vu.core.orbit import orbit
from deja_vu.core.sequence import TrackedSequence
from deja_vu.motion.actor import Actor
from deja_vu.motion.neutral import face_camera
from deja_vu.motion.retarget import Retargeter
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.motion.turntable import act_turntable
from deja_vu.pipelines.person import Person, load

SIDE = 256
"""Of each of the three pictures, pixels."""
GAP = 8
"""Between them, pixels."""
STRIP = 30
"""Height of the words below them, pixels."""
INSET = 64
"""Side of the driver's picture, pixels."""
FRAMES = 72
MILLISECONDS = 50
"""How long each frame stands."""
SPAN, MOTION_SPAN = 25, 28
"""Frames of the two videos that are shown, there and back."""
QUALITY = 86
WORDS = ("frames it never saw", "the avatar in those poses", "moved by another face, all round")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of `deja-vu demo`")
    parser.add_argument("out", type=Path, help=".webp to write")
    options = parser.parse_args()
    video, motion = (TrackedSequence.load(options.run / folder) for folder in ("track", "samples/motion"))
    frames = compose(load(options.run), video, motion)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(options.out, save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, quality=QUALITY, method=6)
    print(f"written: {options.out} ({options.out.stat().st_size / 1e6:.2f} MB)")


def compose(me: Person, video: TrackedSequence, motion: TrackedSequence) -> list[Image.Image]:
    """All frames of a loop: held-out frames, the avatar in their poses, and the avatar in another person's while a camera goes round it.

    Args:
        me: the made-up person.
        video: tracked video that the avatar was learned from.
        motion: tracked video of the other person.
    """
    held_out = video.person_window().test_part()
    camera = held_out.camera.resize(SIDE, SIDE)
    driver = TrackedMotion(motion)
    retarget = Retargeter(me.head, driver.neutral, face_camera(me.subject.neutral), body=me.avatar.shows_person)
    driven = [retarget(params) for params in driver.frames()]
    vertices = me.head(face_camera(me.subject.neutral))[0]
    middle, turns = (vertices.amin(0) + vertices.amax(0)) / 2, act_turntable(Actor(me.head), FRAMES).yaw.tolist()
    frames = []
    for place, other, turn in zip(there_and_back(SPAN, FRAMES), there_and_back(MOTION_SPAN, FRAMES), turns, strict=True):
        filmed = held_out.frame(place).image.numpy()
        same = draw(me.avatar, held_out.params[place : place + 1], camera)
        round_it = draw(me.avatar, driven[other], orbit(camera, middle, turn))
        round_it[-INSET:, -INSET:] = motion.frame(other, INSET).image.numpy()
        frames.append(lay_out([np.asarray(Image.fromarray(filmed).resize((SIDE, SIDE), Image.Resampling.LANCZOS)), same, round_it]))
    return frames


def there_and_back(count: int, frames: int) -> list[int]:
    """Positions 0 to count - 1 and back in so many frames, slow at both ends, so that the loop has no seam."""
    return [round((count - 1) * (0.5 - 0.5 * math.cos(2 * math.pi * frame / frames))) for frame in range(frames)]


@torch.no_grad()
def draw(avatar: Avatar, params: HeadParams, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
    """The avatar over white."""
    return to_uint8(avatar.render(params, camera, WHITE).rgb[0])


def lay_out(panels: list[UInt8[np.ndarray, "H W 3"]]) -> Image.Image:
    """Three pictures side by side, with words below."""
    sheet = Image.new("RGB", (3 * SIDE + 2 * GAP, SIDE + STRIP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, (panel, words) in enumerate(zip(panels, WORDS, strict=True)):
        left = column * (SIDE + GAP)
        sheet.paste(Image.fromarray(panel), (left, 0))
        pen.text((left + SIDE / 2, SIDE + STRIP / 2), words, fill="#404040", font=font, anchor="mm")
    return sheet


if __name__ == "__main__":
    main()
