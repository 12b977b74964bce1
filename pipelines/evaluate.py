"""Score an avatar on the frames it never saw, beside what a mean image or the nearest training frame would score."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from deja_vu.avatars import Avatar, load_avatar
from deja_vu.bench.metrics import FrameMetrics, average
from deja_vu.core.batch import Batch
from deja_vu.core.errors import OutputError
from deja_vu.core.image import WHITE, over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.files import write_json
from deja_vu.io.frames import FrameSource
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.pipelines.own_files import claim
from deja_vu.pipelines.run_folder import load_pair, open_run

MAX_TEST_FRAMES = 350
PERCEPTUAL_FRAMES = 30
"""Frames, evenly spaced among the test frames, on which the perceptual distance is measured; the other metrics use all."""
NEAREST_SIDE = 64
"""Side to which frames are reduced to find the nearest training frame by pixels."""


def score_run(run: Path, json_path: Path | None = None, save_frames: Path | None = None, *, overwrite: bool = False) -> None:
    """Score a run's avatar, print the figures, and write what is asked for.

    Args:
        run: run folder.
        json_path: file for the figures.
        save_frames: folder for pictures of every test frame.
        overwrite: replace the file, and the frames of an earlier evaluation.

    Raises:
        OutputError: a place is taken.
    """
    if json_path is not None:
        claim(json_path, overwrite=overwrite)
    if save_frames is None:
        metrics = evaluate_run(run)
    else:
        with open_run(save_frames, "evaluate", inputs=[run], overwrite=overwrite) as frames:
            frames.note()
            metrics = evaluate_run(run, frames.folder)
    print(json.dumps(metrics, indent=2))
    if json_path is not None:
        write_json(json_path, metrics)


@dataclass(frozen=True)
class Method:
    """Something that predicts a test frame."""

    name: str
    predict: Callable[[Batch], Float[Tensor, "H W 3"]]


def evaluate(sequence: TrackedSequence, methods: Sequence[Method], save_frames: Path | None = None) -> dict[str, dict[str, float]]:
    """Mean metrics of every method over the test frames.

    Args:
        sequence: tracked video with its split.
        methods: the first one's frames are saved.
        save_frames: folder for render_, target_, head_ and person_ PNGs of every test frame, and frames.json.
    """
    test = sequence.test_part()
    positions = torch.linspace(0, len(test) - 1, min(len(test), MAX_TEST_FRAMES)).round().long().unique()
    source = FrameSource(test, sequence.info.resolution, cache_bytes=0)
    scorer = FrameMetrics(PerceptualDistance.load())
    scores: dict[str, list[dict[str, float]]] = {method.name: [] for method in methods}
    if save_frames is not None:
        _start_frames(save_frames, sequence)
    every = max(1, -(-len(positions) // PERCEPTUAL_FRAMES))
    for count, batch in enumerate(tqdm(source.stream(iter(positions[:, None])), total=len(positions), desc="evaluate", unit="frame")):
        target = over(batch.image, batch.head, WHITE)[0]
        reference = scorer.reference(target, batch.loss_mask[0], perceptual=count % every == 0)
        for number, method in enumerate(methods):
            image = method.predict(batch)
            scores[method.name].append(scorer.score(image, reference))
            if number == 0 and save_frames is not None:
                _save_frame(save_frames, test, int(batch.positions[0]), image, target)
    return {name: average(rows) for name, rows in scores.items()}


def evaluate_run(run: Path, save_frames: Path | None = None, others: Sequence[Method] = ()) -> dict[str, Any]:
    """Metrics of a finished run: what metrics.json of the run says, its scores measured again, beside baselines and other methods."""
    avatar, sequence = load_pair(run)
    methods = [avatar_method("test", avatar), *baseline_methods(sequence.train_part())]
    if (run / "global_only.safetensors").is_file():
        methods.append(avatar_method("global_only", load_avatar(run / "global_only.safetensors")))
    if (run / "teacher" / "avatar.safetensors").is_file():
        methods.append(avatar_method("teacher", load_avatar(run / "teacher" / "avatar.safetensors")))
    scores = evaluate(sequence, [*methods, *others], save_frames)
    recorded = json.loads((run / "metrics.json").read_text()) if (run / "metrics.json").is_file() else {}
    return recorded | {"test": scores.pop("test"), "baselines": scores}


def summary(metrics: dict[str, Any], out: Path) -> str:
    """What a newcomer wants to read at the end."""
    rows = {"avatar": metrics["test"], **metrics["baselines"]}
    seconds = metrics["seconds"]
    lines = [f"{name:>14}  {row['psnr']:6.2f} dB   SSIM {row['ssim']:.4f}   ST-LPIPS {row['st_lpips']:.4f}" for name, row in rows.items()]
    lines.append(f"track {seconds['track']:.0f} s, personalize {seconds['personalize']:.0f} s, peak memory {metrics['peak_mb']} MB")
    lines.append(f"look at {out / 'report.html'}, {out / 'compare.png'} and {out / 'turntable.mp4'}")
    return "\n".join(lines)


def compare_sheet(sequence: TrackedSequence, avatar: Avatar, path: Path, count: int = 6) -> None:
    """Picture of held-out frames: target, render and absolute error (times four), a row each."""
    test = sequence.test_part()
    source = FrameSource(test, sequence.info.resolution, cache_bytes=0)
    render = avatar_method("render", avatar).predict
    rows = []
    for position in torch.linspace(0, len(test) - 1, min(count, len(test))).round().long().unique():
        batch = source.batch(position[None])
        target, image = over(batch.image, batch.head, WHITE)[0], render(batch)
        error = ((image - target).abs() * batch.loss_mask[0] * 4).clamp(0, 1)
        rows.append(torch.cat([target, image, error], dim=1))
    write_png(path, to_bytes(torch.cat(rows, dim=0))[..., ::-1])


def write_png(path: Path, image: UInt8[np.ndarray, "H W *C"]) -> None:
    """Write a picture, grey or in OpenCV's channel order.

    Raises:
        OutputError: it cannot be written.
    """
    if not cv2.imwrite(str(path), image):
        raise OutputError(f"{path} could not be written. Make room or choose another folder.")


def to_bytes(image: Float[Tensor, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """8-bit picture of values in [0, 1]."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def avatar_method(name: str, avatar: Avatar) -> Method:
    """Renders of an avatar with the tracked parameters."""
    device = next(avatar.parameters()).device

    @torch.no_grad()
    def predict(batch: Batch) -> Tensor:
        out = avatar.render(batch.params.to(device), batch.camera.to(device), WHITE.to(device))
        return out.rgb[0].clamp(0, 1).cpu()

    return Method(name, predict)


def baseline_methods(train: TrackedSequence) -> list[Method]:
    """The mean of all training heads over white, and the training head whose small picture is nearest to the test frame's."""
    small = FrameSource(train, NEAREST_SIDE, cache_bytes=0)
    large = FrameSource(train, train.info.resolution, cache_bytes=0)
    tiny, total = [], torch.zeros(train.info.resolution, train.info.resolution, 3)
    for position in range(len(train)):
        batch = large.batch(torch.tensor([position]))
        total += over(batch.image, batch.head, WHITE)[0]
        reduced = small.batch(torch.tensor([position]))
        tiny.append(over(reduced.image, reduced.head, WHITE)[0])
    pictures = torch.stack(tiny)
    mean = total / len(train)

    def nearest(batch: Batch) -> Tensor:
        target = over(batch.image, batch.head, WHITE)[0]
        reduced = torch.from_numpy(cv2.resize(target.numpy(), (NEAREST_SIDE, NEAREST_SIDE), interpolation=cv2.INTER_AREA))
        found = (pictures - reduced).square().flatten(1).sum(1).argmin()
        match = large.batch(found[None])
        return over(match.image, match.head, WHITE)[0]

    return [Method("mean_image", lambda batch: mean), Method("nearest_frame", nearest)]


def _start_frames(folder: Path, sequence: TrackedSequence) -> None:
    description = {"crop": list(sequence.info.crop), "resolution": sequence.info.resolution, "background": [255, 255, 255]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "frames.json").write_text(json.dumps(description, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}). Choose another folder.") from error


def _save_frame(folder: Path, test: TrackedSequence, position: int, image: Tensor, target: Tensor) -> None:
    name = f"{int(test.index[position]):06d}.png"
    frame = test.frame(position)
    valid = frame.valid > 127
    write_png(folder / f"render_{name}", to_bytes(image)[..., ::-1])
    write_png(folder / f"target_{name}", to_bytes(target)[..., ::-1])
    write_png(folder / f"head_{name}", (frame.head * valid).numpy())
    write_png(folder / f"person_{name}", frame.foreground.masked_fill(~valid, 255).numpy())
