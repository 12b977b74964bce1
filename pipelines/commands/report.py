"""`deja-vu report`."""

from __future__ import annotations

from pathlib import Path

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.own_files import claim
from deja_vu.pipelines.requests import refuse_device
from deja_vu.pipelines.run_folder import find_avatar


def report_command(run: Path, *, out: Path | None = None, overwrite: bool = False, device: str = "auto") -> None:
    """Write report.html again: one page with the scores and pictures of a run.

    It shows scores, pictures and training curves, and says how to film a better video.

    Args:
        run: run folder of `deja-vu personalize`.
        out: page to write; by default the report.html of the run folder, which is replaced.
        overwrite: replace the page that `out` names.
        device: where to compute: auto (CUDA if it works, else the CPU), cpu, cuda, or with several GPUs cuda:1 and so on.
    """
    find_avatar(run)
    if out is not None:
        claim(out, overwrite=overwrite, suffix=".html")
    refuse_device(device)
    from deja_vu.pipelines.report import report

    print(f"written: {report(run, out, overwrite=overwrite, device=device)}")


COMMAND = Command(run=report_command, example="deja-vu report runs/me")
