"""The first picture of an avatar, seconds after the start: what the network for photos makes of one frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from deja_vu.avatars import GaussianConfig
from deja_vu.avatars.prior.network import HeadPrior, load_prior
from deja_vu.core.errors import DejaVuError, InputError
from deja_vu.core.image import WHITE
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.heads import load_head
from deja_vu.io.images import Picture, write_png
from deja_vu.io.video import Image, read_frames
from deja_vu.motion.appearance import SIDES, pose_subject
from deja_vu.pipelines.recipes import Recipe
from deja_vu.report.sheets import label_sheet
from deja_vu.tracking.config import FitConfig, PhotoConfig
from deja_vu.tracking.photo import FittedPhoto, PhotoFitter
from deja_vu.training.logging import PREVIEW

TRIED = 4
"""Frames that are tried, the first in which a head can be fitted is taken."""
APART = 12
"""Frames from one that is tried to the next."""
SIDE = 320
"""Of each of the views, pixels."""
FIT = PhotoConfig(
    window_scales=(1.0,),
    fit=FitConfig(distance=None, focal_deviation=0.15, start_ratios=(0.9, 1.8), start_steps=3),
    silhouette_steps=0,
)
"""Of the head: rougher than a photo's, and done in a third of the time."""
LIFTED_SIDE = 256
"""Of the picture from which colors are lifted, pixels."""


def write_first_picture(video: Path, out: Path, recipe: Recipe) -> Path | None:
    """Write preview.png: the head of one frame beside the avatar that the shipped network makes of it, from there and from both sides.

    Args:
        video: file.
        out: run folder.
        recipe: of the run; its head must be the network's.

    Returns:
        The picture; None where there is no such network or none of the first frames shows a face well: tracking says what it lacks.
    """
    try:
        prior = load_prior(Path(recipe.gaussian.prior) if recipe.gaussian.prior else None)
        if prior.config.head != recipe.track.head:
            return None
        head = load_head(prior.config.head)
        with PhotoFitter(head, FIT) as fitter:
            fitted = next(_fit(fitter, video), None)
    except DejaVuError:
        return None
    if fitted is None:
        return None
    write_png(out / PREVIEW, draw_guess(prior, fitted))
    return out / PREVIEW


def _fit(fitter: PhotoFitter, video: Path) -> Iterator[FittedPhoto]:
    """Heads of the frames in which one can be fitted."""
    for image in _look_ahead(video):
        try:
            yield fitter.fit(Picture(image, None, ()), video.name, video.stem)
        except InputError:
            continue


def _look_ahead(video: Path) -> Iterator[Image]:
    """Some of the first frames; what is to be said of the file, the tracker says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _, _, image in islice(read_frames(video, (TRIED - 1) * APART + 1, warn=False), 0, None, APART):
            yield image


@torch.no_grad()
def draw_guess(prior: HeadPrior, fitted: FittedPhoto) -> UInt8[np.ndarray, "H W 3"]:
    """The frame, and the avatar that a network makes of it: from there, and from both sides."""
    batch = stack_portraits([fitted.portrait.resize(LIFTED_SIDE)], 0)
    start, correction = prior.predict(batch)
    sizes = GaussianConfig(uv_size=prior.atlas.size, blendmaps=0, bust_size=0)
    avatar = prior.atlas.avatar(start, prior.atlas.complete(start, correction, batch), sizes, None).eval()
    portrait = fitted.portrait.resize(SIDE)
    params = [portrait.params, *(pose_subject(avatar.host_head, portrait.params, (side,)) for side in SIDES[:2])]
    views = [avatar.render(one, portrait.camera, WHITE).rgb.clamp(0, 1) for one in params]
    frame = portrait.frame.image[None].float() / 255
    labels = ["a frame", "first guess", *(f"from the {side.label}" for side in SIDES[:2])]
    return label_sheet(torch.cat([frame, *views]), labels, columns=len(labels))
