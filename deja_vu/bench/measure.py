"""What a benchmark measures of one avatar on one clip: quality, with pictures, and cost."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deja_vu.avatars import Avatar, load_avatar
from deja_vu.bench import cost
from deja_vu.bench.evaluate import FULL, FramePair, Scores, evaluate, gain, held_out, means
from deja_vu.bench.predictors import BASELINES, Predictor
from deja_vu.bench.results import RESULT_FILE
from deja_vu.core.image import to_uint8
from deja_vu.core.sampling import evenly_spaced
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads.base import HeadModel
from deja_vu.io.frames import CPU
from deja_vu.io.images import write_png
from deja_vu.io.provenance import commit, machine

SHEET_FRAMES = 6
"""Pictures kept of each path's held-out frames."""
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Assessment:
    """Quality of a predictor, and where its pictures are."""

    quality: Scores
    delta_vs: dict[str, dict[str, float]]
    """Gain over each baseline of the clip that was assessed before."""
    pictures: dict[str, dict[str, list[str]]]


def origin(clip: str, name: str, sequence: TrackedSequence, device: torch.device = CPU) -> dict[str, Any]:
    """The fields of a `PathResult` that say what was measured, and where.

    Args:
        clip: name.
        name: of the path, baseline or other system.
        sequence: the tracked clip.
        device: where it was computed.
    """
    return {
        "clip": clip,
        "path": name,
        "bundle_sha256": bundle_hash(sequence),
        "split": {"kind": sequence.info.split, "test_frames": int(sequence.test.sum()), "train_frames": int((~sequence.test).sum())},
        "resolution": sequence.info.resolution,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit(),
    }


def bundle_hash(sequence: TrackedSequence) -> str:
    """SHA-256 of a tracked folder: parameters, split, frames and masks."""
    digest = hashlib.sha256()
    pictures = [path for name in ("frames", "masks") for path in sorted((sequence.folder / name).iterdir())]
    for path in [sequence.folder / "params.safetensors", *pictures]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def assess(
    sequence: TrackedSequence, predictor: Predictor, head: HeadModel, out: Path, clip_folder: Path, device: torch.device = CPU
) -> Assessment:
    """Quality on all held-out frames, by region, with the gain over the baselines.

    Args:
        sequence: tracked clip.
        predictor: to be assessed.
        head: of the clip.
        out: folder for pictures of some frames.
        clip_folder: holds the results of the baselines, as far as they are there.
        device: where pictures are compared.
    """
    wanted = set(evenly_spaced(SHEET_FRAMES, len(held_out(sequence))).tolist())
    files: dict[str, list[str]] = {"frames": [], "truth": []}

    def keep(_: Predictor, number: int, pair: FramePair) -> None:
        if number in wanted:
            for name, picture in (("frames", pair.image), ("truth", pair.target)):
                file = f"test_{name}_{number:03d}.png"
                write_png(out / file, to_uint8(picture))
                files[name].append(file)

    quality = evaluate(sequence, [predictor], frames=None, head=head, keep=keep, device=device)[predictor.name]
    gains = {}
    for name in BASELINES:
        path = clip_folder / name / RESULT_FILE
        if name != predictor.name and path.is_file():
            gains[name] = gain(means(quality), recorded_means(path))
    return Assessment(quality, gains, {"test": files})


def recorded_means(path: Path) -> dict[str, float]:
    """Means over the whole picture that a result.json records."""
    return {name: estimate["mean"] for name, estimate in json.loads(path.read_text())["quality"][FULL].items()}


def peak_mb(device: torch.device = CPU) -> float:
    """Most memory this process has held; on a GPU, most of its memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if STATUS.is_file():  # getrusage counts what the parent held when it started this process
        return int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(avatar: Avatar, sequence: TrackedSequence, path: Path, *, auxiliary: int, seconds: float) -> dict[str, Any]:
    """The fields `render`, `size` and `flops` of a `PathResult`: latency at several sizes, memory, numbers, arithmetic.

    Args:
        avatar: in evaluation mode, on the device that is measured.
        sequence: what it was learned from.
        path: its file.
        auxiliary: parameters that were trained with it and left behind.
        seconds: for each measurement of latency.
    """
    device, side = avatar.device, sequence.info.resolution
    params, camera = held_out(sequence).params[:1].to(device), sequence.camera.to(device)
    sweep = cost.sweep(avatar, params, camera, seconds=seconds)
    render = {"side": side, **sweep[str(side)], "sweep": sweep, "peak_mb": render_peak(path, sequence.folder, device)}
    repeated = [cost.end_to_end(avatar, params, camera)() for _ in range(2)]
    return {
        "render": {**render, "repeats_exactly": bool(torch.equal(*repeated))},
        "size": cost.count_numbers(avatar, auxiliary) | {"bytes_fp32": path.stat().st_size},
        "flops": cost.count_work(avatar, params, camera),
    }


def render_peak(avatar: Path, track: Path, device: torch.device) -> int:
    """Memory that rendering one frame adds to a fresh process, the avatar's own included, megabytes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_render_peak, (avatar, track, device))


def _render_peak(path: Path, track: Path, device: torch.device) -> int:
    sequence = TrackedSequence.load(track)
    before = peak_mb(device)
    avatar = load_avatar(path).to(device)
    cost.end_to_end(avatar, sequence.params[:1].to(device), sequence.camera.to(device))()
    return round(peak_mb(device) - before)
