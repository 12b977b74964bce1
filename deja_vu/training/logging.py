"""The numbers of a run: as JSON lines and, if TensorBoard is installed, as its curves with pictures and texts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from deja_vu.core.errors import FormatError, OutputError
from deja_vu.core.image import to_uint8
from deja_vu.io.files import write_atomic
from deja_vu.io.images import write_png

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.jsonl"
PREVIEW = "preview.png"
"""The avatar as it is now: a first guess from one frame, then a frame that is only watched, its render and the error."""


class RunningMeans:
    """What a run logs of the steps since the last log.

    loss/TERM is the mean of a term, unweighted, over the steps that had it; weighted/TERM what it added to the mean total of all steps,
    so that these add up to loss/total, which is what was minimized.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Begin, or go on from a checkpoint.

        Args:
            state: of the means that are gone on with.

        Raises:
            FormatError: it is no such state.
        """
        kept: dict[str, Any] = {name: state.get(name) if state else {} for name in ("sums", "counts", "weighted")}
        numbers = all(isinstance(part, dict) and all(isinstance(value, int | float) for value in part.values()) for part in kept.values())
        if not numbers or kept["sums"].keys() != kept["counts"].keys() or not kept["weighted"].keys() <= kept["sums"].keys():
            raise FormatError("The checkpoint's means are damaged: expected numbers for every term. Start the run anew with --overwrite.")
        self.sums: dict[str, float] = dict(kept["sums"])
        self.counts: dict[str, float] = dict(kept["counts"])
        self.weighted: dict[str, float] = dict(kept["weighted"])

    @property
    def state(self) -> dict[str, dict[str, float]]:
        """Plain values for a checkpoint."""
        return {"sums": dict(self.sums), "counts": dict(self.counts), "weighted": dict(self.weighted)}

    def add(self, values: Mapping[str, float], weights: Mapping[str, float]) -> None:
        """Count one step.

        Args:
            values: unweighted terms, and `psnr`.
            weights: of the terms as they act in this step.
        """
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
            if name != "psnr":
                self.weighted[name] = self.weighted.get(name, 0.0) + weights[name] * value

    def drain(self) -> dict[str, float]:
        """The means by their names in TensorBoard; counting starts anew."""
        steps = self.counts["psnr"]
        means = {f"loss/{name}": self.sums[name] / self.counts[name] for name in self.weighted}
        means |= {f"weighted/{name}": value / steps for name, value in self.weighted.items()}
        means |= {"loss/total": sum(self.weighted.values()) / steps, "metric/psnr": self.sums["psnr"] / steps}
        self.sums, self.counts, self.weighted = {}, {}, {}
        return means


class RunLogger:
    """Writes the scalars and pictures of one run into its folder; use it in a `with` block.

    A resumed run appends: entries of steps that it computes again are dropped first, so that every step stands in the file once.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        """Open the logs.

        Args:
            folder: the run's folder; made when it does not exist.
            resume_step: first step that will be logged again; None starts a new log.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._folder, path = folder, folder / METRICS_FILE
        kept = [] if resume_step is None or not path.exists() else _entries_before(path, resume_step)
        write_atomic(path, "".join(kept))
        try:
            self._file = path.open("a")
            self._board = open_board(folder, resume_step)
            if self._board is None:
                print(
                    f"note: no TensorBoard here, curves are in {METRICS_FILE} and report.html; "
                    "to have it: pip install '.[train]' in the source folder"
                )
        except OSError as error:
            raise OutputError(f"The run's log in {folder} cannot be written ({error}). Choose another output folder.") from error
        self._start = time.perf_counter()

    def scalars(self, step: int, values: Mapping[str, float | Tensor]) -> None:
        """Write one value of every curve.

        Args:
            step: optimization step.
            values: a number for each curve; names like `loss/huber` are grouped by TensorBoard.
        """
        numbers = {name: float(value) for name, value in values.items()}
        # JSON has no NaN; a missing number is null there and stays visible in TensorBoard.
        entry = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        with self._guard_writing():
            if self._board is not None:
                for name, number in numbers.items():
                    self._board.add_scalar(name, number, step)
            self._file.write(json.dumps({"step": step, "seconds": round(time.perf_counter() - self._start, 3), **entry}) + "\n")
            self._file.flush()

    def image(self, step: int, name: str, image: Float[Tensor, "H W 3"]) -> None:
        """Show a picture in [0, 1] in TensorBoard."""
        if self._board is not None:
            with self._guard_writing():
                self._board.add_image(name, image.detach().clamp(0, 1).cpu(), step, dataformats="HWC")

    def preview(self, image: Float[Tensor, "H W 3"]) -> None:
        """Show a picture in [0, 1] as the run's preview.png, which anybody may look at while training goes on."""
        write_png(self._folder / PREVIEW, to_uint8(image.detach()))

    def text(self, step: int, name: str, text: str) -> None:
        """Show a text, such as the run's configuration, in TensorBoard."""
        if self._board is not None:
            with self._guard_writing():
                self._board.add_text(name, f"```\n{text}\n```", step)

    def close(self) -> None:
        """Write what is still buffered."""
        with self._guard_writing():
            self._file.close()
            if self._board is not None:
                self._board.close()

    @contextmanager
    def _guard_writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"The run's log in {self._folder} cannot be written ({error.strerror or error}). Make room.") from error

    def __enter__(self) -> RunLogger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_board(folder: Path, resume_step: int | None) -> SummaryWriter | None:
    """TensorBoard's log of a run; None where it is not installed: metrics.jsonl and report.html have the same curves."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only runs need it
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=resume_step)


def log_hparams(folder: Path, config: Any, scores: Mapping[str, Any]) -> None:
    """Show a finished run's settings beside its final scores in TensorBoard's table of runs, where TensorBoard is installed.

    Args:
        folder: of the run.
        config: dataclass; nested values get names like `phases.0.steps`.
        scores: by name; nested ones get names like `regions.lips.psnr`.
    """
    board = open_board(folder, None)
    if board is not None:
        with board:
            shown = {f"test/{name}": value for name, value in _flat(scores, "")}
            board.add_hparams(dict(_flat(asdict(config), "")), shown, run_name=".")


def _flat(value: Any, name: str) -> Iterator[tuple[str, bool | int | float | str]]:
    """Every number and text of a nested value with its name."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        yield name, value if isinstance(value, bool | int | float | str) else str(value)
    else:
        for key, inner in items:
            yield from _flat(inner, f"{name}.{key}" if name else str(key))


def _entries_before(path: Path, step: int) -> list[str]:
    """Lines of a log with a smaller step; what a killed process or a full disk left half written is dropped."""
    kept = []
    for line in path.read_text(errors="replace").splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            if line.endswith("\n") and json.loads(line)["step"] < step:
                kept.append(line)
    return kept
