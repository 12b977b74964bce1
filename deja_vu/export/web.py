"""A folder with one page and one binary that animate an avatar in any browser, from disk or from any host.

Beside them lies the same program as a script for pages of other people's making (deja-vu.js).

avatar.bin is a classic script, `dejavu("...")`, because a page opened from disk may load scripts from its folder but may not fetch
files. The string holds gzip-compressed bytes, one character a byte, with the four characters that a string literal cannot hold
escaped. Inside: the length of a JSON header (uint32, little-endian), the header, and the arrays it names, each at its offset, which
is a multiple of four.
"""

from __future__ import annotations

import gzip
import html
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars import GaussianAvatar
from deja_vu.core.camera import Camera
from deja_vu.core.errors import InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.orbit import FILMED_MARGIN, orbit_of
from deja_vu.core.subject import Subject
from deja_vu.export.rig import Rig, build_rig
from deja_vu.io.files import write_atomic
from deja_vu.motion.labels import HEAD_AND_GAZE, TURNS, WORDS, Section, presets, sections
from deja_vu.motion.torso import NECK_GIVE, TURN_LIMITS, neck_pivot

FORMAT = "deja-vu web/3"
LEVELS: dict[str, int] = {"raw": 16, "morphs": 16, "pose_morphs": 16, "blendmaps": 8, "tap_weights": 8, "bary": 16, "clip": 16}
"""Bits of the arrays that are stored in steps between their extremes, channel by channel; the others stay as they are."""
ESCAPES = {ord("\\"): b"\\\\", ord('"'): b'\\"', ord("\n"): b"\\n", ord("\r"): b"\\r"}
TITLE = "<title>Déjà-vu</title>"
"""In the page as it is built; every page has its own."""
WASM = "vision_wasm_internal"
"""MediaPipe's program for browsers with SIMD, which all current ones have."""


@dataclass(frozen=True)
class Clip:
    """A motion that the page can play."""

    name: str
    params: HeadParams
    """Frames, carried over to the person."""
    fps: float
    yaw: Float[Tensor, " T"] | None = None
    """How far the camera has gone round the person in each frame, radians; None where it stands."""


@dataclass(frozen=True)
class Controls:
    """What the page's sliders and buttons mean for this person; the same as in the viewer."""

    swing: Float[Tensor, " E"]
    """What a slider at one adds to its expression at rest."""
    presets: Mapping[str, Float[Tensor, " E"]]
    """Expressions by the name of their button."""
    jaws: Mapping[str, Float[Tensor, "3"]] = field(default_factory=dict)
    """Turns of the jaw by that name, radians, on heads whose jaw opens the mouth."""


@dataclass(frozen=True)
class Quantized:
    """An array in equal steps: value = low + step * level, for each channel of each group of rows."""

    levels: np.ndarray
    low: np.ndarray
    step: np.ndarray

    def values(self) -> np.ndarray:
        """The array as the page decodes it."""
        shape = (self.low.shape[0], -1, self.low.shape[1])
        return (self.low[:, None] + self.step[:, None] * self.levels.reshape(shape)).reshape(self.levels.shape)


def quantize(values: np.ndarray, bits: int) -> Quantized:
    """Store an array in steps between each channel's extremes.

    Args:
        values: [..., channels]; maps [K, M, channels] have extremes of their own each.
        bits: 8 or 16.
    """
    groups = values.shape[0] if values.ndim == 3 else 1
    rows = values.reshape(groups, -1, values.shape[-1]).astype(np.float64)
    low = rows.min(1)
    step = (rows.max(1) - low) / (2**bits - 1)
    levels = np.round((rows - low[:, None]) / np.where(step, step, 1)[:, None])
    return Quantized(levels.reshape(values.shape).astype(np.uint8 if bits == 8 else np.uint16), low, step)


def write_web(
    avatar: GaussianAvatar,
    subject: Subject,
    controls: Controls,
    clips: list[Clip],
    name: str,
    out: Path,
    *,
    webcam: bool = False,
) -> None:
    """Write the page (index.html), the avatar (avatar.bin), the script for other pages (deja-vu.js) and the licenses (NOTICES.txt).

    Args:
        avatar: a Gaussian avatar.
        subject: the person, at rest as the page shows it; the page starts with the field of view of the camera.
        controls: what sliders and buttons mean.
        clips: motions to play.
        name: shown as the page's title.
        out: folder to write into.
        webcam: whether the page offers to follow the user's face; it then needs what `write_webcam` writes.

    Raises:
        InputError: the avatar has no Gaussians.
        OutputError: the folder cannot be written.
    """
    rig = build_rig(avatar, subject.neutral)
    arrays = dict(rig.arrays)
    unused = ("texels", "blend_texels")  # the page carries texels, and needs no image of the chart
    for key in unused:
        arrays.pop(key, None)
    facts = rig.facts | {"name": name, "camera": _view(subject.camera), "center": _center(avatar, subject), "clips": [], "webcam": webcam}
    facts |= {"body": _body(avatar), "filmed": _find_filmed(subject), "orbit": asdict(orbit_of(avatar.shows_neck))}
    facts |= {"sections": _sections(avatar), "kinds": presets(), "words": WORDS}
    facts |= {"swing": controls.swing.tolist(), "presets": {name: face.tolist() for name, face in controls.presets.items()}}
    facts |= {"preset_jaws": {name: turn.tolist() for name, turn in controls.jaws.items()}}
    for number, clip in enumerate(clips):
        params = clip.params
        frames = len(params)
        arrays[f"clip_{number}_expression"] = params.expression.numpy()
        arrays[f"clip_{number}_joints"] = params.joints.reshape(frames, -1).numpy()
        arrays[f"clip_{number}_pose"] = params.world_from_head[:, :3].reshape(frames, 12).numpy()
        if avatar.bust is not None:
            arrays[f"clip_{number}_torso"] = params.torso[:, :3].reshape(frames, 12).numpy()
        if clip.yaw is not None:
            arrays[f"clip_{number}_yaw"] = clip.yaw[:, None].numpy()
        facts["clips"] += [{"id": number, "name": clip.name, "fps": clip.fps, "frames": frames}]  # type: ignore[operator]
    content = pack(Rig(facts, arrays))
    player = resources.files("deja_vu.export") / "player"
    page = (player / "player.html").read_text(encoding="utf-8").replace(TITLE, f"<title>{html.escape(name)} · Déjà-vu</title>", 1)
    write_atomic(out / "index.html", page)
    for copied in ("deja-vu.js", "NOTICES.txt"):
        write_atomic(out / copied, (player / copied).read_bytes())
    write_atomic(out / "avatar.bin", content)


def write_webcam(package: Path, model: Path, out: Path) -> None:
    """Write webcam.bin, with which the page follows the user's face: MediaPipe's program and model in one file beside the page.

    Args:
        package: folder of the npm package @mediapipe/tasks-vision, or its wasm folder.
        model: the face landmarker's model file.
        out: folder of the page.

    Raises:
        InputError: the folder does not hold the package.
        OutputError: the file cannot be written.
    """
    folder = package / "wasm" if (package / "wasm").is_dir() else package
    files = {"loader": folder / f"{WASM}.js", "wasm": folder / f"{WASM}.wasm", "model": model}
    for path in files.values():
        if not path.is_file():
            raise InputError(
                f"{package} holds no {path.name}. Expected the folder of the npm package @mediapipe/tasks-vision "
                "(npm install @mediapipe/tasks-vision, then node_modules/@mediapipe/tasks-vision)."
            )
    write_atomic(out / "webcam.bin", pack(Rig({}, {name: np.frombuffer(path.read_bytes(), np.uint8) for name, path in files.items()})))


def pack(rig: Rig) -> bytes:
    """The content of a binary beside the page."""
    entries: dict[str, dict] = {}
    body = bytearray()
    for name, values in rig.arrays.items():
        kind = "clip" if name.startswith("clip_") else name
        entry, stored = _store_array(values, LEVELS.get(kind))
        entries[name] = {**entry, "shape": list(values.shape), "offset": len(body)}
        body += stored.tobytes() + b"\0" * (-stored.nbytes % 4)
    text = json.dumps({"format": FORMAT, "facts": rig.facts, "arrays": entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return script(gzip.compress(struct.pack("<I", len(text)) + text + bytes(body), mtime=0))


def script(payload: bytes) -> bytes:
    """Bytes as a script that hands them to the page."""
    escaped = b"".join(ESCAPES.get(byte) or bytes((byte,)) for byte in payload)
    return b'dejavu("' + escaped + b'")\n'


def _store_array(values: np.ndarray, bits: int | None) -> tuple[dict, np.ndarray]:
    """Header fields of an array, and what is written."""
    if values.dtype == np.uint8:
        return {"type": "u8"}, values
    if np.issubdtype(values.dtype, np.integer):
        small = bool(values.size) and values.min() >= 0 and values.max() < 2**16
        return {"type": "u16" if small else "i32"}, values.astype(np.uint16 if small else np.int32)
    if bits is None:
        return {"type": "f32"}, values.astype(np.float32)
    steps = quantize(values, bits)
    return {"type": f"u{bits}", "low": steps.low.ravel().tolist(), "step": steps.step.ravel().tolist()}, steps.levels


def _sections(avatar: GaussianAvatar) -> list[dict]:
    """The page's sliders; the gaze is left out where the head's eyes do not turn."""
    spec = avatar.head.spec
    turns = tuple(turn for turn in TURNS if not turn.name.startswith("gaze") or "eye_left" in spec.joint_names)
    return [
        asdict(section)
        for section in (Section(HEAD_AND_GAZE, turns, opened=True), *sections(spec.expression_names, spec.expression_limits))
    ]


def _body(avatar: GaussianAvatar) -> dict[str, object] | None:
    """What a whole person's head turns on, how far that goes without the torso, and how far the head turns, degrees."""
    if not avatar.shows_person:
        return None
    return {"pivot": neck_pivot(avatar.head, avatar.shape).tolist(), "give": NECK_GIVE, "limits": list(TURN_LIMITS)}


def _view(camera: Camera) -> Mapping[str, float]:
    (fx, _, cx), (_, fy, cy), _ = camera.intrinsics.tolist()
    return {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": camera.width, "height": camera.height}


@torch.no_grad()
def _center(avatar: GaussianAvatar, subject: Subject) -> list[float]:
    """What the page's camera looks at, in head space, meters.

    Of a head alone its middle; of a person the middle of the head, at the height of the filmed picture's middle.
    """
    if avatar.bust is None:
        points = avatar.surface(replace(avatar.head.neutral((1,)), shape=avatar.shape[None])).points[0]
        return ((points.amin(0) + points.amax(0)) / 2).tolist()
    vertices, camera = avatar.head(subject.neutral)[0], subject.camera
    center = (vertices.amin(0) + vertices.amax(0)) / 2
    center[1] = (camera.height / 2 - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1] * center[2]
    pose = subject.neutral.world_from_head[0]
    return ((center - pose[:3, 3]) @ pose[:3, :3]).tolist()


def _find_filmed(subject: Subject) -> list[float] | None:
    """Yaws of the camera before the head beyond which the page says that they were not filmed, degrees."""
    return None if subject.filmed is None else [subject.filmed[0] - FILMED_MARGIN, subject.filmed[1] + FILMED_MARGIN]
