"""`deja-vu export`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import ExportConfig, Format
from deja_vu.pipelines.requests import check_export, refuse_absent_motion, refuse_device, refuse_export
from deja_vu.pipelines.run_folder import find_avatar


def export_command(
    run: Path, *, format: Format, out: Path, overwrite: bool = False, device: str = "auto", config: ExportConfig = ExportConfig()
) -> None:
    """Export an avatar as a file for other programs, or as a web page.

    Args:
        run: run folder of `deja-vu personalize`.
        format: ply (3D Gaussian Splatting), spz (compressed), gltf (KHR_gaussian_splatting; .glb or .gltf), npz (raw maps and all that
            moves them), or web (a folder with a page that animates the avatar in the browser, from disk or any host).
        out: file to write; a folder for web, and for ply or spz of a whole motion.
        overwrite: replace the file, or what an earlier export wrote into the folder, that `out` names.
        device: where to track a motion's video and pose Gaussians: auto (CUDA where there is one, else the CPU), cpu, cuda, or of several
            GPUs cuda:1 and so on.
        config: pose, motion, and what the page can do.
    """
    inputs = [run, find_avatar(run), *config.inputs]
    check_export(format, out, config)
    if config.motion is not None:
        refuse_absent_motion(config.motion)
    refuse_export(format, out, config, inputs, overwrite=overwrite)
    refuse_device(device, gaussians=False)
    from deja_vu.pipelines.export import export

    export(run, format, out, config, overwrite=overwrite, device=device)


COMMAND = Command(run=export_command, example="deja-vu export runs/me --format web --out page")
