"""What a benchmark measures of one avatar: quality by time, quality, cost."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deja_vu.avatars import Avatar, load_avatar
from deja_vu.bench import cost
from deja_vu.bench.metrics import FrameMetrics
from deja_vu.bench.quality import REGIONS, Shown, gain, score, to_eight_bits
from deja_vu.core.image import over
from deja_vu.core.sequence import TrackedSequence
from deja_vu.heads import load_head
from deja_vu.heads.regions import region_window
from deja_vu.io.frames import FrameSource
from deja_vu.losses.perceptual import PerceptualDistance
from deja_vu.pipelines.evaluate import (
    MAX_TEST_FRAMES,
    PERCEPTUAL_FRAMES,
    WHITE,
    Method,
    avatar_method,
    to_bytes,
    write_png,
)
from deja_vu.pipelines.personalize import Recipe
from deja_vu.pipelines.phases import Learned
from deja_vu.pipelines.provenance import commit, machine
from deja_vu.report.bench_report import RESULT, SCHEMA, TRIVIAL
from deja_vu.training.devices import pick_device

MARKS = (5, 10, 20, 40, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 2700, 3600, 7200, 14400)
"""Seconds of training at which a path is scored on a few held-out frames."""
CURVE_FRAMES = 8
SHEET_FRAMES = 6
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Plan:
    """One run of the benchmark; picklable, since it is carried out in a process of its own."""

    clip: str
    name: str
    track: Path
    recipe: Recipe
    out: Path
    """Where to write."""
    clip_folder: Path
    """Where the results of this clip stand, each in a folder of its own."""
    teacher: Path | None
    """Run folder of a finished path that teaches this one."""
    drivers: tuple[Path, ...]
    """Tracked folders of other people whose motion the avatar follows."""
    seconds: float
    """Time for each latency measurement."""
    sizes: str
    """Name of the shipped recipe whose sizes these are."""


def header(clip: str, name: str, sequence: TrackedSequence) -> dict[str, Any]:
    """What every result says of itself."""
    return {
        "schema": SCHEMA,
        "clip": clip,
        "path": name,
        "bundle_sha256": bundle_hash(sequence),
        "split": {"kind": sequence.info.split, "test_frames": int(sequence.test.sum()), "train_frames": int((~sequence.test).sum())},
        "resolution": sequence.info.resolution,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else machine(),
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


def peak_mb() -> float:
    """Most memory this process has held; on a GPU, most of its memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if STATUS.is_file():  # getrusage counts what the parent held when it started this process
        return int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Curve:
    """Scores on a few held-out frames at marked times of training; measuring does not count as training."""

    def __init__(self, sequence: TrackedSequence, head_start: float) -> None:
        test = sequence.test_part()
        self.source = FrameSource(test, sequence.info.resolution)
        self.positions = torch.linspace(0, len(test) - 1, min(CURVE_FRAMES, len(test))).round().long().unique()
        self.metrics = FrameMetrics(PerceptualDistance.load())
        self.head_start, self.paused, self.cpu_paused, self.points = head_start, 0.0, 0.0, list[dict[str, float]]()
        self.step, self.marks = 0, iter(MARKS)
        self.mark: float = next(self.marks)
        self.begun, self.cpu_begun = time.monotonic(), time.process_time()

    def seconds(self) -> float:
        """Time since the start, without that of measuring."""
        return time.monotonic() - self.begun - self.paused

    def cpu_seconds(self) -> float:
        """Processor time of all threads since the start, without that of measuring: on a shared machine the steadier figure."""
        return time.process_time() - self.cpu_begun - self.cpu_paused

    def __call__(self, avatar: Avatar, step: int) -> None:
        self.step = step
        if self.seconds() >= self.mark:
            self.note(avatar)
        while self.mark <= self.seconds():
            self.mark = next(self.marks, math.inf)

    def watch(self, avatar: Avatar, step: int, every: int, last: int) -> None:
        """Score every so many steps, and after the last one."""
        self.step = step
        if step % every == 0 or step == last:
            self.note(avatar)

    def note(self, avatar: Avatar) -> None:
        """Score the avatar as it is now."""
        now, cpu_now = time.monotonic(), time.process_time()
        point = {"seconds": round(self.seconds() + self.head_start, 1), "cpu_seconds": round(self.cpu_seconds(), 1), "step": self.step}
        training = avatar.training
        avatar.eval()
        predict, rows = avatar_method("", avatar).predict, []
        for position in self.positions:
            batch = self.source.batch(position[None])
            reference = self.metrics.reference(over(batch.image, batch.head, WHITE)[0], batch.loss_mask[0], perceptual=True)
            rows.append(self.metrics.score(predict(batch), reference))
        avatar.train(training)
        self.points.append(point | {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]})
        self.paused += time.monotonic() - now
        self.cpu_paused += time.process_time() - cpu_now


def shown_frames(sequence: TrackedSequence, method: Method, keep: Callable[[int, Tensor, Tensor], None]) -> Iterator[Shown]:
    """A method's frames beside the truth, in the order of time."""
    positions = sequence.test.nonzero()[:, 0]
    positions = positions[torch.linspace(0, len(positions) - 1, min(len(positions), MAX_TEST_FRAMES)).round().long().unique()]
    first = torch.cumsum(sequence.test, 0) - 1  # of a frame among the test frames, which is what methods are asked by
    every = max(1, -(-len(positions) // PERCEPTUAL_FRAMES))
    source = FrameSource(sequence.test_part(), sequence.info.resolution, cache_bytes=0)
    head = load_head(sequence.info.head_name)
    topology = head.topology
    for count, position in enumerate(positions.tolist()):
        batch = source.batch(first[position][None])
        target = over(batch.image, batch.head, WHITE)[0]
        image = to_eight_bits(method.predict(batch))
        vertices = head(batch.params)[0]
        boxes = {
            name: region_window(vertices, topology.faces, topology.regions[part], batch.camera, 0.2)
            for name, part in REGIONS.items()
            if part in topology.regions
        }
        keep(count, image, target)
        yield Shown(image, target, batch.loss_mask[0], boxes, position, count % every == 0)


def assess(sequence: TrackedSequence, method: Method, out: Path, clip_folder: Path) -> dict[str, Any]:
    """Quality on the test frames, pictures of some of them into `out`, and the gain over the trivial rows of the clip."""
    count = min(int(sequence.test.sum()), MAX_TEST_FRAMES)
    wanted = set(torch.linspace(0, count - 1, min(SHEET_FRAMES, count)).round().long().tolist())
    files: dict[str, list[str]] = {"frames": [], "truth": []}

    def keep(number: int, image: Tensor, target: Tensor) -> None:
        if number in wanted:
            for name, picture in (("frames", image), ("truth", target)):
                file = f"test_{name}_{number:03d}.png"
                write_png(out / file, to_bytes(picture)[..., ::-1])
                files[name].append(file)

    out.mkdir(parents=True, exist_ok=True)
    quality = score(shown_frames(sequence, method, keep), FrameMetrics(PerceptualDistance.load()))
    gains = {}
    for name in TRIVIAL:
        path = clip_folder / name / RESULT
        if name != method.name and path.is_file():
            gains[name] = gain(quality, json.loads(path.read_text())["quality"])
    return {"quality": quality, "delta_vs": gains, "pictures": {"test": files}}


def costs(plan: Plan, sequence: TrackedSequence, learned: Learned, path: Path) -> dict[str, Any]:
    """Latency at several sizes, arithmetic, bytes, and memory for rendering."""
    device = pick_device()
    avatar, side = learned.avatar.to(device), sequence.info.resolution
    params, camera = sequence.test_part().params[:1].to(device), sequence.camera.to(device)
    sweep = cost.sweep(avatar, params, camera, seconds=plan.seconds)
    render = {"side": side, **sweep[str(side)], "sweep": sweep, "peak_mb": render_peak(path, plan.track)}
    repeated = [cost.end_to_end(avatar, params, camera)() for _ in range(2)]
    return {
        "render": {**render, "repeats_exactly": bool(torch.equal(*repeated))},
        "size": cost.size(avatar, learned.beside) | {"bytes_fp32": path.stat().st_size},
        "flops": cost.work(avatar, params, camera),
    }


def render_peak(avatar: Path, track: Path) -> int:
    """Memory that rendering one frame adds to a fresh process, the avatar's own included, megabytes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_render_peak, (avatar, track))


def _render_peak(path: Path, track: Path) -> int:
    sequence = TrackedSequence.load(track)
    before = peak_mb()
    avatar = load_avatar(path).to(pick_device())
    device = pick_device()
    cost.end_to_end(avatar, sequence.params[:1].to(device), sequence.camera.to(device))()
    return round(peak_mb() - before)
