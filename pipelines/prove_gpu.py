"""`make gpu`: check and measure everything on a machine with a GPU, into docs/results/gpu_NAME.json.

`make gpu DRY=1` runs the same on a CPU at tiny sizes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from deja_vu.bench.gpu import GpuPlan, GpuRecipes, describe_machine, prove
from deja_vu.bench.made_up import write_made_up
from deja_vu.core.errors import DejaVuError, InputError
from deja_vu.core.sequence import TrackedSequence
from deja_vu.io.assets import find
from deja_vu.io.files import write_json
from deja_vu.pipelines.recipes import shipped_recipe
from deja_vu.pipelines.run_folder import find_track
from deja_vu.training.devices import pick_device

DRY = GpuPlan(frames=4, side=64, batches=(1, 2), steps=2, shown=(64,), seconds=0.05)
"""Enough to run every line."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 where every section ran, 1 where one failed, 2 where there is no GPU to prove anything on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="on the CPU at tiny sizes")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--track", type=Path, help="tracked folder to learn from; a made-up person's by default")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder for the JSON file")
    options = parser.parse_args(arguments)
    try:
        device = torch.device("cpu") if options.dry else pick_device(options.device)
        if device.type != "cuda" and not options.dry:
            raise InputError("There is nothing to prove on the CPU. Use --device cuda, or --dry to try the script out.")
        return write_proof(device, options.track, options.out, dry=options.dry)
    except DejaVuError as error:
        print(f"deja-vu: {error}", file=sys.stderr)
        return 2


def write_proof(device: torch.device, track: Path | None, out: Path, *, dry: bool) -> int:
    """Run every section and write what was found; 1 where one failed."""
    plan, recipes = (DRY, small_recipes()) if dry else (GpuPlan(), full_recipes())
    with tempfile.TemporaryDirectory(prefix="deja-vu-") as folder:
        print("reading the tracked folder ..." if track else f"drawing {plan.frames} frames of a made-up person ...", flush=True)
        sequence = TrackedSequence.load(find_track(track)) if track else write_made_up(Path(folder), plan.frames, plan.side)
        sections = prove(plan, recipes, sequence, device)
    facts = describe_machine(device)
    name = re.sub(r"[^a-z0-9]+", "_", facts["device"].lower()).strip("_")
    path = out / ("gpu_dry.json" if dry else f"gpu_{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"machine": facts, "plan": asdict(plan), "video": sequence.info.source, **sections})
    failed = [section for section, found in sections.items() if "error" in found]
    print(f"written: {path}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def full_recipes() -> GpuRecipes:
    """The default and the GPU's for Gaussians, the published widths for fields; no perceptual term where its weights are not at hand."""
    recipe = shipped_recipe("full")
    return with_what_is_here(GpuRecipes(recipe.gaussian, shipped_recipe("gpu").gaussian, recipe.nerf, recipe.nelf))


def small_recipes() -> GpuRecipes:
    """The same at sizes that take seconds."""
    tiny = shipped_recipe("tiny")
    avatar = replace(tiny.gaussian.avatar, uv_size=64, blendmaps=2)
    phases = tuple(replace(phase, steps=2, resolution=48) for phase in tiny.gaussian.phases)
    gaussian = replace(tiny.gaussian, avatar=avatar, bust=replace(tiny.gaussian.bust, size=64), phases=phases, init="gray")
    batched = replace(gaussian, phases=tuple(replace(phase, batch=2) for phase in phases))
    return with_what_is_here(GpuRecipes(gaussian, batched, tiny.nerf, tiny.nelf))


def with_what_is_here(recipes: GpuRecipes) -> GpuRecipes:
    """The recipes without the perceptual term where its weights were not fetched: a machine to prove things on may have no network."""
    if find("stlpips_alex") is not None:
        return recipes
    print("note: ST-LPIPS' weights are not here (python -m deja_vu.io.assets): trained without the perceptual term, and not scored.")
    return GpuRecipes(**{name: replace(config, loss=replace(config.loss, perceptual=0.0)) for name, config in vars(recipes).items()})


if __name__ == "__main__":
    sys.exit(main())
