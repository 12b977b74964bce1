"""From one or several photos to an avatar: fit, lift, correct by the network, show from all sides.

The first photo is a tracked video of one frame, so every command that takes a run (drive, view, export) takes this one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deja_vu.avatars import Avatar, GaussianAvatar, GaussianConfig, NerfAvatar, save_avatar
from deja_vu.avatars.nerf.prior import make_person
from deja_vu.avatars.prior.atlas import Atlas, load_atlas
from deja_vu.avatars.prior.network import HeadPrior
from deja_vu.bench.evaluate import Evaluator, means
from deja_vu.bench.predictors import avatar_predictor
from deja_vu.bench.results import METRICS_FILE, PhotoFacts, write_result
from deja_vu.core.batch import Batch
from deja_vu.core.config import config_text
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.core.head import HeadParams
from deja_vu.core.image import WHITE, over
from deja_vu.core.portrait import Portrait
from deja_vu.core.sequence import TrackedSequence, TrackInfo, Window
from deja_vu.datasets.prior_examples import stack_portraits
from deja_vu.heads import load_head
from deja_vu.heads.bust import BUST_HEAD
from deja_vu.io.files import write_atomic
from deja_vu.io.frames import FrameSource
from deja_vu.io.images import read_picture, write_png
from deja_vu.io.tracked_folder import write_frame, write_masks, write_sequence
from deja_vu.motion.appearance import EXPRESSIONS, SIDES, Appearance, pose_subject
from deja_vu.pipelines.configs import ReconstructConfig
from deja_vu.pipelines.drive import show
from deja_vu.pipelines.evaluate import next_steps
from deja_vu.pipelines.identity import source_facts
from deja_vu.pipelines.networks import load_network, network_facts, refuse_other_network
from deja_vu.pipelines.person import subject_of
from deja_vu.pipelines.run_folder import Run, open_run
from deja_vu.report.sheets import label_sheet
from deja_vu.tracking.frames import begin_track
from deja_vu.tracking.photo import FittedPhoto, PhotoFitter
from deja_vu.training.bust_init import lift_bust, lift_neck
from deja_vu.training.checkpoint import fingerprint
from deja_vu.training.devices import device_name, pick_device


def reconstruct(photos: Sequence[Path], out: Path, config: ReconstructConfig, *, overwrite: bool, device: str = "cpu") -> None:
    """The head that some photos show as an avatar, with turntable.mp4, expressions.png and compare.png.

    Args:
        photos: pictures of one person's face, in any poses; the first is the one whose torso and place count.
        out: run folder.
        config: recipe.
        overwrite: replace the run that the folder holds, once the new one is whole.
        device: where the network runs and the avatar is drawn, see `pick_device`.

    Raises:
        InputError: a photo cannot be used, or they show different people.
        MissingAssetError: no network ships, and none is named.
        OutputError: `out` holds what no run wrote, or a run and the flag is missing; it is in use, or cannot be written.
    """
    read = [*photos, *([Path(config.prior)] if config.prior else [])]
    refuse_unfit_network(config)
    with open_run(out, "reconstruct", inputs=read, overwrite=overwrite) as run:
        fill(photos, run, config, pick_device(device))


def fill(photos: Sequence[Path], run: Run, config: ReconstructConfig, device: torch.device) -> None:
    """Make the avatar of some photos in an open run; see `reconstruct`."""
    out, started, photo = run.folder, time.monotonic(), photos[0]
    pictures = [(path.name, read_picture(path)) for path in photos]
    network = chosen_network(config, device)
    head = load_head(network.head.spec.name if isinstance(network, NerfAvatar) else network.config.head if network else config.head)
    with PhotoFitter(head, config.photo, device) as fitter:
        every = fitter.fit_all(pictures, photo.stem, with_torso=config.crop == "person" and config.path == "gaussian")
    for note in (note for one in every for note in one.notes):
        print(f"note: {note}")
    fitted = every[0]
    atlas = network.atlas if isinstance(network, HeadPrior) else load_atlas(head.spec.name, config.uv_size)
    batch = stack_portraits([one.portrait.resize(config.side) for one in every], 0)
    refuse_strangers(atlas, every, photos, config)
    if isinstance(network, NerfAvatar):
        avatar: Avatar = make_person(network, batch.params.shape[0], network.read_photos(batch)).cpu()
    else:
        avatar = lift_avatar(network, atlas, batch, fitted, config)
    facts_of = {} if network is None else network_facts(Path(config.prior) if config.prior else None)
    notes = {**photo_facts(photos), **facts_of, "recipe_sha256": fingerprint(config)}
    provenance = run.note(**notes, tracked=str(run.place(out / "track").resolve()))
    sequence = as_sequence(fitted, photo, head.spec.name, out / "track")
    if isinstance(avatar, GaussianAvatar) and avatar.shows_person:
        lift_bust(avatar, FrameSource(sequence.person_window(), config.side), config.lift, config.bust)
    elif isinstance(avatar, GaussianAvatar) and avatar.shows_neck:
        lift_neck(avatar, FrameSource(sequence, config.side), config.lift, config.bust)
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
        photos=tuple(path.name for path in photos) if len(photos) > 1 else (),
        gaussians=avatar.num_gaussians if isinstance(avatar, GaussianAvatar) else None,
        device=device_name(device),
        commit=provenance["commit"],
        config=asdict(config),
        input_view=scores,
        landmark_error_px=round(fitted.error_px, 2),
        seconds={"avatar": round(seconds, 2), "total": round(total, 2)},
    )
    write_result(out / METRICS_FILE, facts)
    which = "its photo" if len(photos) == 1 else f"the first of {len(photos)} photos"
    print(f"avatar in {seconds:.1f} s, with its pictures {total:.1f} s; {which} is matched with {scores['psnr']:.2f} dB")
    names = ["compare.png", "expressions.png", *(["turntable.mp4"] if config.turntable_frames else [])]
    print(f"look at {' and '.join(str(run.out / name) for name in names)}")
    print(next_steps(run.out, page=config.path == "gaussian"))


def refuse_unfit_network(config: ReconstructConfig) -> None:
    """Refuse a network that cannot make what is asked for, before anything is computed.

    Raises:
        ConfigError: a radiance field without a network, or a network of another kind.
        InputError: its file is absent.
        FormatError: it is damaged.
    """
    if config.path == "nerf" and (config.prior is None or config.init != "prior"):
        raise ConfigError("--path nerf needs a network, and none ships. Train one with generalize --path nerf, and name it with --prior.")
    if config.prior is not None:
        refuse_other_network(Path(config.prior), config.path)


def chosen_network(config: ReconstructConfig, device: torch.device) -> HeadPrior | NerfAvatar | None:
    """The network that a recipe asks for, on its device."""
    return load_network(Path(config.prior) if config.prior else None).to(device) if config.init == "prior" else None


def lift_avatar(network: HeadPrior | None, atlas: Atlas, batch: Batch, fitted: FittedPhoto, config: ReconstructConfig) -> GaussianAvatar:
    """The avatar of Gaussians that some photos lift, corrected by a network if there is one."""
    start, correction = (atlas.lift(batch), None) if network is None else network.predict(batch)
    correction = atlas.complete(start, correction, batch)
    person, bust = fitted.person, config.bust.size if atlas.head.spec.name == BUST_HEAD else 0
    sizes = GaussianConfig(uv_size=atlas.size, blendmaps=0, bust_size=bust, bust_part="neck" if person is None else "whole")
    return atlas.avatar(start, correction, sizes, None if person is None else person.torso_shape).eval()


def refuse_strangers(atlas: Atlas, fitted: Sequence[FittedPhoto], photos: Sequence[Path], config: ReconstructConfig) -> None:
    """Refuse photos on which the face is too unlike that of the first.

    Raises:
        InputError: names the photo.
    """
    if len(photos) == 1 or not config.likeness:
        return
    skin = atlas.head.topology.regions["face"][atlas.layout.faces] & ~atlas.scalp
    lifted = [atlas.lift(stack_portraits([one.portrait.resize(config.side)], 0)) for one in fitted]
    for photo, other in zip(photos[1:], lifted[1:], strict=True):
        weight = lifted[0].trust[0] * other.trust[0] * skin
        found = likeness(lifted[0].photos[0, :, :3].mean(1), other.photos[0, :, :3].mean(1), weight)
        if found < config.likeness:
            raise InputError(
                f"{photo.name} seems to show another person than {photos[0].name}: their faces agree to {found:.2f}, at least "
                f"{config.likeness:g} is expected of one person. Give photos of one person in similar light, or --likeness 0 to take any."
            )


def likeness(one: Float[Tensor, " M"], other: Float[Tensor, " M"], weight: Float[Tensor, " M"]) -> float:
    """Weighted correlation of two faces' brightness, texel by texel; 0 where nothing is seen of both."""
    total = weight.sum().clamp_min(1e-6)
    a, b = (values - (weight * values).sum() / total for values in (one, other))
    norm = ((weight * a * a).sum() * (weight * b * b).sum()).sqrt().clamp_min(1e-12)
    return float((weight * a * b).sum() / norm)


def photo_facts(photos: Sequence[Path]) -> dict[str, str]:
    """What a run notes of its photos: the first one, and a digest of all of them."""
    facts = [source_facts(photo) for photo in photos]
    if len(facts) == 1:
        return facts[0]
    others = " ".join(fact["source"] for fact in facts[1:])
    return {**facts[0], "other_sources": others, "sources_sha256": fingerprint(*(fact["source_sha256"] for fact in facts))}


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
def write_pictures(avatar: Avatar, fitted: FittedPhoto, out: Path) -> None:
    """Write compare.png (photo, avatar, its sides) and expressions.png."""
    portrait = fitted.portrait if fitted.person is None else fitted.person.portrait
    photo = avatar.subject(stack_portraits([portrait], 0))
    side, device = portrait.camera.width, avatar.device

    def render(params: HeadParams, side: int) -> Tensor:
        camera = portrait.camera.resize(side, side).to(device)
        return avatar.render(params.to(device), camera, WHITE.to(device)).rgb.clamp(0, 1).cpu()

    def render_appearances(appearances: Sequence[Appearance], side: int) -> Tensor:
        return render(pose_subject(avatar.host_head, portrait.params, appearances), side)

    view = render(portrait.params, side)
    compared = torch.cat([over(photo.image, photo.head, WHITE), view, render_appearances(SIDES, side)])
    labels = ["photo", "avatar", *(appearance.label for appearance in SIDES)]
    write_png(out / "compare.png", label_sheet(compared, labels, columns=len(labels)))
    faces = label_sheet(render_appearances(EXPRESSIONS, side // 2), [appearance.label for appearance in EXPRESSIONS], columns=4)
    write_png(out / "expressions.png", faces)
