"""Times of the rasterizers on a head-like shell of Gaussians: `python -m deja_vu.bench.rasterizers`."""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch

from deja_vu.core.camera import Camera
from deja_vu.core.gaussians import Gaussians
from deja_vu.render import RASTERIZERS, rasterize


def shell(count: int, seed: int = 0) -> Gaussians:
    """Flat Gaussians on an ellipsoid of a head's size (16 x 23 x 19 cm), as wide as 0.7 of their spacing.

    Args:
        count: Gaussians.
        seed: of the random generator.
    """
    generator = torch.Generator().manual_seed(seed)
    radii = torch.tensor([0.08, 0.115, 0.095])
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    area = 4 * torch.pi * (radii * radii.roll(1)).pow(1.6).mean() ** (1 / 1.6)  # Thomsen's formula
    spacing = (area / count).sqrt()
    scales = 0.7 * spacing * torch.exp(0.4 * torch.randn(count, 3, generator=generator))
    scales[:, 2] *= 0.2
    up = torch.tensor([0.0, 0.0, 1.0])  # the thin axis, turned onto the normal by the half-way quaternion
    quats = torch.cat([1 + (normals @ up)[:, None], torch.linalg.cross(up.expand_as(normals), normals)], dim=-1)
    opacities = torch.sigmoid(1 + 1.5 * torch.randn(count, generator=generator))
    return Gaussians(normals * radii, quats, scales, opacities, torch.randn(count, 1, 3, generator=generator))


def view(size: int, device: torch.device) -> Camera:
    """A square picture in which the shell fills three quarters of the height, seen from one metre."""
    camera = Camera.from_focal(0.75 * size / 0.23, size, size)
    camera.camera_from_world[2, 3] = 1.0
    return camera.to(device)


def timed(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Minimum and median wall time in milliseconds, after one warm-up."""
    seconds = []
    for _ in range(repeats + 1):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 1e3 * min(seconds[1:]), 1e3 * statistics.median(seconds[1:])


def measure(backend: str, size: int, count: int, batch: int, repeats: int, device: torch.device) -> tuple[float, float, float, float]:
    """Minimum and median milliseconds a call, forward and then forward with backward."""
    leaves = [value.repeat(batch, *[1] * value.dim()).requires_grad_() for value in vars(shell(count).to(device)).values()]
    gaussians, camera, white = Gaussians(*leaves), view(size, device), torch.ones(3, device=device)
    upstream = torch.randn(batch, size, size, 3, device=device)

    def forward() -> None:
        with torch.no_grad():
            rasterize(gaussians, camera, white, backend)

    def both() -> None:
        torch.autograd.grad(rasterize(gaussians, camera, white, backend).rgb, leaves, upstream)

    return *timed(forward, repeats), *timed(both, repeats)


def main() -> None:
    """Print a table: forward, and forward with backward, for each size, count and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=[*RASTERIZERS], default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--counts", type=int, nargs="+", default=[16384, 32768, 65536])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    device = torch.device("cuda" if options.backend == "gsplat" else "cpu")
    print("threads  size  Gaussians | forward min  median | forward+backward min  median  (ms an image)")
    for threads, size, count in itertools.product(options.threads, options.sizes, options.counts):
        torch.set_num_threads(threads)
        times = [value / options.batch for value in measure(options.backend, size, count, options.batch, options.repeats, device)]
        print(f"{threads:7d} {size:5d} {count:10d} | {times[0]:11.2f} {times[1]:7.2f} | {times[2]:20.2f} {times[3]:7.2f}")


if __name__ == "__main__":
    main()
