"""Train the reader of an avatar: codes of training frames are fitted through the avatar, and the reader learns the tracker's errors."""

from __future__ import annotations

import os
from copy import deepcopy

import torch
from tqdm import tqdm

from deja_vu.avatars import GaussianAvatar
from deja_vu.avatars.gaussian.code_fit import CodeFitter
from deja_vu.avatars.gaussian.code_reader import learn_reader
from deja_vu.avatars.gaussian.config import ReaderConfig
from deja_vu.avatars.gaussian.face_reader import FaceReader
from deja_vu.core.ahead import compute_ahead
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.frames import FrameSource

WORKERS = min(2, os.cpu_count() or 1)
"""Frames that are fitted at once: half of a fit is done by one core."""


@torch.no_grad()
def teach_reader(avatar: GaussianAvatar, sequence: TrackedSequence, config: ReaderConfig) -> None:
    """Fill an avatar's reader, in place; nothing happens to an avatar without one.

    Args:
        avatar: trained.
        sequence: training frames.
        config: recipe.
    """
    if avatar.reader is None:
        return
    still = deepcopy(avatar).cpu().requires_grad_(False).eval()
    fitter = CodeFitter(still, config.fit)
    source = FrameSource(sequence, sequence.info.resolution, cache_bytes=0)
    chosen = evenly_spaced(config.frames, len(sequence))
    assert still.reader is not None
    reader = FaceReader(still, still.reader)
    found = compute_ahead(lambda batch: reader.example(batch, fitter.fit_code(batch)), source.stream(iter(chosen[:, None])), WORKERS)
    examples = list(tqdm(found, "learn to read", total=len(chosen), unit="frame"))
    learn_reader(still.reader, examples, fitter.columns, config)
    avatar.reader.load_state_dict(still.reader.state_dict())
