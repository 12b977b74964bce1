"""Cheap checks of a request before anything slow is loaded: whether inputs exist, and whether the result can be written."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from deja_vu.core.errors import ConfigError, InputError, OutputError
from deja_vu.pipelines.configs import ExportConfig, Format
from deja_vu.pipelines.own_files import claim, hold_output
from deja_vu.pipelines.run_folder import find_track, list_drawing_inputs, open_run

WEBCAM = re.compile(r"webcam:([0-9]{1,4})")
"""A motion that is a camera's."""
VIRTUAL_CAMERA = "virtual-camera"
"""Name of the output that is a camera."""
SUFFIXES: dict[str, tuple[str, ...]] = {"ply": (".ply",), "spz": (".spz",), "gltf": (".glb", ".gltf"), "npz": (".npz",)}
"""Of exported files, by format."""
SEQUENCES = ("ply", "spz")
"""Formats that can be written as a file a frame."""


def refuse_device(name: str, *, gaussians: bool = True) -> None:
    """Check that a device can compute what is asked for, before anything slow.

    Args:
        name: as `--device` takes it.
        gaussians: Gaussians will be drawn there.

    Raises:
        ConfigError: it cannot, or there is none of that name.
    """
    from deja_vu.training.devices import pick_device

    pick_device(name, gaussians=gaussians)


def refuse_absent(path: Path, what: str) -> None:
    """Check that an input file is there.

    Args:
        path: to be read.
        what: it is, as `a video`.

    Raises:
        InputError: it is not.
    """
    if not path.exists():
        raise InputError(f"There is no file {path}. Expected the path of {what}.")


def refuse_absent_all(paths: Sequence[Path], what: str) -> None:
    """Check that at least one input is given, and that all are there.

    Args:
        paths: to be read.
        what: each is, as `a video`.

    Raises:
        InputError: one is not, or there is none.
    """
    if not paths:
        raise InputError(f"Nothing is given to work on. Expected the path of {what}, or several.")
    for path in paths:
        refuse_absent(path, what)


MOTIONS = {".csv": "an ARKit capture", ".yaml": "an expression script", ".yml": "an expression script"}
"""What a motion's file is, by its suffix; any other is a video."""
NO_MOTIONS = frozenset({".json", ".txt", ".png", ".jpg", ".jpeg", ".npz", ".ply", ".spz", ".glb", ".safetensors", ".html"})
"""Suffixes of what is surely neither a motion nor a video."""


def refuse_absent_motion(motion: str) -> None:
    """Check that what a motion names is there, if it is no camera.

    Raises:
        InputError: it is not.
    """
    path = Path(motion)
    suffix = path.suffix.lower()
    if path.is_dir():
        find_track(path)
    elif not WEBCAM.fullmatch(motion):
        refuse_absent(path, MOTIONS.get(suffix, "a video"))
        if suffix in NO_MOTIONS:
            raise InputError(
                f"{path} is not a motion. Expected a video, a folder of `deja-vu track`, a .csv of Live Link Face, "
                "an expression script (.yaml), or webcam:0."
            )


def makes_pictures(out: Path) -> bool:
    """Whether what a drive writes to is a folder of pictures."""
    return out.suffix == "" and str(out) != VIRTUAL_CAMERA


def refuse_output(out: Path, read: Sequence[Path], *, overwrite: bool) -> None:
    """Check that a drive's pictures can go to an output.

    Args:
        out: what the user named.
        read: what the command reads.
        overwrite: what is there may be replaced, if a drive wrote it or the user means it.

    Raises:
        OutputError: nobody knows the suffix, the place cannot be written, or it is taken.
    """
    if out.suffix.lower() not in ("", ".mp4", ".webm"):
        raise OutputError(f"{out}: '{out.suffix}' cannot be written. Expected .mp4, .webm, a folder, or {VIRTUAL_CAMERA}.")
    if makes_pictures(out):
        with open_run(out, "drive", inputs=read, overwrite=overwrite):
            return
    if str(out) != VIRTUAL_CAMERA:
        refuse_place(out)
        claim(out, overwrite=overwrite, inputs=read)


def refuse_place(out: Path) -> None:
    """Check that a file can be made where the user names one.

    Raises:
        OutputError: its folder is absent or cannot be written.
    """
    if not out.parent.is_dir():
        raise OutputError(f"The folder {out.parent} does not exist, so {out.name} cannot be written there.")
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"The folder {out.parent} is read-only, so {out.name} cannot be written there.")


def makes_folder(format: Format, config: ExportConfig) -> bool:
    """Whether an export makes a folder of files."""
    return format == "web" or (format in SEQUENCES and config.motion is not None and config.frame is None)


def check_export(format: Format, out: Path, config: ExportConfig) -> None:
    """Refuse exports that mean nothing.

    Raises:
        ConfigError: flags that do not go together, or a name that does not fit the format.
    """
    motion, frame = config.motion, config.frame
    if frame is not None and motion is None:
        raise ConfigError("--frame picks one frame of a motion: add --motion, or leave --frame out.")
    if motion is not None and WEBCAM.fullmatch(motion):
        raise ConfigError("A camera's motion never ends, so it cannot be exported. Give a recording, or export the page with --webcam.")
    if format == "npz" and motion is not None:
        raise ConfigError("npz holds the maps that all poses share: leave --motion out.")
    if format == "gltf" and motion is not None and frame is None:
        raise ConfigError("glTF holds one pose: add --frame to pick one, or choose --format ply or spz for a file a frame.")
    if format == "web" and frame is not None:
        raise ConfigError("The page plays whole motions: leave --frame out.")
    if config.webcam is not None and format != "web":
        raise ConfigError(f"--webcam belongs to --format web, not to {format}.")
    if not makes_folder(format, config) and out.suffix.lower() not in SUFFIXES[format]:
        raise ConfigError(f"--out {out} does not end in {' or '.join(SUFFIXES[format])}, as --format {format} needs.")


@contextlib.contextmanager
def open_export(format: Format, out: Path, config: ExportConfig, run: Path, *, overwrite: bool) -> Iterator[Path]:
    """Where an export writes while the block runs: the file itself, or a folder that becomes the one that the user names.

    Raises:
        OutputError: the place is taken.
    """
    inputs = [run, *list_drawing_inputs(run), *config.inputs]
    if makes_folder(format, config):
        with open_run(out, "export", inputs=inputs, overwrite=overwrite) as opened:
            opened.note()
            yield opened.folder
    else:
        with hold_output(out, overwrite=overwrite, inputs=inputs):
            yield out


def refuse_export(format: Format, out: Path, config: ExportConfig, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse a place that holds something else, before anything is computed.

    Raises:
        OutputError: it is taken.
    """
    if makes_folder(format, config):
        refuse_folder(out, "export", inputs, overwrite=overwrite)
    else:
        claim(out, overwrite=overwrite, inputs=inputs)


def refuse_folder(out: Path, kind: str, inputs: Sequence[Path], *, resume: bool = False, overwrite: bool = False) -> None:
    """Check that a command can fill a folder, before it is opened for good.

    Raises:
        OutputError: it holds what no run wrote, or a run and no flag is given; another process holds it; it cannot be written.
    """
    with open_run(out, kind, inputs=inputs, resume=resume, overwrite=overwrite):
        return
