"""`deja-vu import`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from deja_vu.pipelines.command import Command
from deja_vu.pipelines.configs import ImportConfig
from deja_vu.pipelines.requests import refuse_absent, refuse_folder


def import_command(
    kind: Literal["insta", "imavatar", "vhap", "flame-head-tracker", "ffhq", "vfhq"],
    source: Path,
    *,
    out: Path,
    overwrite: bool = False,
    recipe: ImportConfig = ImportConfig(),
) -> None:
    """Convert another program's data set to the layout that other commands read.

    Pictures, masks, cameras and FLAME's parameters stay as they lie on disk; nothing in the files is run.

    Args:
        kind: layout of the data set: insta (metrical-tracker), imavatar (PointAvatar), vhap (GaussianAvatars, NeRSemble) or
            flame-head-tracker become a tracked folder, which needs your own copy of FLAME; ffhq and vfhq become shards of photos.
        source: folder of the data set, or of one of its clips.
        out: folder to fill.
        overwrite: replace what is in `out` once the new folder is complete.
        recipe: every value of the import.
    """
    refuse_absent(source, "a folder of a data set")
    refuse_folder(out, "prepare" if kind in ("ffhq", "vfhq") else "track", [source], overwrite=overwrite)
    from deja_vu.pipelines.import_data import import_data

    import_data(kind, source, out, recipe, overwrite=overwrite)


COMMAND = Command(
    run=import_command,
    example="deja-vu import insta bala/ --out tracked/bala --test-frames 350",
    main={name: name for name in ("head", "camera", "resolution", "fps", "test-frames", "test-share")},
)
