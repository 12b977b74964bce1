"""Results of two commands side by side, bit for bit, less what says when, where and how they were made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from deja_vu.io.files import LOCK, PART
from deja_vu.pipelines.own_files import STAGE

CIRCUMSTANCES = frozenset({"command", "commit", "seconds", "peak_mb", "track_seconds", "machine", "sha256", "stages", "speed"})
"""Entries of records that say how a result came about."""
LITTER = re.compile(rf"{PART.pattern}|(?:.*/)?(?:{re.escape(STAGE)}|\.[^/]*{re.escape(LOCK)}|{re.escape(LOCK)})|(?:.*/)?deja-vu-[^/]*")
"""What must not be left: files being written, new runs that have not taken their place, locks, temporary folders."""


def fingerprints(place: Path) -> dict[str, str]:
    """Digest of every result at a place, a file or a folder, by its name there."""
    if place.is_file():
        return {".": _print(place)}
    return {path.relative_to(place).as_posix(): _print(path) for path in sorted(place.rglob("*")) if path.is_file() and _counts(path)}


def litter(folder: Path) -> list[str]:
    """Names of what a killed process left, below a folder."""
    return sorted(
        name
        for path in folder.rglob("*")
        if LITTER.fullmatch(name := path.relative_to(folder).as_posix()) and STAGE not in name[:-1].split("/")[:-1]
    )


def differences(ours: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Names of what is missing, more, or another."""
    return sorted(name for name in ours.keys() | wanted.keys() if ours.get(name) != wanted.get(name))


def _counts(path: Path) -> bool:
    """Whether a file is a result: curves for TensorBoard carry the time and the process in their names, litter is asked for apart."""
    return not (path.name.startswith("events.out.tfevents") or PART.fullmatch(path.name) or path.name == LOCK or STAGE in path.parts)


def _print(path: Path) -> str:
    digest = hashlib.sha256()
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            digest.update(repr(sorted(_plain(file.metadata() or {}).items())).encode())
            for name in sorted(file.keys()):
                digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
    elif path.name == "checkpoint.pt":
        content = torch.load(path, map_location="cpu", weights_only=True)
        _add(digest, {name: content[name] for name in ("whose", "step", "model", "optimizer", "random")})
    elif path.suffix in (".json", ".jsonl"):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            digest.update(json.dumps(_plain(json.loads(line)), sort_keys=True).encode())
    elif path.name in ("page.html", "report.html"):  # it tells times, and draws them
        digest.update(repr(re.findall(r"data:image[^\"']+", path.read_text())).encode())
    else:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A record without its circumstances."""
    if isinstance(value, Mapping):
        kept = {name: inner for name, inner in value.items() if name not in CIRCUMSTANCES and not name.startswith("time/")}
        return {name: sorted(n for n in inner if "tfevents" not in n) if name == "files" else _plain(inner) for name, inner in kept.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _add(digest: Any, value: Any) -> None:
    """All of a nested value."""
    if isinstance(value, torch.Tensor):
        digest.update(value.numpy().tobytes())
    elif isinstance(value, Mapping):
        for name in value:
            digest.update(repr(name).encode())
            _add(digest, value[name])
    elif isinstance(value, list | tuple):
        for inner in value:
            _add(digest, inner)
    else:
        digest.update(repr(value).encode())
