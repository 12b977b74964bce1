"""Take an avatar away: splat files of one pose or of a motion, its raw maps, or a page that animates it in the browser."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import tyro
from tqdm import tqdm

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.errors import ConfigError, OutputError
from deja_vu.core.gaussians import Gaussians
from deja_vu.core.head import HeadParams
from deja_vu.core.sequence import TrackedSequence
from deja_vu.export.gltf import write_gltf
from deja_vu.export.motion import resting_frame, transfer
from deja_vu.export.npz import write_npz
from deja_vu.export.ply import write_ply
from deja_vu.export.rig import build_rig
from deja_vu.export.space import at_rest
from deja_vu.export.spz import write_spz
from deja_vu.pipelines.runs import find_track, load_pair
from deja_vu.pipelines.track import TrackConfig, track

Format = Literal["ply", "spz", "gltf", "npz"]
SUFFIXES: dict[str, tuple[str, ...]] = {"ply": (".ply",), "spz": (".spz",), "gltf": (".glb", ".gltf"), "npz": (".npz",)}
"""Names that files of each format may end in."""
SEQUENCES = ("ply", "spz")
"""Formats of which a motion makes one file a frame."""


def export_command(
    run: tyro.conf.Positional[Path],
    *,
    format: Format,
    out: Path,
    motion: Path | None = None,
    frame: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write an avatar as a file, or a page, that other programs show.

    Args:
        run: run folder of `deja-vu personalize`.
        format: ply (3D Gaussian Splatting), spz (compressed), gltf (KHR_gaussian_splatting; .glb or .gltf), or npz (raw maps and all that
            moves them).
        out: file to write; a folder for web, and for ply or spz of a whole motion.
        motion: a video, or a folder that `deja-vu track` made, that sets the pose; the person at rest without it.
        frame: write this frame of the motion alone, counted from 0.
        overwrite: replace what `out` holds.
    """
    check_request(format, out, motion, frame, overwrite)
    avatar, person = load_pair(run)
    rest = resting_frame(person)
    if format == "npz":
        write_npz(build_rig(avatar, rest), out)
        return
    poses = rest if motion is None else carried(motion, person)
    if frame is not None:
        poses = chosen(poses, frame, motion)
    if motion is not None and frame is None:
        write_sequence(avatar, poses, rest, out, format)
        return
    writer(format, person.info.subject)(at_rest(avatar, poses, rest), out)
    print(f"{out}: {len(avatar.layout)} Gaussians, {out.stat().st_size / 1e6:.1f} MB")


def check_request(format: Format, out: Path, motion: Path | None, frame: int | None, overwrite: bool) -> None:
    """Refuse combinations that mean nothing, before anything is computed.

    Raises:
        ConfigError: flags that do not go together, or a name that does not fit the format.
        OutputError: `out` is taken.
    """
    if frame is not None and motion is None:
        raise ConfigError("--frame picks one frame of a motion: add --motion, or leave --frame out.")
    if format == "npz" and motion is not None:
        raise ConfigError("npz holds the maps that all poses share: leave --motion out.")
    if format == "gltf" and motion is not None and frame is None:
        raise ConfigError("glTF holds one pose: add --frame to pick one, or choose --format ply or spz for a file a frame.")
    if is_folder(format, motion, frame):
        if out.exists() and not out.is_dir():
            raise OutputError(f"{out} is a file. Expected a folder to write into.")
        if out.is_dir() and any(out.iterdir()) and not overwrite:
            raise OutputError(f"{out} is not empty. Add --overwrite to write into it all the same, or choose another --out.")
        return
    if out.suffix.lower() not in SUFFIXES[format]:
        raise ConfigError(f"--out {out} does not end in {' or '.join(SUFFIXES[format])}, as --format {format} needs.")
    if out.is_dir():
        raise OutputError(f"{out} is a folder. Expected a file to write.")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists already. Add --overwrite to replace it, or choose another --out.")


def is_folder(format: Format, motion: Path | None, frame: int | None) -> bool:
    """Whether a request makes a folder of files."""
    return format == "web" or (format in SEQUENCES and motion is not None and frame is None)


def carried(motion: Path, person: TrackedSequence) -> HeadParams:
    """A motion carried over to the person; a video is tracked first."""
    if motion.is_dir():
        return transfer(TrackedSequence.load(find_track(motion)), person)
    with tempfile.TemporaryDirectory(prefix="deja-vu-") as folder:
        return transfer(track(motion, Path(folder), TrackConfig(head=person.info.head_name)), person)


def chosen(poses: HeadParams, frame: int, motion: Path | None) -> HeadParams:
    """One frame as a batch of one.

    Raises:
        ConfigError: there is no such frame.
    """
    if not 0 <= frame < len(poses):
        raise ConfigError(f"--frame {frame} is not in {motion}, which has frames 0 to {len(poses) - 1}.")
    return poses[frame : frame + 1]


def writer(format: Format, name: str) -> Callable[[Gaussians, Path], None]:
    """How one pose is written in a format."""
    if format == "gltf":
        return lambda gaussians, path: write_gltf(gaussians, path, name)
    return {"ply": write_ply, "spz": write_spz}[format]


def write_sequence(avatar: GaussianAvatar, poses: HeadParams, rest: HeadParams, out: Path, format: Format) -> None:
    """A file for each frame; files of an earlier, longer motion are removed.

    Raises:
        OutputError: the folder cannot be written.
    """
    write, suffix = writer(format, ""), SUFFIXES[format][0]
    for stale in out.glob(f"frame_*{suffix}"):
        stale.unlink()
    for position in tqdm(range(len(poses)), desc="export", unit="frame"):
        with torch.no_grad():
            write(at_rest(avatar, poses[position : position + 1], rest), out / f"frame_{position:05d}{suffix}")
    print(f"{out}: {len(poses)} frames of {len(avatar.layout)} Gaussians")
