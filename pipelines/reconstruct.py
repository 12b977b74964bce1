"""From one photo to an avatar that can be driven: fit, lift, let the network correct, look at it from all sides.

A photo is a tracked video of one frame, so every command that takes a run (drive, view, export) takes this one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deja_vu.avatars import GaussianAvatar, GaussianConfig, save_avatar
from deja_vu.avatars.prior.atlas import load_atlas
from deja_vu.avatars.prior.network import load_prior
from deja_vu.bench.evaluate import Evaluator, means
from deja_vu.bench.predictors import avatar_predictor
from deja_vu.bench.results import METRICS_FILE, PhotoFacts, write_result
from deja_vu.core.config import config_text
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE, over
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import TrackedSequence, TrackInfo, Window
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.heads import load_head
from deja_vu.io.files import write_atomic
from deja_vu.io.frames import FrameSource
from deja_vu.io.images import read_picture, write_png
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence
from deja_vu.motion.appearance import EXPRESSIONS, SIDES, Appearance, pose_subject
from deja_vu.pipelines.configs import ReconstructConfig
from deja_vu.pipelines.drive import show
from deja_vu.pipelines.identity import source_facts
from deja_vu.pipelines.person import subject_of
from deja_vu.pipelines.run_folder import Run, open_run
from deja_vu.report.sheets import labelled_sheet
from deja_vu.tracking.frames import begin_track
from deja_vu.tracking.photo import FittedPhoto, fit_photo
from deja_vu.training.bust_init import lift_bust
from deja_vu.training.checkpoint import fingerprint
from deja_vu.training.devices import device_name, pick_device


def reconstruct(photo: Path, out: Path, config: ReconstructConfig, *, overwrite: bool, device: str = "cpu") -> None:
    """The photo's head as an avatar, with turntable.mp4, expressions.png and compare.png.

    Args:
        photo: picture of one person's face.
        out: run folder.
        config: recipe.
        overwrite: replace the run that the folder holds, once the new one is whole.
        device: where the network runs and the avatar is drawn, see `pick_device`.

    Raises:
        InputError: the photo cannot be used.
        MissingAssetError: no network ships, and none is named.
        OutputError: `out` holds what no run wrote, or a run and the flag is missing; it is in use, or cannot be written.
    """
    read = [photo, *([Path(config.prior)] if config.prior else [])]
    with open_run(out, "reconstruct", inputs=read, overwrite=overwrite) as run:
        fill(photo, run, config, pick_device(device))


def fill(photo: Path, run: Run, config: ReconstructConfig, device: torch.device) -> None:
    """Make the avatar of a photo in an open run; see `reconstruct`."""
    out, started = run.folder, time.monotonic()
    picture = read_picture(photo)
    prior = load_prior(Path(config.prior) if config.prior else None).to(device) if config.init == "prior" else None
    head = load_head(config.head if prior is None else prior.config.head)
    fitted = fit_photo(head, picture, photo.name, photo.stem, config.photo, with_torso=config.crop == "person")
    for note in fitted.notes:
        print(f"note: {note}")
    atlas = load_atlas(config.head, config.uv_size) if prior is None else prior.atlas
    batch = stack_portraits([fitted.portrait.resize(config.side)], 0)
    start, correction = (atlas.lift(batch), None) if prior is None else prior.predict(batch)
    correction = atlas.complete(start, correction, batch)
    sizes = GaussianConfig(uv_size=atlas.size, blendmaps=0, bust_size=0 if fitted.person is None else config.bust.size)
    avatar = atlas.avatar(start, correction, sizes, None if fitted.person is None else fitted.person.torso_shape).eval()
    provenance = run.note(**source_facts(photo), recipe_sha256=fingerprint(config), tracked=str(run.place(out / "track").resolve()))
    sequence = as_sequence(fitted, photo, head.spec.name, out / "track")
    if avatar.shows_person:
        lift_bust(avatar, FrameSource(sequence.person_window(), config.side), config.lift, config.bust)
    write_atomic(out / "config.yaml", config_text(config))
    subject = subject_of(sequence, avatar)
    save_avatar(avatar, out / "avatar.safetensors", provenance, subject)
    seconds = time.monotonic() - started
    avatar.to(device)
    write_pictures(avatar, fitted, out)
    scores = means(Evaluator(sequence, device=device).evaluate([avatar_predictor("avatar", avatar)], quiet=True)["avatar"])
    if config.turntable_frames:
        show(avatar, subject, out / "turntable.mp4", config.turntable_frames, config.turntable_side)
    total = time.monotonic() - started
    facts = PhotoFacts(
        photo=photo.name,
        gaussians=avatar.num_gaussians,
        device=device_name(device),
        commit=provenance["commit"],
        config=asdict(config),
        input_view=scores,
        landmark_error_px=round(fitted.error_px, 2),
        seconds={"avatar": round(seconds, 2), "total": round(total, 2)},
    )
    write_result(out / METRICS_FILE, facts)
    print(f"avatar in {seconds:.1f} s, with its pictures {total:.1f} s; its photo is met to {scores['psnr']:.2f} dB")
    names = ["compare.png", "expressions.png", *(["turntable.mp4"] if config.turntable_frames else [])]
    print(f"look at {' and '.join(str(run.out / name) for name in names)}")


def as_sequence(fitted: FittedPhoto, photo: Path, head_name: str, folder: Path) -> TrackedSequence:
    """Write the photo as a tracked folder of one frame."""
    begin_track(folder)
    portrait, person = fitted.portrait, fitted.person
    _write_window(portrait, folder, "head")
    if person is not None:
        _write_window(person.portrait, folder, "person")
    info = TrackInfo(
        subject=photo.stem,
        head_name=head_name,
        fps=1.0,
        source=photo.name,
        source_sha256=hashlib.sha256(photo.read_bytes()).hexdigest(),
        source_frames=1,
        crop=fitted.crop.box,
        person_crop=None if person is None else person.crop.box,
        resolution=portrait.camera.width,
        split="tail",
        warnings=fitted.notes,
    )
    index = torch.zeros(1, dtype=torch.long)
    sequence = TrackedSequence(
        folder=folder,
        info=info,
        params=portrait.params if person is None else person.portrait.params,
        camera=portrait.camera,
        index=index,
        times=torch.zeros(1),
        test=torch.zeros(1, dtype=torch.bool),
        torso_shape=None if person is None else person.torso_shape,
    )
    write_sequence(sequence)
    return sequence


def _write_window(portrait: Portrait, folder: Path, window: Window) -> None:
    frame = portrait.frame
    write_frame(folder, 0, frame.image.numpy(), window)
    planes = (frame.foreground, frame.head, frame.eyes_mouth, frame.valid)
    write_masks(folder, 0, np.stack([plane.numpy() for plane in planes], -1), window)


@torch.no_grad()
def write_pictures(avatar: GaussianAvatar, fitted: FittedPhoto, out: Path) -> None:
    """Write compare.png (photo, avatar, its sides) and expressions.png."""
    portrait = fitted.portrait if fitted.person is None else fitted.person.portrait
    photo = avatar.subject(stack_portraits([portrait], 0))
    side, device = portrait.camera.width, avatar.base.device

    def render(params: HeadParams, side: int) -> Tensor:
        camera = portrait.camera.resize(side, side).to(device)
        return avatar.render(params.to(device), camera, WHITE.to(device)).rgb.clamp(0, 1).cpu()

    def render_appearances(appearances: Sequence[Appearance], side: int) -> Tensor:
        return render(pose_subject(avatar.host_head, portrait.params, appearances), side)

    view = render(portrait.params, side)
    compared = torch.cat([over(photo.image, photo.head, WHITE), view, render_appearances(SIDES, side)])
    labels = ["photo", "avatar", *(appearance.label for appearance in SIDES)]
    write_png(out / "compare.png", labelled_sheet(compared, labels, columns=len(labels)))
    faces = labelled_sheet(render_appearances(EXPRESSIONS, side // 2), [appearance.label for appearance in EXPRESSIONS], columns=4)
    write_png(out / "expressions.png", faces)
