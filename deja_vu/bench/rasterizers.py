"""Times, memory and accuracy of the rasterizers; `deja_vu.report.rasterizer_report` prints and draws them.

On a busy machine only minima and ratios within one run mean something: every round times every thread count once, and CPU time is
reported beside wall time. Memory and accuracy are those of the cpu rasterizer.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deja_vu.bench.scenes import Scene, shell, shell_scene
from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import ACTIVATIONS, Gaussians
from deja_vu.io.frames import CPU
from deja_vu.losses.photometric import dssim_loss
from deja_vu.render import rasterize

Row = dict[str, Any]
"""Figures by name."""


def time_scene(scene: Scene, backends: list[str], threads: list[int], repeats: int) -> list[Row]:
    """Milliseconds of a picture, forward and forward with backward; the settings take turns.

    Args:
        scene: to be drawn.
        backends: keys of `RASTERIZERS`; the reference takes one round only.
        threads: numbers of threads.
        repeats: rounds, after one to warm up.
    """
    before = torch.get_num_threads()
    runs = {(backend, count): _runs(scene, backend) for backend in backends for count in threads}
    times: dict[tuple[str, int], list[list[float]]] = {key: [[], [], [], []] for key in runs}
    for turn in range(repeats + 1):
        for (backend, count), (forward, both) in runs.items():
            if backend == "reference" and turn > 1:
                continue
            torch.set_num_threads(count)
            measured = (*_clock(forward), *_clock(both))
            if turn:
                for values, milliseconds in zip(times[backend, count], measured, strict=True):
                    values.append(milliseconds)
    torch.set_num_threads(before)
    names = ("forward", "forward_cpu", "both", "both_cpu")
    return [
        label_row(scene, {"backend": backend, "threads": count})
        | {
            f"{name}_{kind.__name__}": kind(values)
            for name, values in zip(names, columns, strict=True)
            for kind in (min, statistics.median)
        }
        for (backend, count), columns in times.items()
    ]


def peak_memory(scene: Scene) -> Row:
    """Megabytes at the peak of forward and backward above what was there before, in a new process; and what of it is results."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak = pool.apply(_peak_megabytes, (scene,))
    pixels = scene.camera.width * scene.camera.height
    results = 4 * (5 * pixels + sum(value.numel() for value in vars(scene.gaussians).values())) / 2**20
    return {"peak": peak, "picture_and_gradients": results, "own": peak - results}


def accuracy(degree: int, backend: str = "cpu", device: torch.device = CPU) -> Row:
    """Relative L2 error of a rasterizer in float32 against the reference in float64, for the same float32 numbers.

    Gaussians within a micrometer of another's depth are left out: float32 cannot tell which of them is in front.

    Args:
        degree: of the spherical harmonics.
        backend: key of `RASTERIZERS`.
        device: where it draws.
    """
    generator = torch.Generator().manual_seed(1)
    scene = shell_scene(96, 4096)
    extra = 0.3 * torch.randn(4096, (degree + 1) ** 2 - 1, 3, generator=generator)
    gaussians = replace(scene.gaussians, sh=torch.cat([scene.gaussians.sh, extra], dim=1))
    depth, order = gaussians.means[:, 2].sort()
    gaussians = gaussians[order[1:][depth.diff() > 1e-6]]
    found = _outputs_and_gradients(gaussians.to(device), scene.camera.to(device), backend)
    expected = _outputs_and_gradients(gaussians.to(torch.float64), scene.camera.to(torch.float64), "reference")
    return _relative_errors(found, expected)


def compare_backends(scene: Scene, ours: tuple[str, torch.device], theirs: tuple[str, torch.device]) -> Row:
    """Relative L2 differences of two rasterizers in pictures and gradients of one scene.

    Args:
        scene: to be drawn.
        ours: key of `RASTERIZERS`, and where it draws.
        theirs: what it is compared with.
    """
    found, expected = (
        _outputs_and_gradients(scene.gaussians.to(device), scene.camera.to(device), backend) for backend, device in (ours, theirs)
    )
    return _relative_errors(found, expected)


def _relative_errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> Row:
    return {name: float((found[name].double() - value).norm() / value.norm().clamp_min(1e-30)) for name, value in expected.items()}


def training_step(size: int, count: int, threads: int, repeats: int) -> Row:
    """A whole step of fitting a shell to a picture: activations, drawing, 0.8 L1 + 0.2 fused SSIM, gradients, Adam."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    scene, white = shell_scene(size, count), torch.ones(3)
    with torch.no_grad():
        target = rasterize(shell(count, seed=1), scene.camera, white, "cpu").rgb
    start = scene.gaussians
    scale, opacity = ACTIVATIONS["log_scale"], ACTIVATIONS["opacity_logit"]
    raw = [start.means, start.quats, scale.inverse(start.scales), opacity.inverse(start.opacities.clamp(0.01, 0.99)), start.sh]
    raw = [value.clone().requires_grad_() for value in raw]
    optimizer = torch.optim.Adam(raw, lr=1e-4, fused=True)

    def step() -> None:
        gaussians = Gaussians(raw[0], raw[1], scale.forward(raw[2]), opacity.forward(raw[3]), raw[4])
        picture = rasterize(gaussians, scene.camera, white, "cpu").rgb
        loss = 0.8 * (picture - target).abs().mean() + 0.4 * dssim_loss(picture[None], target[None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    times = [_clock(step) for _ in range(repeats + 1)][1:]
    torch.set_num_threads(before)
    walls, cpus = zip(*times, strict=True)
    fastest, middle = 1e3 / min(walls), 1e3 / statistics.median(walls)
    return {"size": size, "gaussians": count, "steps_per_second": fastest, "median_steps_per_second": middle, "cpu_ms_min": min(cpus)}


def _runs(scene: Scene, backend: str) -> tuple[Callable[[], object], Callable[[], object]]:
    device = "cuda" if backend == "gsplat" else "cpu"
    leaves = [value.to(device, copy=True).requires_grad_() for value in vars(scene.gaussians).values()]
    gaussians, camera, white = Gaussians(*leaves), scene.camera.to(device), torch.ones(3, device=device)
    upstream = torch.randn(camera.height, camera.width, 3, generator=torch.Generator().manual_seed(0)).to(device)

    def forward() -> None:
        with torch.no_grad():
            rasterize(gaussians, camera, white, backend)

    def both() -> None:
        torch.autograd.grad(rasterize(gaussians, camera, white, backend).rgb, leaves, upstream)

    return forward, both


def _clock(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time in milliseconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processor)


def _outputs_and_gradients(gaussians: Gaussians, camera: Camera, backend: str) -> dict[str, Tensor]:
    dtype = gaussians.means.dtype
    leaves = {name: value.clone().requires_grad_() for name, value in vars(gaussians).items()}
    pose = camera.camera_from_world.clone().requires_grad_()
    background = torch.ones(3, dtype=dtype, device=gaussians.means.device, requires_grad=True)
    output = rasterize(Gaussians(**leaves), Camera(pose, camera.intrinsics, camera.width, camera.height), background, backend)
    assert output.depth is not None
    values = {"rgb": output.rgb, "alpha": output.alpha, "depth": output.depth}
    generator = torch.Generator().manual_seed(2)
    upstream = [torch.randn(value.shape, generator=generator).to(value) for value in values.values()]
    leaves |= {"camera": pose, "background": background}
    gradients = torch.autograd.grad([*values.values()], [*leaves.values()], upstream)
    outputs = values | {f"d_{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    return {name: value.detach().cpu() for name, value in outputs.items()}


def _peak_megabytes(scene: Scene) -> float:
    torch.set_num_threads(1)
    _runs(shell_scene(32, 500), "cpu")[1]()  # code and pools are there
    leaves = [value.clone().requires_grad_() for value in vars(scene.gaussians).values()]  # shared memory is counted when it is read
    white, upstream = torch.ones(3), torch.randn(scene.camera.height, scene.camera.width, 3)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    gradients = torch.autograd.grad(rasterize(Gaussians(*leaves), scene.camera, white, "cpu").rgb, leaves, upstream)
    peak = _status("VmHWM")
    del gradients
    return peak - before


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def label_row(scene: Scene, row: Row) -> Row:
    """A row of figures with the scene that they are of."""
    return {"scene": scene.name, "count": scene.gaussians.means.shape[0]} | row
