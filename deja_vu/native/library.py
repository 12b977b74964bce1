"""The native library: compiled from `csrc/`, loaded with ctypes.

An installation carries the library beside this file. A checkout without it compiles it once into the user's cache.
Neither this file nor what it imports needs more than the standard library: setup.py builds the library with it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deja_vu.core.cache import cache_folder
from deja_vu.native.abi import declare_signatures, mismatched_structs

SOURCE_FOLDER = Path(__file__).parent / "csrc"
LIBRARY_NAME = "libdeja_vu.so"
UNITS = ("raster", "ssim", "picture", "mesh", "neighbors", "attach", "color", "threads", "memory", "dispatch")
"""Sources compiled once, for any processor of the machine's kind."""
FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-freciprocal-math"),
)
"""What is safe of fast math. Linking with -ffast-math would flush denormals in the whole process; -fassociative-math breaks exp2."""
BUILD_PREFIX = ".native-"
"""Of the name of a folder in which the library is being compiled, or was when the process was killed."""
KERNEL_FLAGS = ("-fno-exceptions", "-fno-rtti")
EXTRA_FLAGS = tuple(os.environ.get("DEJA_VU_CXXFLAGS", "").split())
"""More, for compiling and linking: `make sanitize` asks for the sanitizers so. Part of the key, so that libraries do not mix."""
VARIANT_FLAGS: dict[str, tuple[str, ...]] = {
    "base": ("-msse4.2",),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"),
}
"""Instruction sets that kernels.cpp is compiled for on x86-64; elsewhere `base` alone, without flags."""


class NativeError(RuntimeError):
    """The native library can be neither found nor built; the message says why and what to install."""


@functools.cache
def load() -> ctypes.CDLL:
    """The library, prebuilt or from the user's cache, compiled there first if need be.

    Raises:
        NativeError: there is no compiler, it fails, or the cache cannot be written.
    """
    if (opened := _open(Path(__file__).parent / LIBRARY_NAME)) is not None:
        return opened
    path = cache_folder() / f"{source_key()}-{LIBRARY_NAME}"
    if (opened := _open_cached(path)) is not None:
        return opened
    _build_in_cache(path)
    opened = _open_cached(path)
    if opened is None:
        raise NativeError(f"{path} was compiled just now but does not load as the library of this version; delete it and try again.")
    return opened


@functools.cache
def available(otherwise: str) -> bool:
    """Whether the library can be loaded; where it cannot, a warning says once why, and what is done instead.

    Args:
        otherwise: what happens without it, for the warning.
    """
    try:
        load()
    except NativeError as error:
        warnings.warn(f"{otherwise}: {error}", stacklevel=4)
        return False
    return True


def call(function: str, arguments: ctypes.Structure, task: str) -> None:
    """Run a function of the library that takes one struct and can fail only for want of memory.

    Args:
        function: its name without the common prefix.
        arguments: the struct.
        task: what it does, for the message.

    Raises:
        NativeError: the library cannot be loaded.
        MemoryError: there is not enough memory.
    """
    if getattr(load(), f"deja_vu_{function}")(ctypes.byref(arguments)):
        raise MemoryError(f"no memory to {task}")


def build(target: str | os.PathLike[str]) -> Path:
    """Compile the library for every instruction set of this kind of machine.

    Args:
        target: file to write; it appears only when complete.

    Raises:
        NativeError: there is no C++17 compiler, or it fails; the message carries its output.
    """
    target = Path(target)
    compiler = _compiler()
    with tempfile.TemporaryDirectory(prefix=BUILD_PREFIX, dir=target.parent) as folder:
        common = [f'-DDEJA_VU_SOURCE_KEY="{source_key()}"']
        jobs = [(f"{unit}.cpp", f"{unit}.o", common) for unit in UNITS]
        jobs += [("kernels.cpp", f"kernels_{name}.o", [*KERNEL_FLAGS, *flags]) for name, flags in _variant_flags().items()]
        commands = [
            [compiler, *FLAGS, *EXTRA_FLAGS, *flags, "-c", str(SOURCE_FOLDER / source), "-o", str(Path(folder) / object_name)]
            for source, object_name, flags in jobs
        ]
        with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
            list(executor.map(_run, commands))
        linked = Path(folder) / LIBRARY_NAME
        _run([compiler, "-shared", "-pthread", *EXTRA_FLAGS, *(str(Path(folder) / name) for _, name, _ in jobs), "-o", str(linked)])
        linked.replace(target)
    return target


def source_key() -> str:
    """Hash of the sources and flags: libraries with the same key behave the same."""
    digest = hashlib.sha256(repr((FLAGS, KERNEL_FLAGS, EXTRA_FLAGS, _variant_flags(), sys.platform)).encode())
    for path in sorted(SOURCE_FOLDER.iterdir()):
        if path.suffix in (".cpp", ".h"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def variant() -> str:
    """Instruction set in use: base, avx2 or avx512."""
    return load().deja_vu_variant().decode()


def select_variant(name: str) -> None:
    """Use another instruction set than the widest from now on, in this process.

    Raises:
        NativeError: this processor does not run it.
    """
    if load().deja_vu_select_variant(name.encode()):
        raise NativeError(f"this processor does not run the variant {name!r}; {variant()!r} stays in use.")


def _variant_flags() -> dict[str, tuple[str, ...]]:
    return VARIANT_FLAGS if platform.machine().lower() in ("x86_64", "amd64") else {"base": ()}


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise NativeError("no C++ compiler was found ($CXX, c++, g++, clang++). Install one, for example with 'apt-get install g++'.")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NativeError(f"'{' '.join(command)}' failed ({done.returncode}); a compiler for C++17 is needed.\n{done.stderr[-4000:]}")


def _build_in_cache(path: Path) -> None:
    import fcntl  # only POSIX has it, and only this function needs it

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path.parent / "native.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _open_cached(path) is None:  # another process may have built it meanwhile
                for left in path.parent.glob(f"{BUILD_PREFIX}*"):  # by killed processes: this one holds the lock
                    shutil.rmtree(left)
                with tempfile.TemporaryDirectory(prefix=BUILD_PREFIX, dir=path.parent) as folder:
                    built, note = build(Path(folder) / path.name), Path(folder) / "sha256"
                    note.write_text(_sha256(built))
                    built.replace(path)
                    note.replace(_note(path))
    except OSError as error:
        raise NativeError(
            f"the native library cannot be built in {path.parent} ({error}); set DEJA_VU_CACHE to a writable folder."
        ) from error


def _open_cached(path: Path) -> ctypes.CDLL | None:
    """The library from the cache, or None where there is none whose content is what was compiled: a cut one would end the process."""
    try:
        return _open(path) if _note(path).read_text() == _sha256(path) else None
    except OSError:
        return None


def _note(path: Path) -> Path:
    """Where the digest of a cached library stands."""
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path) -> ctypes.CDLL | None:
    """The library at `path` with its signatures, or None if there is none of these sources and this kind of machine."""
    try:
        opened = ctypes.CDLL(str(path))
        declare_signatures(opened)
    except (OSError, AttributeError):
        return None
    if opened.deja_vu_source_key() != source_key().encode():
        return None
    if wrong := mismatched_structs(opened):
        raise NativeError(f"csrc/api.h and abi.py disagree about the size of {', '.join(wrong)}; make them agree and compile again.")
    return opened
