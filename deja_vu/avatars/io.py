"""Avatars on disk: one safetensors file whose header describes it, and which is refused if it does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dacite
import torch
from safetensors import SafetensorError
from torch import Tensor

from deja_vu.avatars.base import Avatar
from deja_vu.avatars.gaussian.avatar import GaussianAvatar
from deja_vu.avatars.gaussian.config import GaussianConfig
from deja_vu.avatars.nelf import NelfAvatar, NelfConfig
from deja_vu.avatars.nerf import NerfAvatar, NerfConfig
from deja_vu.core.documents import in_short, parse_json
from deja_vu.core.errors import FormatError, InputError, refuse_other_version
from deja_vu.core.subject import Subject
from deja_vu.core.tensor_file import open_tensors
from deja_vu.core.upgrade import upgrade_tensors
from deja_vu.heads import load_head
from deja_vu.heads.bust import load_bust
from deja_vu.io.arrays import write_tensors

FORMAT_VERSION = 1
AVATARS: dict[str, tuple[type, type]] = {
    "gaussian": (GaussianAvatar, GaussianConfig),
    "nerf": (NerfAvatar, NerfConfig),
    "nelf": (NelfAvatar, NelfConfig),
}
"""Representations by the name written into the file."""
OLDER_READER = "reader.reach"
"""Tensor of a reader that looks at other windows than today's."""


def kind_of(avatar: Avatar) -> str:
    """Name of an avatar's representation."""
    return next(name for name, (kind, _) in AVATARS.items() if type(avatar) is kind)


def save_avatar(avatar: Avatar, path: Path, provenance: dict[str, str], subject: Subject | None = None) -> None:
    """Write an avatar atomically.

    Args:
        avatar: to be written.
        path: ends in .safetensors.
        provenance: text fields to keep in the header (commit, command line, source).
        subject: whose it is; without it the file alone can be rendered, but not driven.

    Raises:
        OutputError: the file cannot be written; a former one is kept.
    """
    header = {
        "format": "deja-vu avatar",
        "version": str(FORMAT_VERSION),
        "kind": kind_of(avatar),
        "head": avatar.head.spec.name,
        "config": json.dumps(asdict(avatar.config)),
        **_chart_hashes(avatar),
        **({"subject": subject.to_json()} if subject is not None else {}),
        **provenance,
    }
    write_tensors(path, avatar.state_dict(), header)


def _torso_shape(path: Path, config: Any, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The bust's own coefficients, where the file's avatar has a bust."""
    if not isinstance(config, GaussianConfig) or not config.bust_size:
        return ()
    found, expected = tensors.get("torso_shape", torch.empty(0)), (load_bust().num_own,)
    if found.shape != expected:
        raise FormatError(f"{path}: the torso's shape has {tuple(found.shape)} coefficients, expected {expected}.")
    return (found,)


def _chart_hashes(avatar: Avatar) -> dict[str, str]:
    """Digests of the charts on which a Gaussian avatar's maps lie, by their names in the header."""
    if not isinstance(avatar, GaussianAvatar):
        return {}
    charts = avatar.charts
    return {"uv_hash": charts.head.hash} | ({} if charts.bust is None else {"bust_hash": charts.bust.hash})


def read_header(path: Path) -> dict[str, str]:
    """Header of an avatar file.

    Raises:
        InputError: there is no such file.
        FormatError: it is not an avatar of this format version.
    """
    if not path.is_file():
        raise InputError(f"No avatar at {path}: expected avatar.safetensors, as `deja-vu personalize` writes it.")
    try:
        with open_tensors(path) as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path} is damaged or not a safetensors file ({in_short(error)}).") from error
    if header.get("format") != "deja-vu avatar":
        raise FormatError(f"{path} holds no avatar: its header has no 'deja-vu avatar' mark.")
    refuse_other_version(f"{path} has avatar format", header.get("version"), FORMAT_VERSION, "Personalize again with this version.")
    return header


def read_subject(path: Path | str) -> Subject | None:
    """Whose avatar a file holds; None where an older version wrote it.

    Raises:
        InputError: there is no such file.
        FormatError: it is no avatar of this version, or damaged.
    """
    header = read_header(Path(path))
    if "subject" not in header:
        return None
    subject = Subject.from_json(header["subject"], str(path))
    spec, neutral = load_head(header["head"]).spec, subject.neutral
    found = (neutral.shape.shape[-1], neutral.expression.shape[-1], neutral.joints.shape[-2])
    if subject.head_name != spec.name or found != (spec.num_shape, spec.num_expression, spec.num_joints):
        raise FormatError(f"{path}: its neutral face is of another head than '{spec.name}'.")
    return subject


def load_avatar(path: Path | str, backend: str = "auto") -> Avatar:
    """Read an avatar of any kind and rebuild it on its head model, in evaluation mode.

    Args:
        path: the .safetensors file.
        backend: rasterizer to render it with, if it is made of Gaussians.

    Raises:
        InputError: there is no such file.
        FormatError: another format, head or UV chart, wrong shapes, or values that are not finite.
    """
    path = Path(path)
    header = read_header(path)
    with open_tensors(path) as file:
        tensors = upgrade_tensors(header.get("kind", ""), {name: file.get_tensor(name) for name in file.keys()})
    try:
        kind, config_type = AVATARS[header["kind"]]
        chosen: dict[str, Any] = {"backend": backend} if kind is GaussianAvatar else {}
        described = parse_json(header["config"], f"{path}: its config")
        if OLDER_READER in tensors:
            print(f"note: {path} was made by an earlier version, whose reader of codes is left out; personalize again for a new one")
            tensors = {name: value for name, value in tensors.items() if not name.startswith("reader.")}
            chosen["reader"] = False
        config: Any = dacite.from_dict(config_type, {**described, **chosen}, dacite.Config(strict=True))
        head = load_head(header["head"])
        hashes = {name: header[name] for name in ("uv_hash", "bust_hash") if name in header}
    except (KeyError, TypeError, dacite.DaciteError) as error:
        raise FormatError(f"{path}: its header does not describe an avatar this version knows ({error}).") from error
    shape = tensors.get("shape", torch.empty(0))
    if shape.shape != (head.spec.num_shape,):
        raise FormatError(f"{path}: the identity has shape {tuple(shape.shape)}, expected ({head.spec.num_shape},).")
    avatar: Avatar = kind(head, shape, config, *_torso_shape(path, config, tensors))
    if hashes != _chart_hashes(avatar):
        raise FormatError(f"{path} was made on another UV chart of head '{header['head']}' ({hashes}, expected {_chart_hashes(avatar)}).")
    expected = {name: tuple(value.shape) for name, value in avatar.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise FormatError(f"{path}: tensors do not fit: " + "; ".join(f"{n} is {found.get(n)}, expected {expected.get(n)}" for n in wrong))
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise FormatError(f"{path}: {', '.join(broken)} hold values that are not finite.")
    avatar.load_state_dict(tensors)
    return avatar.eval()
