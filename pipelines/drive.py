"""Drive an avatar: somebody's motion in, pictures out. Also the turntable that shows an avatar off."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from deja_vu.avatars import Avatar
from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError, OutputError
from deja_vu.core.head import HeadParams
from deja_vu.core.image import to_uint8
from deja_vu.core.motion import MotionSource
from deja_vu.core.sequence import TrackedSequence
from deja_vu.export.frames import FrameSink, PngSequence, VirtualCamera
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.io.video import VideoWriter, write_video
from deja_vu.motion.actor import Actor
from deja_vu.motion.arkit_csv import ArkitCsvMotion
from deja_vu.motion.neutral import estimate_neutral, face_camera
from deja_vu.motion.retarget import RetargetConfig, Retargeter, refuse_other_head
from deja_vu.motion.script import ScriptMotion
from deja_vu.motion.smooth import OneEuro, OneEuroConfig
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.motion.turntable import act_turntable
from deja_vu.pipelines.flags import FLAT
from deja_vu.pipelines.own_files import claim
from deja_vu.pipelines.run_folder import find_avatar, find_track, load_pair, open_run
from deja_vu.pipelines.track import TrackConfig, track
from deja_vu.tracking.webcam import LiveMotion, Webcam

Background: TypeAlias = Float[Tensor, "3"] | UInt8[np.ndarray, "H W 3"]
"""A color in [0, 1], or a picture."""
WEBCAM = re.compile(r"webcam:(\d+)")
VIRTUAL_CAMERA = "virtual-camera"
"""Name of the output that is a camera."""
COLORS = {"white": "ffffff", "black": "000000", "grey": "808080", "green": "00b140", "blue": "0047bb"}
"""Backgrounds by name; green and blue are the usual key colors."""


@dataclass(frozen=True)
class DriveConfig:
    """How a motion is carried over and shown."""

    transfer: Annotated[RetargetConfig, FLAT] = field(default_factory=RetargetConfig)
    smooth: Literal["auto", "on", "off"] = "auto"
    """One-euro smoothing; auto smooths what comes from a camera or a phone only, as tracked videos are smooth."""
    filter: OneEuroConfig = field(default_factory=OneEuroConfig)
    neutral_at: float | None = None
    """Moment at which the mover's face is at rest, seconds from the start; None finds one."""
    background: str | None = None
    """A color (name or RRGGBB) or a picture; without it WebM and picture folders are transparent, and all else is white."""
    size: int | None = None
    """Side of the pictures, pixels; None takes the tracked video's."""
    frames: int | None = None
    """Stop after so many frames."""


def drive_run(run: Path, motion: str, out: Path, config: DriveConfig, *, overwrite: bool = False) -> None:
    """Drive the avatar of a run with somebody's motion.

    Args:
        run: run folder of `deja-vu personalize`.
        motion: a video, a folder that `deja-vu track` or `personalize` made, an ARKit capture (.csv), an expression script (.yaml), or
            webcam:0.
        out: .mp4, .webm (transparent), a folder for transparent pictures, or virtual-camera.
        config: how the motion is carried over and shown.
        overwrite: replace the video, or the pictures of an earlier drive, that `out` names.
    """
    read = [find_avatar(run), *([] if WEBCAM.fullmatch(motion) else [Path(motion)])]
    read += [Path(config.background)] if config.background else []
    refuse_output(out, read, overwrite=overwrite)
    avatar, subject = load_pair(run)
    transparent = config.background is None and can_be_transparent(out)
    background = open_background(config.background or "white")
    with ExitStack() as stack:
        head = load_head(subject.info.head_name)
        source = open_motion(motion, head, config.neutral_at, stack)
        for note in source.notes:
            print(f"note: {note}")
        if is_folder(out):
            pictures = stack.enter_context(open_run(out, "drive", inputs=[run, *read], overwrite=overwrite))
            pictures.note()
            sink = stack.enter_context(open_sink(pictures.folder, source.fps))
        else:
            sink = stack.enter_context(open_sink(out, source.fps))
        drive(avatar, subject, source, sink, config, None if transparent else background)
    print(f"written: {out}" if str(out) != VIRTUAL_CAMERA else "The camera is closed.")


def open_motion(motion: str, head: HeadModel, neutral_at: float | None, stack: ExitStack) -> MotionSource:
    """The source that a text names; what it holds open is left to the stack.

    Raises:
        InputError: there is no such source, or it cannot be used.
    """
    camera, path = WEBCAM.fullmatch(motion), Path(motion)
    if camera:
        if neutral_at is not None:
            raise InputError("--neutral-at is for recordings. A camera's rest is its first second: look into it with a relaxed face.")
        webcam = stack.enter_context(Webcam(int(camera[1])))
        live = LiveMotion(webcam.shots(), webcam.fps, head.spec.name, print)
        stack.callback(live.close)
        return live
    if path.is_dir():
        sequence = TrackedSequence.load(find_track(path))
        refuse_other_head(sequence.info.head_name, head)
        return TrackedMotion(sequence, neutral_at)
    if path.suffix.lower() == ".csv":
        return ArkitCsvMotion(path, head, neutral_at)
    if path.suffix.lower() in (".yaml", ".yml"):
        return ScriptMotion(path, head)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="deja-vu-"))
    return TrackedMotion(track(path, Path(folder), TrackConfig(head=head.spec.name)), neutral_at)


def open_background(text: str) -> Background:
    """A color or a picture.

    Raises:
        InputError: neither.
    """
    code = COLORS.get(text, text).removeprefix("#")
    if re.fullmatch(r"[0-9a-fA-F]{6}", code):
        return torch.tensor([int(code[place : place + 2], 16) / 255 for place in (0, 2, 4)])
    picture = cv2.imread(text, cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"The background '{text}' is no color ({', '.join(COLORS)}, or RRGGBB), and no picture that can be read.")
    return np.ascontiguousarray(picture[..., ::-1])


def can_be_transparent(out: Path) -> bool:
    """Whether an output keeps alpha: WebM and folders do."""
    return out.suffix.lower() == ".webm" or is_folder(out)


def is_folder(out: Path) -> bool:
    """Whether an output is a folder of pictures."""
    return out.suffix == "" and str(out) != VIRTUAL_CAMERA


def refuse_output(out: Path, read: Sequence[Path], *, overwrite: bool) -> None:
    """Check, before anything long, that pictures can go to an output.

    Args:
        out: what the user named.
        read: what the command reads.
        overwrite: what is there may be replaced, if a drive wrote it or the user means it.

    Raises:
        OutputError: nobody knows the suffix, the place cannot be written, or it is taken.
        MissingAssetError: no virtual camera on this machine.
    """
    if out.suffix.lower() not in ("", ".mp4", ".webm"):
        raise OutputError(f"{out}: '{out.suffix}' cannot be written. Expected .mp4, .webm, a folder, or {VIRTUAL_CAMERA}.")
    if is_folder(out):
        with open_run(out, "drive", inputs=read, overwrite=overwrite):
            return
    open_sink(out, 1.0)  # neither writes anything yet
    if str(out) != VIRTUAL_CAMERA:
        claim(out, overwrite=overwrite, inputs=read)


def open_sink(out: Path, fps: float) -> FrameSink:
    """Where the pictures go; see `refuse_output`."""
    if str(out) == VIRTUAL_CAMERA:
        return VirtualCamera(fps)
    if out.suffix.lower() == ".mp4":
        return VideoWriter(out, fps)
    if out.suffix.lower() == ".webm":
        return VideoWriter(out, fps, 24, webm=True)
    return PngSequence(out)


def drive_video(avatar: Avatar, subject: TrackedSequence, motion: TrackedSequence, out: Path) -> None:
    """Write a video of the person's avatar following another tracked video, over white."""
    with open_sink(out, motion.info.fps) as sink:
        drive(avatar, subject, TrackedMotion(motion), sink, DriveConfig(), torch.ones(3))


def drive(
    avatar: Avatar,
    subject: TrackedSequence,
    source: MotionSource,
    sink: FrameSink,
    config: DriveConfig,
    background: Background | None,
) -> None:
    """Show the person's avatar following a motion, relative to both faces at rest; Ctrl-C ends what would not end by itself.

    Args:
        avatar: to be shown.
        subject: tracked video it was learned from; gives the rest and the camera.
        source: motion.
        sink: takes the pictures.
        config: how the motion is carried over and shown.
        background: color or picture; None makes RGBA.
    """
    camera = subject.camera if config.size is None else subject.camera.resized(config.size, config.size)
    paint = Painter(avatar, camera, background)
    latency: list[float] = []
    total = min(len(source) or sys.maxsize, config.frames or sys.maxsize)
    with tqdm(desc="drive", unit="frame", total=None if total == sys.maxsize else total) as bar:
        try:
            for params in performed(subject, source, config):
                sink.write(paint(params))
                bar.update()
                if isinstance(source, LiveMotion):
                    latency.append(time.monotonic() - source.taken)
                    bar.set_postfix(latency=f"{1000 * float(np.median(latency[-30:])):.0f} ms")
                if bar.n >= total:
                    break
        except KeyboardInterrupt:
            if not source.live:
                raise
    if latency:
        print(f"latency from picture to picture: median {1000 * float(np.median(latency)):.0f} ms over {len(latency)} frames")


def performed(subject: TrackedSequence, source: MotionSource, config: DriveConfig) -> Iterator[HeadParams]:
    """The person's frames: the source's, carried over and smoothed."""
    head = load_head(subject.info.head_name)
    carry = Retargeter(head, source.neutral, estimate_neutral(subject.params, head), config.transfer)
    smooth = config.smooth == "on" or (config.smooth == "auto" and isinstance(source, LiveMotion | ArkitCsvMotion))
    steady = OneEuro(source.fps, config.filter)
    before: float | None = None
    for params in source.frames():
        seconds = None
        if isinstance(source, LiveMotion):
            seconds, before = None if before is None else source.taken - before, source.taken
        carried = carry(params)
        yield steady(carried, seconds) if smooth else carried


class Painter:
    """Pictures of an avatar over a color or a picture, or with straight alpha."""

    def __init__(self, avatar: Avatar, camera: Camera, background: Background | None) -> None:
        self._device = next(avatar.parameters()).device
        self._avatar, self._camera, self._transparent = avatar, camera.to(self._device), background is None
        self._picture = covering(background, camera.width, camera.height) if isinstance(background, np.ndarray) else None
        self._color = background if isinstance(background, Tensor) else torch.zeros(3)

    @torch.no_grad()
    def __call__(self, params: HeadParams) -> UInt8[np.ndarray, "H W C"]:
        """One picture, RGB or RGBA."""
        out = self._avatar.render(params.to(self._device), self._camera, self._color.to(self._device))
        rgb, alpha = out.rgb[0].cpu(), out.alpha[0].cpu()
        if self._transparent:
            return to_uint8(torch.cat([rgb / alpha.clamp_min(1e-3), alpha], -1))
        return to_uint8(rgb if self._picture is None else rgb + (1 - alpha) * self._picture)


def covering(picture: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> Float[Tensor, "H W 3"]:
    """The middle of a picture, scaled to fill a frame."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return torch.from_numpy(resized[top : top + height, left : left + width]).float() / 255


def turntable_of(head: HeadModel, subject: TrackedSequence, frames: int) -> HeadParams:
    """The person turning by 30 degrees to both sides and going through some expressions."""
    actor = Actor(head)
    return Retargeter(head, actor.neutral, face_camera(estimate_neutral(subject.params, head)))(act_turntable(actor, frames))


def show(avatar: Avatar, subject: TrackedSequence, out: Path, frames: int = 150, side: int | None = None) -> None:
    """Write the turntable video, of the tracked video's size or of another side."""
    motion = turntable_of(load_head(subject.info.head_name), subject, frames)
    paint = Painter(avatar, subject.camera if side is None else subject.camera.resized(side, side), torch.ones(3))
    pictures = (paint(motion[place : place + 1]) for place in tqdm(range(frames), desc="turntable", unit="frame"))
    write_video(out, pictures, 30.0)
