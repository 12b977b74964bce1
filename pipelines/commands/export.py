"""`deja-vu export`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.core.ranges import Count
from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import Format
from deja_vu.pipelines.requests import check_export, refuse_absent_motion, refuse_export
from deja_vu.pipelines.run_folder import find_avatar


def export_command(
    run: Path,
    *,
    format: Format,
    out: Path,
    motion: str | None = None,
    frame: Count | None = None,
    webcam: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write an avatar as a file, or a page, that other programs show.

    Args:
        run: run folder of `deja-vu personalize`.
        format: ply (3D Gaussian Splatting), spz (compressed), gltf (KHR_gaussian_splatting; .glb or .gltf), npz (raw maps and all that
            moves them), or web (a folder with a page that animates the avatar in the browser, from disk or any host).
        out: file to write; a folder for web, and for ply or spz of a whole motion.
        motion: what sets the pose: a video, a folder that `deja-vu track` made, an ARKit capture (.csv) or an expression script (.yaml);
            the person at rest without it. The page can play it beside a turntable and the first seconds of the person's own video.
        frame: write this frame of the motion alone, counted from 0.
        webcam: folder of the npm package @mediapipe/tasks-vision, to let the page follow the user's face (web; adds 9 MB).
        overwrite: replace what `out` holds.
    """
    read = [run, find_avatar(run), *([Path(motion)] if motion else []), *([webcam] if webcam else [])]
    check_export(format, out, motion, frame, webcam)
    if motion is not None:
        refuse_absent_motion(motion)
    refuse_export(format, out, motion, frame, read, overwrite=overwrite)
    from deja_vu.pipelines.export import export

    export(run, format, out, motion=motion, frame=frame, webcam=webcam, overwrite=overwrite)


COMMAND = Command(run=export_command, example="deja-vu export runs/me --format web --out page")
