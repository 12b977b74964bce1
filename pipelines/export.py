"""Export an avatar: splat files of one pose or of a motion, its raw maps, or a page that animates it in the browser."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from deja_vu.avatars import Avatar, GaussianAvatar, kind_of
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.subject import Subject
from deja_vu.export.gltf import write_gltf
from deja_vu.export.npz import write_npz
from deja_vu.export.ply import write_ply
from deja_vu.export.rig import build_rig
from deja_vu.export.space import at_rest
from deja_vu.export.spz import write_spz
from deja_vu.export.web import Clip, Controls, write_web, write_webcam
from deja_vu.heads.base import HeadModel
from deja_vu.io.assets import locate
from deja_vu.motion.actor import PRESETS, Actor, Angles
from deja_vu.motion.config import RetargetConfig, TorsoMode
from deja_vu.motion.neutral import face_camera
from deja_vu.motion.resample import play_evenly
from deja_vu.motion.retarget import Retargeter
from deja_vu.pipelines.configs import DriveConfig, ExportConfig, Format
from deja_vu.pipelines.drive import open_motion, perform, turntable_of
from deja_vu.pipelines.person import Person, load
from deja_vu.pipelines.requests import SUFFIXES, check_export, makes_folder, open_export
from deja_vu.training.devices import pick_device

FORMATS: dict[str, Callable[[Gaussians, Path, str], None]] = {
    "ply": lambda gaussians, path, name: write_ply(gaussians, path),
    "spz": lambda gaussians, path, name: write_spz(gaussians, path),
    "gltf": write_gltf,
}
"""How the Gaussians of one pose, of somebody of a name, are written; npz and the page hold what makes every pose."""
OWN_SECONDS = 10.0
"""Length of the person's own motion that every page can play."""
TURNTABLE_FRAMES = 150
"""Length of the turntable that every page can play."""
LEAST_SWING = 0.1
"""Least that a slider of the page moves; only a rest at the end of an expression's range comes near it."""
PLY_FACING = "It faces -z with y down. SuperSplat and others turn it upright and show it from behind: turn it by 180 degrees about y."


def export(run: Path, format: Format, out: Path, config: ExportConfig, *, overwrite: bool = False, device: str = "cpu") -> None:
    """Write an avatar as a file or a page; the arguments are those of the command.

    Raises:
        InputError: the avatar has no Gaussians, or the motion cannot be used.
        ConfigError: the arguments do not go together.
        OutputError: the place is taken or cannot be written.
    """
    check_export(format, out, config)
    there = pick_device(device, gaussians=False)
    with open_export(format, out, config, run, overwrite=overwrite) as place:
        person = load(run)
        avatar, rest = with_gaussians(person.avatar, run), face_camera(person.subject.neutral)
        if format in ("npz", "web") and person.subject.head_name.startswith("flame"):
            print("This export contains parts of FLAME: its license decides to whom you may give it.")
        if format == "npz":
            write_npz(build_rig(avatar, rest), place)
        elif format == "web":
            write_page(avatar, person, config, place, there)
        else:
            poses = rest if config.motion is None else retarget_motion(config.motion, avatar, person.subject, config.torso, there)[0]
            avatar.to(there)
            if makes_folder(format, config):
                write_sequence(avatar, poses, rest, place, format)
            else:
                pose = poses if config.frame is None else pick_frame(poses, config.frame, config.motion)
                FORMATS[format](pose_at_rest(avatar, pose, rest), place, person.name)
    print(describe_export(out, avatar))
    if format == "ply" and out.is_file():
        print(PLY_FACING)


def describe_export(out: Path, avatar: GaussianAvatar) -> str:
    """What is said of a finished export."""
    page = [out / name for name in ("index.html", "avatar.bin")]
    files = [out] if out.is_file() else [file for file in page if file.is_file()]
    count, size = f"{avatar.num_gaussians} Gaussians", sum(file.stat().st_size for file in files) / 1e6
    if out.is_file():
        return f"{out}: {count}, {size:.1f} MB"
    if files:
        return f"{out}: open index.html ({count}, {size:.1f} MB)"
    return f"{out}: {len(list(out.glob('frame_*')))} frames of {count}"


def with_gaussians(avatar: Avatar, run: Path) -> GaussianAvatar:
    """The avatar, if there is something of it to export.

    Raises:
        InputError: it computes pictures in another way.
    """
    if not isinstance(avatar, GaussianAvatar):
        raise InputError(
            f"{run} holds a {kind_of(avatar)} avatar, which computes pictures without Gaussians, so no splat file or page can hold it. "
            "Render videos of it with `deja-vu drive`, or personalize a Gaussian avatar."
        )
    return avatar


def write_page(avatar: GaussianAvatar, person: Person, config: ExportConfig, out: Path, device: torch.device) -> None:
    """The page with its motions: a turntable, the start of the person's own video, and the motion asked for, tracked on a device."""
    subject = person.subject
    rest = face_camera(subject.neutral)
    turn = turntable_of(avatar, subject, TURNTABLE_FRAMES)
    clips = [Clip("Turntable", turn.params, 30.0, turn.yaw)]
    if person.video is not None:
        filmed = play_evenly(person.video)
        own = filmed.params[: round(OWN_SECONDS * filmed.fps)]
        clips.append(Clip("As filmed", replace(own, shape=rest.shape.expand(len(own), -1)), filmed.fps))
    if config.motion is not None:
        poses, fps = retarget_motion(config.motion, avatar, subject, config.torso, device)
        clips.insert(0, Clip(Path(config.motion).stem, poses, fps))
    model = None if config.webcam is None else locate("face_landmarker")
    controls = page_controls(avatar.head, rest)
    write_web(avatar, replace(subject, neutral=rest), controls, clips, person.name, out, webcam=config.webcam is not None)
    if config.webcam is not None and model is not None:
        write_webcam(config.webcam, model, out)


def page_controls(head: HeadModel, rest: HeadParams) -> Controls:
    """What one slider, or one button, of the viewer does to the person at rest."""
    actor = Actor(head)
    carry = Retargeter(head, actor.neutral, rest)
    own = head.spec.num_expression
    weights = torch.cat([torch.eye(len(actor.names))[:own], *(actor.weights(named) for named in PRESETS.values())])
    faces = carry(actor.act(weights, Angles.zeros(len(weights))))
    swing = faces.expression[:own].diagonal() - rest.expression[0]
    jaws = {} if actor.arkit is None else dict(zip(PRESETS, faces.joints[own:, head.spec.joint_names.index("jaw")], strict=True))
    return Controls(swing.clamp_min(LEAST_SWING), dict(zip(PRESETS, faces.expression[own:], strict=True)), jaws)


def retarget_motion(motion: str, avatar: Avatar, subject: Subject, torso: TorsoMode, device: torch.device) -> tuple[HeadParams, float]:
    """All frames of a motion carried over to the person, and how many there are in a second; a video is tracked first, on a device."""
    with ExitStack() as stack:
        source = open_motion(motion, avatar.host_head, None, stack, device)
        for note in source.notes:
            print(f"note: {note}")
        frames = list(perform(subject, source, DriveConfig(retarget=RetargetConfig(torso=torso)), avatar))
    return HeadParams.cat(frames), source.fps


def pick_frame(poses: HeadParams, frame: int, motion: str | None) -> HeadParams:
    """One frame as a batch of one.

    Raises:
        ConfigError: there is no such frame.
    """
    if not 0 <= frame < len(poses):
        raise ConfigError(f"--frame {frame} is not in {motion}, which has frames 0 to {len(poses) - 1}.")
    return poses[frame : frame + 1]


def pose_at_rest(avatar: GaussianAvatar, pose: HeadParams, rest: HeadParams) -> Gaussians:
    """As `at_rest`, computed where the avatar lies; on the host."""
    return at_rest(avatar, pose.to(avatar.device), rest.to(avatar.device)).to("cpu")


def write_sequence(avatar: GaussianAvatar, poses: HeadParams, rest: HeadParams, out: Path, format: Format) -> None:
    """A file for each frame.

    Raises:
        OutputError: the folder cannot be written.
    """
    write, suffix = FORMATS[format], SUFFIXES[format][0]
    for position in tqdm(range(len(poses)), desc="export", unit="frame"):
        with torch.no_grad():
            write(pose_at_rest(avatar, poses[position : position + 1], rest), out / f"frame_{position:05d}{suffix}", "")
