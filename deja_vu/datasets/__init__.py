"""From disk to batches; `DATASETS` are the recordings of other programs that can be read."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deja_vu.datasets.recording import Recording

DATASETS: dict[str, str] = {
    "insta": "deja_vu.datasets.insta:read_insta",
    "imavatar": "deja_vu.datasets.imavatar:read_imavatar",
    "vhap": "deja_vu.datasets.vhap:read_vhap",
    "flame-head-tracker": "deja_vu.datasets.head_tracker:read_head_tracker",
}
"""Module and function that read each kind of recording, by the name that `deja-vu import` takes; imported when asked for."""


def recording_reader(kind: str) -> Callable[..., Recording]:
    """The function that reads a folder of a kind, a key of `DATASETS`; that of `vhap` takes the number of a camera, too."""
    module, function = DATASETS[kind].split(":")
    reader: Callable[..., Recording] = getattr(import_module(module), function)
    return reader
