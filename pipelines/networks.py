"""Network files of the generalize stage, of either kind."""

from __future__ import annotations

from pathlib import Path

from deja_vu.avatars.nerf import NerfAvatar
from deja_vu.avatars.nerf.prior import FORMAT as FIELD
from deja_vu.avatars.nerf.prior import load_field_prior
from deja_vu.avatars.prior.network import FORMAT as GAUSSIAN
from deja_vu.avatars.prior.network import HeadPrior, load_prior, shipped_file
from deja_vu.core.errors import ConfigError, InputError
from deja_vu.io.arrays import WEIGHTS_SHA256, read_weights

KINDS = {GAUSSIAN: "gaussian", FIELD: "nerf"}
"""Kind of avatar that a network makes, by the mark in its file's header."""


def load_network(path: Path | None) -> HeadPrior | NerfAvatar:
    """A network of either kind; None takes the one that ships.

    Raises:
        InputError: there is no such file.
        FormatError: it is damaged or none.
    """
    if path is not None and network_kind(path) == "nerf":
        return load_field_prior(path)
    return load_prior(path)


def network_kind(path: Path) -> str | None:
    """Kind of avatar that a network makes; None where the file holds none.

    Raises:
        InputError: there is no such file.
        FormatError: it is damaged.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}. Expected a network that `deja-vu generalize` wrote.")
    return KINDS.get(read_weights(path)[0].get("format", ""))


def refuse_other_network(path: Path, kind: str) -> None:
    """Refuse a network that makes avatars of another kind than is asked for.

    Raises:
        InputError: there is no such file.
        FormatError: it is damaged.
        ConfigError: it makes another kind.
    """
    found = network_kind(path)
    if found is not None and found != kind:
        raise ConfigError(f"{path} makes avatars of kind '{found}', not '{kind}'. Add --path {found}, or name another network.")


def network_facts(path: Path | None) -> dict[str, str]:
    """What a run notes of the network that it began from: digest of its weights, and the commit that trained it.

    Args:
        path: of the file; None for the one that ships.
    """
    header, _ = read_weights(shipped_file() if path is None else path)
    return {"prior_sha256": header[WEIGHTS_SHA256], "prior_commit": header.get("commit", "not noted")}
