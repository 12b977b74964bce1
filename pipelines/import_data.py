"""Convert other people's data sets: recordings to tracked folders, collections of photos to shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm import tqdm

from deja_vu.core.camera import Camera
from deja_vu.core.errors import ConfigError, InputError, MissingAssetError
from deja_vu.core.head import HeadParams
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence, TrackInfo
from deja_vu.datasets import recording_reader
from deja_vu.datasets.recording import RecordedFrame, Recording, to_tensor
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.heads.flame import FULL, LANDMARKS_FILE, MASKS_FILE, read_root
from deja_vu.heads.skinning import axis_angle_to_matrix
from deja_vu.io.tracked_folder import make_frame_folders, write_frame, write_masks, write_sequence
from deja_vu.pipelines.configs import ImportConfig, SetRule
from deja_vu.pipelines.prepare import prepare
from deja_vu.pipelines.run_folder import Run, open_run
from deja_vu.render.mesh import rasterize_mesh
from deja_vu.tracking.crop import Crop, crop_frame, crop_valid
from deja_vu.tracking.letterbox import Filmed
from deja_vu.tracking.masks import HeadMasks, head_alpha
from deja_vu.training.checkpoint import fingerprint

Kind = Literal["insta", "imavatar", "vhap", "flame-head-tracker", "ffhq", "vfhq"]
"""Kinds of data sets."""
PHOTO_SETS: dict[str, tuple[SetRule, ...]] = {
    "ffhq": (SetRule(match=r"(?:.*/)?(\d{5})\.\w+", identity=r"ffhq/\1", test=r"ffhq/00\d{3}"),),
    "vfhq": (SetRule(match=r"(?:.*/)?Clip\+([^/]+)\+P(\d+)\+[^/]+/\d+\.\w+", identity=r"vfhq/\1/\2"),),
}
"""Who is who in a collection of photos: FFHQ has one person a file, the first thousand for test; VFHQ one for each video and number."""
PHOTOS_EACH = {"ffhq": 0, "vfhq": 24}
"""Most photos of each of them; 0 for all."""
CHECKED = 8
"""Frames in which it is checked whether the head lies where the mask is."""
LEAST_ON_MASK = 0.7
"""Share of the head's pixels that must lie on the mask there."""
LEAST_OF_MASK = 0.1
"""Share of the mask that the head must cover there."""
MARGIN = 0.3
"""Share of the heads' box added on every side, where pictures are not square."""
LEAST_FRAMES = 5
"""With fewer there is nothing to train on and to test."""


@dataclass(frozen=True)
class Placed:
    """A recording with its head model and window."""

    recording: Recording
    head: HeadModel
    params: HeadParams
    crop: Crop
    camera: Camera
    """On the stored pixels."""
    side: int
    """Of the stored pictures, pixels."""


def import_data(kind: Kind, source: Path, out: Path, config: ImportConfig, *, overwrite: bool) -> None:
    """Write a tracked folder of a recording, or shards of a collection of photos; nothing where it cannot be read as a whole.

    Args:
        kind: of the data set.
        source: its folder.
        out: run folder.
        config: recipe.
        overwrite: replace what the folder holds, once the new one is whole.

    Raises:
        InputError: something is missing, or does not fit together.
        FormatError: something is damaged, unsafe, or of another head model.
        MissingAssetError: the data set is in FLAME's parameters, and the user's own FLAME is not to be found.
        OutputError: `out` holds something else, is in use, or cannot be written.
    """
    if kind in PHOTO_SETS:
        rules = config.photos.sets or PHOTO_SETS[kind]
        prepare([source], out, replace(config.photos, sets=rules, each=config.photos.each or PHOTOS_EACH[kind]), overwrite=overwrite)
        return
    if config.camera is not None and kind != "vhap":
        raise ConfigError(f"--camera chooses among the cameras of an export of VHAP; data of the kind {kind} have one. Leave it out.")
    with open_run(out, "track", inputs=[source], overwrite=overwrite) as run:
        read = recording_reader(kind)
        recording = read(source) if config.camera is None else read(source, config.camera)
        if len(recording) < LEAST_FRAMES:
            raise InputError(
                f"{source} holds {len(recording)} frames; at least {LEAST_FRAMES} are needed to train on some and test on others."
            )
        placed = place(source, recording, config)
        refuse_other_axes(source, placed)
        run.note(source=str(source), source_sha256=content_print(recording), recipe_sha256=fingerprint(config))
        write_tracked(kind, source, placed, config, run)
    for note in recording.notes:
        print(f"note: {source}: {note}")


def place(source: Path, recording: Recording, config: ImportConfig) -> Placed:
    """Choose head model and window, and bring the parameters into the camera's space.

    Raises:
        MissingAssetError: the user's own FLAME, or a file that belongs to it, is not to be found.
    """
    name = config.head or recording.flame
    usual = load_head(name)
    beyond = recording.shape[usual.spec.num_shape :].any() or recording.expression[:, usual.spec.num_expression :].any()
    head = load_head(name + FULL) if beyond and not name.endswith(FULL) else usual
    if "neck" not in head.topology.regions or "mediapipe" not in head.topology.landmarks:
        raise MissingAssetError(
            f"The masks of {source} need to know where FLAME's neck, eyes and mouth are: {MASKS_FILE} and {LANDMARKS_FILE} have to lie "
            "beside the model. They come from FLAME's web page."
        )
    params = head_params(recording, head, name)
    first = recording.read(0).image
    height, width = first.shape[:2]
    crop = Crop(0, 0, width) if width == height else _window(recording, head, params)
    side = min(crop.size, config.resolution)
    camera = Camera(torch.eye(4), to_tensor(recording.intrinsics), width, height)
    return Placed(recording, head, params, crop, camera.crop(crop.x0, crop.y0, crop.size, crop.size).resize(side, side), side)


def head_params(recording: Recording, head: HeadModel, name: str) -> HeadParams:
    """A recording's parameters as this project has them: the world is the camera's space, the head turns about its origin."""
    spec, count = head.spec, len(recording)

    def fit(values: np.ndarray, size: int) -> Tensor:
        padded = np.zeros((*values.shape[:-1], size))
        padded[..., : min(size, values.shape[-1])] = values[..., :size]
        return to_tensor(padded)

    shape = fit(recording.shape, spec.num_shape)
    mean, basis = read_root(name, num_shape=spec.num_shape)
    pivot, turn = mean + shape @ basis, axis_angle_to_matrix(to_tensor(recording.root))
    model = torch.eye(4).repeat(count, 1, 1)
    model[:, :3, :3], model[:, :3, 3] = turn, pivot - turn @ pivot + to_tensor(recording.translation)
    return HeadParams(
        shape=shape.expand(count, -1),
        expression=fit(recording.expression, spec.num_expression),
        joints=to_tensor(recording.joints),
        world_from_head=to_tensor(recording.camera_from_model) @ model,
    )


def _window(recording: Recording, head: HeadModel, params: HeadParams) -> Crop:
    """A square that holds the heads of all frames, with a margin for hair."""
    height, width = recording.read(0).image.shape[:2]
    camera = Camera(torch.eye(4), to_tensor(recording.intrinsics), width, height)
    boxes = []
    for position in range(len(recording)):
        pixels, _ = camera.project(head(params[position : position + 1]))
        boxes.append(torch.stack([pixels[0].amin(0), pixels[0].amax(0)]))
    low, high = torch.stack(boxes)[:, 0].amin(0), torch.stack(boxes)[:, 1].amax(0)
    size = int(min((1 + 2 * MARGIN) * float((high - low).amax()), max(width, height)))
    corner = ((low + high - size) / 2).round().int().tolist()
    return Crop(corner[0], corner[1], size)


def refuse_other_axes(source: Path, placed: Placed) -> None:
    """Check in some frames that the head lies where the mask says the person is.

    Raises:
        InputError: it does not: the axes, the units or the head model are others.
    """
    for position in evenly_spaced(CHECKED, len(placed.recording)).tolist():
        shot = read_checked(placed.recording, position)
        seen = rasterize_mesh(placed.head(placed.params[position : position + 1]), placed.head.topology.faces, placed.camera).face_id[0]
        mask = crop_frame(shot.foreground, placed.crop, placed.side, border=0)
        drawn = (seen >= 0).numpy()
        both = float((drawn & (mask > 127)).sum())
        share, cover = both / max(drawn.sum(), 1), both / max((mask > 127).sum(), 1)
        if share < LEAST_ON_MASK or cover < LEAST_OF_MASK:
            raise InputError(
                f"{source}: in frame {int(placed.recording.index[position])} {100 * share:.0f} % of the head lie on the person's mask and "
                f"cover {100 * cover:.0f} % of it; expected {100 * LEAST_ON_MASK:.0f} and {100 * LEAST_OF_MASK:.0f} or more. Its cameras "
                "have other axes or units than this kind of data, or it is for another FLAME (--head flame2020, flame2023)."
            )


def read_checked(recording: Recording, position: int) -> RecordedFrame:
    """A picture of a recording.

    Raises:
        InputError: it is missing, of another size than the others, or its mask is empty.
    """
    shot = recording.read(position)
    if shot.foreground.max() < 128:
        raise InputError(
            f"{recording.name}: the mask of frame {int(recording.index[position])} is empty. Leave the frame out, or mend its mask."
        )
    return shot


def write_tracked(kind: str, source: Path, placed: Placed, config: ImportConfig, run: Run) -> None:
    """Write pictures, masks and parameters into an open folder."""
    recording, crop, side = placed.recording, placed.crop, placed.side
    make_frame_folders(run.folder, ["head"])
    masks, size = HeadMasks(placed.head), recording.read(0).image.shape
    for position in tqdm(range(len(recording)), "import", unit="frame"):
        shot, number = read_checked(recording, position), int(recording.index[position])
        if shot.image.shape != size:
            raise InputError(
                f"{source}: the picture of frame {number} has {shot.image.shape[1]} x {shot.image.shape[0]} pixels, others {size[1]}."
            )
        filmed = Filmed(0, 0, size[1], size[0])
        valid = crop_valid(filmed, crop, side)
        weight, eyes_mouth = masks.render(placed.params[position : position + 1], placed.camera, side)
        foreground = np.minimum(crop_frame(shot.foreground, crop, side, border=0), valid)
        given = None if shot.head is None else np.minimum(crop_frame(shot.head, crop, side, border=0), foreground)
        head = head_alpha(foreground, weight[0]) if given is None else given
        write_frame(run.folder, number, crop_frame(shot.image, crop, side))
        write_masks(run.folder, number, np.stack([foreground, head, eyes_mouth[0], valid], -1))
    index = torch.from_numpy(recording.index.astype(np.int64))
    info = TrackInfo(
        subject=recording.name,
        head_name=placed.head.spec.name,
        fps=config.fps,
        source=source.name,
        source_sha256=content_print(recording),
        source_frames=int(index.max()) + 1,
        crop=crop.box,
        resolution=side,
        split="tail" if recording.test is None or config.test_frames else kind,
        warnings=recording.notes,
    )
    test = held_out(recording, config)
    write_sequence(TrackedSequence(run.folder, info, placed.params, placed.camera, index, index / config.fps, test))


def content_print(recording: Recording) -> str:
    """Digest of a recording's parameters."""
    parts = (recording.index, recording.shape, recording.expression, recording.joints, recording.camera_from_model)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def held_out(recording: Recording, config: ImportConfig) -> Bool[Tensor, " T"]:
    """Frames for test: the last ones, as many as asked for; else those of the data set; else the last fifth.

    Raises:
        ConfigError: too few are left.
    """
    count = len(recording)
    if recording.test is not None and not config.test_frames and 0 < recording.test.sum() < count:
        return torch.from_numpy(recording.test)
    kept = config.test_frames or round(config.test_share * count)
    if not 0 < kept < count:
        raise ConfigError(f"{kept} of {count} frames would be kept for test. Set --test-frames to fewer than there are.")
    return torch.arange(count) >= count - kept
