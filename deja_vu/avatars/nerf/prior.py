"""A radiance field for many people: encoder, attention, field and super-resolution, and the avatars that it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import dacite
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars.nerf.avatar import NerfAvatar
from deja_vu.avatars.nerf.config import NerfConfig
from deja_vu.avatars.nerf.planes import EncodedPlanes
from deja_vu.core.documents import parse_json
from deja_vu.core.errors import FormatError, refuse_other_version
from deja_vu.heads import load_head
from deja_vu.heads.base import HeadModel
from deja_vu.io.arrays import load_weights, read_weights, write_weights

FORMAT = "deja-vu field prior"
"""Mark in the header of every file."""
FORMAT_VERSION = 1
PLANES = "planes."
"""Beginning of the names of what makes planes."""


def build_field_prior(head: HeadModel, config: NerfConfig) -> NerfAvatar:
    """A field with random weights that stands for nobody yet; identity and source pictures are no part of its state.

    Args:
        head: whose surface it follows.
        config: sizes; the planes must be encoded.
    """
    prior = NerfAvatar(head, head.neutral((1,)).shape[0], config)
    assert isinstance(prior.planes, EncodedPlanes), config
    prior.register_buffer("shape", prior.shape, persistent=False)
    prior.planes.register_buffer("sources", prior.planes.sources, persistent=False)
    return prior


@torch.no_grad()
def make_person(prior: NerfAvatar, shape: Float[Tensor, " S"], pictures: Float[Tensor, "N s s 3"]) -> NerfAvatar:
    """One person's avatar, without training: the planes are what the encoder and the attention make of some pictures.

    Args:
        prior: from `load_field_prior`, or in training; stays as it is but for the pictures it was shown.
        shape: the person's identity.
        pictures: from `read_photos`, any number in any order.

    Returns:
        An avatar with planes of its own, on the prior's device, in evaluation mode.
    """
    assert isinstance(prior.planes, EncodedPlanes)
    training = prior.training
    prior.eval().become(shape, pictures)
    planes = prior.planes()
    config = replace(prior.config, planes="free", plane_size=planes.shape[-1])
    avatar = NerfAvatar(prior.host_head.copy(), shape.cpu(), config).to(prior.device)
    shared = {name: value for name, value in prior.state_dict().items() if not name.startswith(PLANES)}
    avatar.load_state_dict({**shared, "shape": prior.shape, f"{PLANES}values": planes})
    prior.train(training)
    return avatar.eval()


def save_field_prior(prior: NerfAvatar, path: Path, provenance: Mapping[str, str]) -> None:
    """Write a field for many people with its sizes, provenance and digest into one file, in one move; weights in half precision.

    Raises:
        OutputError: it cannot be written.
    """
    header = {"format": FORMAT, "version": str(FORMAT_VERSION), "head": prior.head.spec.name, "config": json.dumps(asdict(prior.config))}
    tensors = {name: value.half() for name, value in prior.state_dict().items()}
    write_weights(path, tensors, {**header, **provenance})


def load_field_prior(path: Path) -> NerfAvatar:
    """Read a field for many people, in evaluation mode.

    Raises:
        FormatError: the file is damaged, of another kind or version, or for another head.
    """
    header, tensors = read_weights(path)
    if header.get("format") != FORMAT:
        raise FormatError(f"{path} is not a field's network: its header says {header.get('format')}. Train one: generalize --path nerf.")
    refuse_other_version(f"{path} has format", header.get("version"), FORMAT_VERSION, "Train it again with this version.")
    try:
        described = parse_json(header["config"], f"{path}: its config")
        config = dacite.from_dict(NerfConfig, described, dacite.Config(strict=True))
        prior = build_field_prior(load_head(header["head"]), config)
    except (KeyError, TypeError, dacite.DaciteError) as error:
        raise FormatError(f"{path} is damaged or not the network of a field ({error}).") from error
    load_weights(prior, tensors, path)
    return prior.eval()
