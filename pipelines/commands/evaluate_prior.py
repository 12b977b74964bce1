"""`deja-vu evaluate-prior`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.core.ranges import Positive
from deja_vu.pipelines.command import Command
from deja_vu.pipelines.own_files import claim
from deja_vu.pipelines.requests import refuse_absent, refuse_device


def evaluate_prior_command(
    *,
    out: Path,
    shards: tuple[Path, ...] = (),
    clips: tuple[Path, ...] = (),
    priors: tuple[Path, ...] = (),
    frames: Positive = 40,
    photos: Positive = 1000,
    counts: tuple[Positive, ...] = (1,),
    overwrite: bool = False,
    device: str = "auto",
) -> None:
    """Score networks trained by `deja-vu generalize` on people they never saw.

    Args:
        out: JSON file for the figures.
        shards: folders that `deja-vu prepare` made; their held-out part is measured.
        clips: tracked folders or runs: one frame makes a head, which is compared with the others.
        priors: networks; without any, the one that ships.
        frames: of each clip that are measured.
        photos: most held-out photos that are measured.
        counts: from how many frames of a clip a head is made; several (1 3) make several heads, compared on the same other frames.
        overwrite: replace the JSON file if it is there.
        device: where to compute: auto (CUDA if it works, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
    """
    for path in (*shards, *clips, *priors):
        refuse_absent(path, "shards, a tracked folder or a network")
    claim(out, overwrite=overwrite, suffix=".json")
    refuse_device(device)
    from deja_vu.pipelines.evaluate_prior import evaluate_prior

    print(evaluate_prior(shards, clips, out, priors, frames=frames, photos=photos, counts=counts, overwrite=overwrite, device=device))


COMMAND = Command(run=evaluate_prior_command, example="deja-vu evaluate-prior --clips runs/me --out scores.json")
