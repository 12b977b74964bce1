from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deja_vu import native
from deja_vu.native import abi, library

needs_compiler = pytest.mark.skipif(not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler")


def test_the_widest_instruction_set_is_chosen():
    chosen = native.variant()
    assert chosen in library.VARIANT_FLAGS
    native.select_variant("base")
    assert native.variant() == "base"
    native.select_variant(chosen)
    with pytest.raises(native.NativeError, match="does not run the variant 'mmx'"):
        native.select_variant("mmx")


def test_loading_does_not_flush_denormals():
    """A library linked with -ffast-math sets the processor's flush-to-zero mode for everybody."""
    native.load()
    assert 1e-310 * 1.0 == 1e-310


@needs_compiler
def test_setup_can_build_with_the_standard_library_alone(tmp_path):
    """An isolated build has nothing installed: -S and an empty path leave Python its own modules only."""
    (tmp_path / "built").mkdir()
    target = tmp_path / "built" / "libdeja_vu.so"
    root = Path(library.__file__).parents[2]
    script = f"import sys; sys.path.insert(0, {str(root)!r}); from deja_vu.native import library; library.build({str(target)!r})"
    environment = {"PATH": os.environ["PATH"], "CXX": str(logging_compiler(tmp_path))}
    subprocess.run([sys.executable, "-S", "-c", script], check=True, env=environment)
    assert target.read_bytes()[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe")
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_without_a_compiler_rendering_goes_on_with_one_warning(tmp_path):
    """No library, no compiler: `auto` draws with the reference, says once what to install, and `cpu` refuses."""
    script = """
        import warnings, torch
        from pathlib import Path
        from deja_vu import native
        native.library.LIBRARY_NAME = "absent.so"
        from deja_vu.core.camera import Camera
        from deja_vu.core.errors import MissingAssetError
        from deja_vu.core.gaussians import Gaussians
        from deja_vu.losses.photometric import ssim
        from deja_vu.render import rasterize
        mean, quat = torch.tensor([[0., 0, 1]]), torch.tensor([[1., 0, 0, 0]])
        gaussians = Gaussians(mean, quat, torch.full((1, 3), .1), torch.ones(1), torch.ones(1, 1, 3))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pictures = [rasterize(gaussians, Camera.from_focal(20., 16, 16), torch.ones(3)).rgb for _ in range(2)]
        assert len(caught) == 1 and "apt-get install g++" in str(caught[0].message), caught
        assert torch.equal(*pictures)
        assert 0.99 < ssim(pictures[0], pictures[1]) < 1.01
        try:
            rasterize(gaussians, Camera.from_focal(20., 16, 16), torch.ones(3), "cpu")
        except MissingAssetError as error:
            assert "apt-get install g++" in str(error)
        else:
            raise AssertionError
    """
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def logging_compiler(folder: Path) -> Path:
    """A compiler that notes its calls, and does not optimize: it is the calls that count."""
    script = folder / "noting-c++"
    real = next(found for name in ("c++", "g++", "clang++") if (found := shutil.which(name)))
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexec {real} "$@" -O0\n')
    script.chmod(0o755)
    return script


@needs_compiler
def test_processes_that_start_together_compile_once(tmp_path):
    script = f"""
        from deja_vu import native
        native.library.LIBRARY_NAME = "absent.so"
        assert native.load()._name.startswith({str(tmp_path)!r})
        native.load.cache_clear()
        native.load()
    """
    environment = os.environ | {"CXX": str(logging_compiler(tmp_path)), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], errors
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("-shared" in call for call in calls) == 1
    assert sorted(path.suffix for path in (tmp_path / "cache" / "deja-vu").iterdir()) == [".lock", ".sha256", ".so"]
    assert (tmp_path / "cache" / "deja-vu").stat().st_mode & 0o077 == 0  # nobody else may put a library there


@needs_compiler
def test_a_failing_compiler_and_an_unusable_cache_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "LIBRARY_NAME", "absent.so")
    native.load.cache_clear()
    try:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(native.NativeError, match="set DEJA_VU_CACHE to a writable folder"):
            native.load()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(library, "FLAGS", ("-std=c++0",))
        with pytest.raises(native.NativeError, match=r"a compiler for C\+\+17 is needed.\n.*c\+\+0"):
            native.load()
    finally:
        native.load.cache_clear()


def test_no_flag_binds_a_wheel_to_this_processor_or_this_arithmetic():
    flags = [*library.FLAGS, *library.KERNEL_FLAGS, *(flag for flags in library.VARIANT_FLAGS.values() for flag in flags)]
    assert not [flag for flag in flags if "native" in flag or flag in ("-ffast-math", "-Ofast", "-fassociative-math")]


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="no cross-compiler for ARM")
def test_compiles_for_arm(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "aarch64-linux-gnu-g++")
    monkeypatch.setattr(library.platform, "machine", lambda: "aarch64")
    built = library.build(tmp_path / "arm.so").read_bytes()
    assert built[18:20] == b"\xb7\x00"  # e_machine: AArch64, whose every processor has NEON


@needs_compiler
def test_a_damaged_library_in_the_cache_is_replaced(tmp_path):
    """Cut anywhere, it would end the process with SIGBUS when it is loaded; changed, it would be used."""
    script = "from deja_vu import native; native.library.LIBRARY_NAME = 'other.so'; native.load()"
    environment = os.environ | {"CXX": str(logging_compiler(tmp_path)), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    built = tmp_path / "cache" / "deja-vu" / f"{library.source_key()}-other.so"

    def load() -> int:
        """How often a process that needs the library has it linked."""
        subprocess.run([sys.executable, "-c", script], env=environment, check=True)
        return (tmp_path / "calls").read_text().count("-shared")

    assert (load(), load()) == (1, 1)
    whole = built.read_bytes()
    (built.parent / ".native-killed").mkdir()
    built.write_bytes(whole[: len(whole) // 2])
    assert (load(), load()) == (2, 2)
    assert not (built.parent / ".native-killed").exists(), "what a killed process was compiling goes"
    changed = bytearray(built.read_bytes())
    changed[-100] ^= 1
    built.write_bytes(changed)
    assert load() == 3


def declared_fields(header: str, struct: str) -> list[str]:
    """Names of a struct's fields in a C header, in order."""
    body = re.search(rf"struct {struct} {{(.*?)}};", header, re.DOTALL).group(1)
    statements = re.sub(r"//[^\n]*", "", body).split(";")
    return [re.findall(r"\w+", part)[-1] for statement in statements for part in statement.split(",") if part.strip()]


def test_structs_have_the_fields_of_the_header_in_its_order():
    header = (library.SOURCE_FOLDER / "api.h").read_text()
    for struct in abi.STRUCTS:
        assert [name for name, _ in struct._fields_] == declared_fields(header, f"DejaVu{struct.__name__}")


def test_a_struct_of_another_size_is_refused(monkeypatch):
    """Loading stops before a call could read beyond a struct's end; the message names the struct."""

    class Mesh(abi.ctypes.Structure):
        _fields_ = (*abi.Mesh._fields_, ("extra", abi.ctypes.c_int64))

    opened = native.load()
    assert abi.mismatched_structs(opened) == []
    monkeypatch.setattr(abi, "STRUCTS", tuple(Mesh if struct is abi.Mesh else struct for struct in abi.STRUCTS))
    with pytest.raises(native.NativeError, match=r"disagree about the size of Mesh \(\d+, \d+\)"):
        library._open(Path(opened._name))
