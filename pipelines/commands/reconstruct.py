"""`deja-vu reconstruct`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import ReconstructConfig
from deja_vu.pipelines.requests import refuse_absent_all, refuse_device, refuse_folder


def reconstruct_command(
    photos: list[Path], *, out: Path, overwrite: bool = False, device: str = "auto", config: ReconstructConfig = ReconstructConfig()
) -> None:
    """Make a drivable avatar from one photo, or several of one person, in seconds.

    Args:
        photos: pictures of one person's face; more of them, from other sides, show more.
        out: run folder; gets avatar.safetensors, compare.png, expressions.png, turntable.mp4; drive, view and export read it.
        overwrite: replace the run in `out` once the new one is complete; files that no run wrote stay.
        device: where to compute: auto (CUDA if it works, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
        config: every value of the recipe.
    """
    refuse_folder(out, "reconstruct", photos, overwrite=overwrite)
    refuse_absent_all(photos, "a photo")
    refuse_device(device)
    from deja_vu.pipelines.reconstruct import reconstruct

    reconstruct(photos, out, config, overwrite=overwrite, device=device)


COMMAND = Command(
    run=reconstruct_command,
    example="deja-vu reconstruct me.jpg left.jpg right.jpg --out runs/me",
    main={name: name for name in ("path", "crop", "init", "prior", "likeness", "turntable-frames", "turntable-side")},
)
