"""What a run was started with, so that it is only resumed with the same."""

from __future__ import annotations

from pathlib import Path

from deja_vu.core.config import load_config
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.io.files import digest
from deja_vu.pipelines.own_files import read_record


def source_facts(source: Path) -> dict[str, str]:
    """What a run notes of the video, photo or tracked folder it begins from.

    Raises:
        InputError: there is none.
    """
    file = source / "params.safetensors" if source.is_dir() else source
    if not file.is_file():
        raise InputError(f"There is no file {source}. Expected the path of a video.")
    return {"source": str(source), "source_sha256": digest(file)}


def find_film(*runs: Path, sha256: str) -> Path | None:
    """The video that a run or a tracked folder was made from, where it lies as it lay; None where it has gone or changed.

    Args:
        runs: folders whose records may name it.
        sha256: its content.
    """
    for record in map(read_record, runs):
        place = Path(str(record.get("source", "")))
        if record.get("source_sha256") == sha256 and place.is_file() and digest(place) == sha256:
            return place
    return None


def refuse_other_start(run: Path, source: Path, recipe: object) -> None:
    """Refuse to resume a run with anything else than it was begun with.

    Raises:
        InputError: it was begun with another video or tracked folder.
        ConfigError: it was begun with another recipe.
    """
    refuse_other_source(run, source)
    refuse_other_recipe(run, recipe)


def refuse_other_source(run: Path, source: Path) -> None:
    """Refuse to resume a run with another video or tracked folder than it was begun with.

    Raises:
        InputError: it was begun with another, or by a version that did not note with which.
    """
    begun = read_record(run)
    if "source_sha256" not in begun:
        raise InputError(f"{run} was started by an older version, which did not record its video. Add --overwrite to start anew.")
    if begun["source_sha256"] != source_facts(source)["source_sha256"]:
        raise InputError(
            f"{run} was begun with {begun['source']}, and the content of {source} differs. "
            "Resume it with what it was begun with, or add --overwrite to start anew."
        )


def refuse_other_recipe(folder: Path, recipe: object) -> None:
    """Refuse to resume a run with another recipe than it was started with, which would give a mixture of both.

    Raises:
        ConfigError: a value differs.
    """
    path = folder / "config.yaml"
    if path.is_file() and load_config(type(recipe), path) != recipe:
        raise ConfigError(f"{folder} was started with another recipe. Add --config {path} to resume with it, or --overwrite to start anew.")
