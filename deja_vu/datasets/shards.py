"""Portraits on disk: tar files in the layout of webdataset, read at random through an index of their members.

  000000.tar      KEY.jpg (head crop), KEY.png (planes foreground, head, eyes_mouth, valid), KEY.json (identity, split, set, fit, camera)
  000000.json     photos of this shard that were refused, and why
  shards.json     format, head model, resolution, what was prepared

A tar file appears under its name only when it is complete, so that preparation goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from deja_vu.core.camera import Camera
from deja_vu.core.documents import in_short, parse_json, read_json
from deja_vu.core.errors import FormatError, InputError, OutputError
from deja_vu.core.head import HeadParams
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import Frame
from deja_vu.io.files import whole, write_json
from deja_vu.io.tracked_folder import JPEG_QUALITY

FORMAT_VERSION = 1
DESCRIPTION = "shards.json"
Split = Literal["train", "test"]


@dataclass(frozen=True)
class ShardInfo:
    """Description of a folder of shards."""

    head_name: str
    resolution: int
    """Side of the stored crops, pixels."""
    sources: tuple[str, ...]
    """Everything that was to be prepared, in order; shard k holds the k-th run of `per_shard` of them, less what was refused."""
    per_shard: int
    version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Sample:
    """A portrait that goes into a shard."""

    portrait: Portrait
    set_name: str
    """Collection it comes from, by which figures are broken down."""
    split: Split


@dataclass(frozen=True)
class Entry:
    """A stored portrait without its pictures."""

    key: str
    identity: str
    set_name: str
    split: Split
    params: HeadParams
    camera: Camera
    shard: Path
    places: dict[str, tuple[int, int]]
    """Offset and size of the members `jpg` and `png` in the tar file."""


def begin_shards(folder: Path, info: ShardInfo) -> list[int]:
    """Make or continue a folder of shards, and return the numbers of those that are still to be written.

    Raises:
        OutputError: it holds shards of something else, or cannot be written.
    """
    path = folder / DESCRIPTION
    if path.is_file() and read_info(folder) != info:
        raise OutputError(f"{folder} holds shards of other photos or of another recipe. Choose another --out, or delete it.")
    write_json(path, asdict(info))
    count = -(-len(info.sources) // info.per_shard)
    return [number for number in range(count) if not (folder / f"{number:06d}.tar").is_file()]


def write_shard(folder: Path, number: int, samples: Sequence[Sample], refused: dict[str, str]) -> None:
    """Write one shard, and beside it what was refused.

    Args:
        folder: of the shards.
        number: of this one.
        samples: its portraits, with keys that no other sample has.
        refused: reason by source.

    Raises:
        OutputError: it cannot be written.
    """
    target = folder / f"{number:06d}.tar"
    write_json(target.with_suffix(".json"), {"refused": refused})
    with whole(target) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for suffix, content in _encode_sample(sample).items():
                member = tarfile.TarInfo(f"{sample.portrait.key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _encode_sample(sample: Sample) -> dict[str, bytes]:
    portrait, frame = sample.portrait, sample.portrait.frame
    planes = np.stack([plane.numpy() for plane in (frame.foreground, frame.head, frame.eyes_mouth, frame.valid)], -1)
    params = {name: value[0].flatten().tolist() for name, value in vars(portrait.params).items()}
    facts = {
        "identity": portrait.identity,
        "set": sample.set_name,
        "split": sample.split,
        "params": params,
        "intrinsics": portrait.camera.intrinsics.flatten().tolist(),
    }
    return {
        "jpg": _encode(".jpg", frame.image.numpy()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]),
        "png": _encode(".png", planes, [cv2.IMWRITE_PNG_COMPRESSION, 3]),
        "json": json.dumps(facts).encode(),
    }


def _encode(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    encoded, data = cv2.imencode(suffix, image, options)
    assert encoded, suffix
    return data.tobytes()


def read_info(folder: Path) -> ShardInfo:
    """Read the description of a folder of shards.

    Raises:
        InputError: it is no folder of shards.
        FormatError: it is of another version or damaged.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InputError(f"{folder} holds no shards: expected {DESCRIPTION} in it. Make them with: deja-vu prepare")
    try:
        fields = read_json(path)
        if fields.get("version") != FORMAT_VERSION:
            raise FormatError(f"{folder} has shard format {fields.get('version')}, expected {FORMAT_VERSION}. Prepare the photos again.")
        info = ShardInfo(**{**fields, "sources": tuple(fields["sources"])})
        if not isinstance(info.head_name, str) or type(info.resolution) is not int:
            raise TypeError("head or resolution is of another kind")
        return info
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged ({error}). Prepare the photos again.") from error


def is_shards(folder: Path) -> bool:
    """Whether a folder holds shards, finished or not."""
    return (folder / DESCRIPTION).is_file()


class ShardSet:
    """The portraits of one or several folders of shards, read one at a time in any order."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Index the shards that are complete.

        Args:
            folders: made by `deja-vu prepare`, all for one head model and resolution.

        Raises:
            InputError: no shards, or of different heads or resolutions.
            FormatError: a shard is damaged.
        """
        infos = [read_info(folder) for folder in folders]
        kinds = {(info.head_name, info.resolution) for info in infos}
        if len(kinds) != 1:
            raise InputError(f"The shards differ in head model or resolution: {sorted(kinds)}. Expected one of each.")
        self.head_name, self.resolution = infos[0].head_name, infos[0].resolution
        shards = [shard for folder in folders for shard in sorted(folder.glob("*.tar"))]
        self.entries: list[Entry] = [entry for shard in shards for entry in _index_shard(shard, self.resolution)]
        if not self.entries:
            raise InputError(f"{', '.join(map(str, folders))}: not one complete shard. Let `deja-vu prepare` finish.")

    def __len__(self) -> int:
        return len(self.entries)

    def part(self, split: Split) -> list[int]:
        """Numbers of the entries on one side of the split."""
        return [number for number, entry in enumerate(self.entries) if entry.split == split]

    def watch(self, share: float) -> tuple[list[int], list[int]]:
        """Numbers of the training entries to learn from, and of those of some people, always the same, who are only watched.

        Args:
            share: of the people of the training who are watched; none where that would be all of them.
        """
        watched = {name for name in self.people if int(hashlib.sha256(f"watched {name}".encode()).hexdigest()[:8], 16) / 16**8 < share}
        train = self.part("train")
        learned = [number for number in train if self.entries[number].identity not in watched]
        return (learned, [number for number in train if self.entries[number].identity in watched]) if learned else (train, [])

    @cached_property
    def people(self) -> dict[str, list[int]]:
        """Numbers of the entries of each identity."""
        people: dict[str, list[int]] = {}
        for number, entry in enumerate(self.entries):
            people.setdefault(entry.identity, []).append(number)
        return people

    def read(self, number: int) -> Portrait:
        """Decode one portrait.

        Raises:
            FormatError: its pictures are damaged.
        """
        entry = self.entries[number]
        with entry.shard.open("rb") as file:
            pictures = {suffix: _decode(file, *entry.places[suffix]) for suffix in ("jpg", "png")}
        size = (self.resolution, self.resolution)
        if any(picture is None or picture.shape[:2] != size for picture in pictures.values()):
            raise FormatError(f"{entry.shard}: the pictures of {entry.key} are damaged. Delete the file and prepare the photos again.")
        image = torch.from_numpy(np.ascontiguousarray(pictures["jpg"][..., :3][..., ::-1]))
        planes = torch.from_numpy(np.ascontiguousarray(pictures["png"].transpose(2, 0, 1)))
        return Portrait(entry.key, entry.identity, Frame(image, *planes), entry.params, entry.camera)


def _decode(file: Any, offset: int, size: int) -> Any:
    file.seek(offset)
    return cv2.imdecode(np.frombuffer(file.read(size), np.uint8), cv2.IMREAD_UNCHANGED)


def _index_shard(shard: Path, resolution: int) -> list[Entry]:
    """Entries of one tar file."""
    places: dict[str, dict[str, tuple[int, int]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, suffix = member.name.rpartition(".")
                places.setdefault(key, {})[suffix] = (member.offset_data, member.size)
                if suffix == "json":
                    content = tar.extractfile(member)
                    assert content is not None, member.name
                    facts[key] = parse_json(content.read(), str(shard))
        return [_read_entry(key, facts[key], shard, places[key], resolution) for key in sorted(facts)]
    except (tarfile.TarError, KeyError, TypeError, ValueError, OSError) as error:
        raise FormatError(f"{shard} is damaged ({in_short(error)}). Delete it and prepare the photos again.") from error


def _read_entry(key: str, facts: dict[str, Any], shard: Path, places: dict[str, tuple[int, int]], resolution: int) -> Entry:
    def tensor(name: str, *shape: int) -> Tensor:
        return torch.tensor(facts["params"][name]).view(1, *shape)

    torso = {"torso": tensor("torso", 4, 4)} if "torso" in facts["params"] else {}
    params = HeadParams(tensor("shape", -1), tensor("expression", -1), tensor("joints", -1, 3), tensor("world_from_head", 4, 4), **torso)
    camera = Camera(torch.eye(4), torch.tensor(facts["intrinsics"]).view(3, 3), resolution, resolution)
    return Entry(key, facts["identity"], facts["set"], facts["split"], params, camera, shard, places)
