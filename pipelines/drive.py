"""Drive an avatar: from a motion to pictures. Also the turntable of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from deja_vu.avatars import Avatar, GaussianAvatar
from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.motion import MotionSource
from deja_vu.core.orbit import orbit
from deja_vu.core.sequence import TrackedSequence
from deja_vu.core.subject import Subject
from deja_vu.export.frames import FrameSink, PngSequence, VirtualCamera
from deja_vu.heads.base import HeadModel
from deja_vu.io.scratch import scratch
from deja_vu.io.sound import Sound
from deja_vu.io.video import VideoWriter, write_video
from deja_vu.motion.actor import Actor
from deja_vu.motion.arkit_csv import ArkitCsvMotion
from deja_vu.motion.neutral import face_camera
from deja_vu.motion.retarget import Retargeter, refuse_other_head
from deja_vu.motion.script import ScriptMotion
from deja_vu.motion.smooth import OneEuro
from deja_vu.motion.tracked import TrackedMotion
from deja_vu.motion.turntable import Turntable, act_turntable
from deja_vu.pipelines.configs import DriveConfig
from deja_vu.pipelines.identity import find_film
from deja_vu.pipelines.own_files import hold_output
from deja_vu.pipelines.own_motion import on_host, own_motion, own_neutral, refuse_unfit
from deja_vu.pipelines.painter import Background, Painter, open_background
from deja_vu.pipelines.person import load
from deja_vu.pipelines.requests import VIRTUAL_CAMERA, WEBCAM, makes_pictures, refuse_output
from deja_vu.pipelines.run_folder import find_track, list_drawing_inputs, open_run
from deja_vu.tracking.config import TrackConfig
from deja_vu.tracking.tracker import CPU, track_video
from deja_vu.tracking.webcam import LiveMotion, Webcam
from deja_vu.training.devices import pick_device


def drive_run(run: Path, motion: str, out: Path, config: DriveConfig, *, overwrite: bool = False, device: str = "cpu") -> None:
    """Drive the avatar of a run with somebody's motion.

    Args:
        run: run folder of `deja-vu personalize`.
        motion: a video, a folder that `deja-vu track` or `personalize` made, an ARKit capture (.csv), an expression script (.yaml), or
            webcam:0.
        out: .mp4, .webm (transparent), a folder for transparent pictures, or virtual-camera.
        config: how the motion is carried over and shown.
        overwrite: replace the video, or the pictures of an earlier drive, that `out` names.
        device: where to draw, see `pick_device`.
    """
    read = [*list_drawing_inputs(run), *([] if WEBCAM.fullmatch(motion) else [Path(motion)])]
    read += [Path(config.background)] if config.background else []
    refuse_output(out, read, overwrite=overwrite)
    if str(out) == VIRTUAL_CAMERA:
        open_sink(out, 1.0)  # says at once what it needs
    transparent = config.background is None and can_be_transparent(out)
    background = open_background(config.background or "white")
    with ExitStack() as stack:
        if not makes_pictures(out) and str(out) != VIRTUAL_CAMERA:
            stack.enter_context(hold_output(out, overwrite=overwrite, inputs=read))
        person = load(run, pick_device(device))
        source: MotionSource
        if config.fit or config.read:
            way: Literal["read", "fit"] = "fit" if config.fit else "read"
            refuse_unfit(person.avatar, way)
            if config.read and WEBCAM.fullmatch(motion):
                source = open_camera(motion, person.head, stack, on_host(person.avatar))
                source.neutral = own_neutral(person.subject, source.neutral)
            else:
                sequence, film = open_film(motion, person.head, stack, person.avatar.device)
                source = own_motion(sequence, person.avatar, person.subject, way)
                source.film = film
        else:
            source = open_motion(motion, person.head, config.neutral_at, stack, person.avatar.device)
        for note in source.notes:
            print(f"note: {note}")
        place = out
        if makes_pictures(out):
            pictures = stack.enter_context(open_run(out, "drive", inputs=[run, *read], overwrite=overwrite))
            pictures.note()
            place = pictures.folder
        film = None if source.shortened or config.sound == "none" else source.film
        sound = stack.enter_context(Sound(film, source.begins)) if film else None
        if source.shortened and source.film:
            print("note: the film's sound is left out, as it has the pause.")
        sink = stack.enter_context(open_sink(place, config.fps or source.fps, sound))
        drive(person.avatar, person.subject, source, sink, config, None if transparent else background)
    print(f"written: {out}" if str(out) != VIRTUAL_CAMERA else "The camera is closed.")


def open_motion(motion: str, head: HeadModel, neutral_at: float | None, stack: ExitStack, device: torch.device = CPU) -> MotionSource:
    """The source that a text names; what it holds open is left to the stack, and a video is tracked on the device.

    Raises:
        InputError: there is no such source, or it cannot be used.
    """
    path = Path(motion)
    if WEBCAM.fullmatch(motion):
        if neutral_at is not None:
            raise InputError("--neutral-at is for recordings. A camera's rest is its first second: look into it with a relaxed face.")
        return open_camera(motion, head, stack)
    if path.suffix.lower() == ".csv":
        return ArkitCsvMotion(path, head, neutral_at)
    if path.suffix.lower() in (".yaml", ".yml"):
        if neutral_at is not None:
            raise InputError("--neutral-at is for recordings. A script begins from a relaxed face; leave the flag out.")
        return ScriptMotion(path, head)
    sequence, film = open_film(motion, head, stack, device)
    tracked = TrackedMotion(sequence, neutral_at)
    tracked.film = film
    return tracked


def open_camera(motion: str, head: HeadModel, stack: ExitStack, own: GaussianAvatar | None = None) -> LiveMotion:
    """Whoever sits before the camera that a text names; read by their own avatar where one is given. The stack closes both.

    Raises:
        InputError: there is no such camera, or nobody sits before it.
    """
    camera = WEBCAM.fullmatch(motion)
    assert camera, motion
    webcam = stack.enter_context(Webcam(int(camera[1])))
    live = LiveMotion(webcam.pictures(), webcam.fps, head.spec.name, print, own=own)
    stack.callback(live.close)
    return live


def open_film(motion: str, head: HeadModel, stack: ExitStack, device: torch.device = CPU) -> tuple[TrackedSequence, Path | None]:
    """The tracked film that a text names, and its file if that is at hand; what is open is left to the stack.

    A video is tracked now, on the device.

    Raises:
        InputError: it is no film, or cannot be used.
    """
    path = Path(motion)
    if WEBCAM.fullmatch(motion) or path.suffix.lower() in (".csv", ".yaml", ".yml"):
        raise InputError(
            f"--fit and --read need a video of the person, which {motion} is not. Give a video or a tracked folder; --read takes a camera."
        )
    if path.is_dir():
        track = find_track(path)
        sequence = TrackedSequence.load(track)
        refuse_other_head(sequence.info.head_name, head)
        return sequence, find_film(path, track, sha256=sequence.info.source_sha256)
    folder = stack.enter_context(scratch())
    return track_video(path, folder, TrackConfig(head=head.spec.name), device=device), path


def can_be_transparent(out: Path) -> bool:
    """Whether an output keeps alpha: WebM and folders do."""
    return out.suffix.lower() == ".webm" or makes_pictures(out)


def open_sink(out: Path, fps: float, sound: Sound | None = None) -> FrameSink:
    """Where the pictures go, with sound where that is a video; see `refuse_output`."""
    if str(out) == VIRTUAL_CAMERA:
        return VirtualCamera(fps)
    if out.suffix.lower() == ".mp4":
        return VideoWriter(out, fps, sound=sound)
    if out.suffix.lower() == ".webm":
        return VideoWriter(out, fps, 24, webm=True, sound=sound)
    return PngSequence(out)


def drive_video(avatar: Avatar, subject: Subject, motion: TrackedSequence, out: Path) -> None:
    """Write a video of the person's avatar following another tracked video, over white."""
    with open_sink(out, motion.info.fps) as sink:
        drive(avatar, subject, TrackedMotion(motion), sink, DriveConfig(), torch.ones(3))


def drive(
    avatar: Avatar,
    subject: Subject,
    source: MotionSource,
    sink: FrameSink,
    config: DriveConfig,
    background: Background | None,
) -> None:
    """Show the person's avatar following a motion, relative to both faces at rest; Ctrl-C ends what would not end by itself.

    Args:
        avatar: to be shown.
        subject: whose it is; gives the rest and the camera.
        source: motion.
        sink: takes the pictures.
        config: how the motion is carried over and shown.
        background: color or picture; None makes RGBA.
    """
    if config.fps is not None and source.live:
        raise ConfigError("A camera's motion comes at its own rate: leave --fps out.")
    paint = Painter(avatar, frame_camera(subject.camera, config.size), background)
    latency: list[float] = []
    length = round(len(source) * (config.fps or source.fps) / source.fps)
    total = min(length or sys.maxsize, config.frames or sys.maxsize)
    with tqdm(desc="drive", unit="frame", total=None if total == sys.maxsize else total) as bar:
        try:
            frames = islice(at_rate(perform(subject, source, config, avatar), source.fps, config.fps), total)
            for picture in paint.stream(frames, together=1 if source.live else paint.together):
                sink.write(picture)
                bar.update()
                if isinstance(source, LiveMotion):
                    latency.append(time.monotonic() - source.taken)
                    bar.set_postfix(latency=f"{1000 * float(np.median(latency[-30:])):.0f} ms")
        except KeyboardInterrupt:
            if not source.live:
                raise
    if latency:
        print(f"latency from picture to picture: median {1000 * float(np.median(latency)):.0f} ms over {len(latency)} frames")


def frame_camera(camera: Camera, size: tuple[int, ...] | None) -> Camera:
    """A camera on another picture: a square, or one whose shorter side shows what the square does."""
    if size is None:
        return camera
    width, height = size[0], size[-1]
    side = min(width, height)
    return camera.resize(side, side).crop((side - width) / 2, (side - height) / 2, width, height)


def at_rate(frames: Iterator[HeadParams], fps: float, wanted: float | None) -> Iterator[HeadParams]:
    """Frames at another rate: each moment shows the latest frame that there was."""
    if wanted is None:
        yield from frames
        return
    shown = 0
    for number, params in enumerate(frames):
        while shown / wanted < (number + 1) / fps - 1e-9:
            yield params
            shown += 1


def perform(subject: Subject, source: MotionSource, config: DriveConfig, avatar: Avatar) -> Iterator[HeadParams]:
    """The person's frames: the source's, carried over and smoothed."""
    retarget = config.retarget
    if retarget.torso != "still" and not avatar.shows_person:
        print(f"note: the avatar is a head alone; --torso {retarget.torso} moves nothing.")
    elif retarget.torso == "source" and not source.has_torso:
        print("note: this motion has no torso of its own; the person's stays still.")
        retarget = replace(retarget, torso="still")
    body, acted = avatar.shows_person, source.acted
    carry = Retargeter(avatar.host_head, source.neutral, subject.neutral, retarget, body=body, acted=acted, fps=source.fps)
    smooth = config.smooth == "on" or (config.smooth == "auto" and isinstance(source, LiveMotion | ArkitCsvMotion))
    steady = OneEuro(source.fps, config.filter)
    before: float | None = None
    for params in source.frames():
        seconds = None
        if isinstance(source, LiveMotion):
            seconds, before = None if before is None else source.taken - before, source.taken
        carried = carry(params, seconds)
        yield steady(carried, seconds) if smooth else carried


def turntable_of(avatar: Avatar, subject: Subject, frames: int) -> Turntable:
    """The person on a turntable, facing the camera at its beginning."""
    actor = Actor(avatar.host_head)
    carry = Retargeter(avatar.host_head, actor.neutral, face_camera(subject.neutral), body=avatar.shows_person, acted=True)
    turn = act_turntable(actor, frames)
    return replace(turn, params=carry(turn.params))


def show(avatar: Avatar, subject: Subject, out: Path, frames: int = 150, side: int | None = None) -> None:
    """Write the turntable video, of the tracked video's size or of another side."""
    turn = turntable_of(avatar, subject, frames)
    camera = frame_camera(subject.camera, None if side is None else (side,))
    paint = Painter(avatar, camera, torch.ones(3))
    vertices = avatar.host_head(face_camera(subject.neutral))[0]
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    places = tqdm(range(frames), desc="turntable", unit="frame")
    poses = (turn.params[place : place + 1] for place in places)
    cameras = (orbit(camera, middle, float(yaw)) for yaw in turn.yaw)
    write_video(out, paint.stream(poses, cameras, together=paint.together), 30.0)
