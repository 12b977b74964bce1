"""Write the report on a run, in its folder or elsewhere."""

from __future__ import annotations

from pathlib import Path

import torch

from deja_vu.io.files import write_atomic
from deja_vu.io.frames import CPU
from deja_vu.pipelines.own_files import STAGE, hold_output
from deja_vu.pipelines.person import load_pair
from deja_vu.pipelines.run_folder import amend_run, list_drawing_inputs
from deja_vu.report.run_report import ReportedRun, run_page
from deja_vu.training.devices import pick_device

REPORT = "report.html"


def report(run: Path, out: Path | None = None, *, overwrite: bool = False, device: str = "cpu") -> Path:
    """Write the page of a run again, or elsewhere; returns where it is.

    Args:
        run: run folder.
        out: page to write; None makes the run's own page anew.
        overwrite: replace the page that `out` names.
        device: where to draw, see `pick_device`.

    Raises:
        InputError: the run is not finished.
        FormatError: its files are damaged.
        OutputError: the page cannot be written.
    """
    if out is not None:
        with hold_output(out, overwrite=overwrite, inputs=list_drawing_inputs(run), suffix=".html"):
            return write_report(run, out, device=pick_device(device))
    with amend_run(run, REPORT) as page_of_run:
        return write_report(run, page_of_run, device=pick_device(device))


def write_report(run: Path, out: Path | None = None, *, device: torch.device = CPU) -> Path:
    """Write the page of a finished run; see `report`.

    Args:
        run: run folder.
        out: file; None for report.html in the run folder.
        device: where to draw.
    """
    avatar, sequence = load_pair(run, device)
    folder = run.resolve()
    name = folder.parent.name if folder.name == STAGE else folder.name
    path = out or run / REPORT
    write_atomic(path, run_page(ReportedRun(run, name, avatar.eval(), sequence)))
    return path
