from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deja_vu.core import native

needs_compiler = pytest.mark.skipif(not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler")


def test_the_widest_instruction_set_is_chosen():
    chosen = native.variant()
    assert chosen in native.VARIANT_FLAGS
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
def test_setup_can_build_without_the_package(tmp_path):
    spec = importlib.util.spec_from_file_location("standalone", native.__file__)
    standalone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(standalone)
    assert standalone.build(tmp_path / "libdeja_vu.so").read_bytes()[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe")
    assert [path.name for path in tmp_path.iterdir()] == ["libdeja_vu.so"]


def test_importing_it_needs_no_torch():
    script = f"import sys, runpy; runpy.run_path({native.__file__!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_a_compiler_rendering_goes_on_with_one_warning(tmp_path):
    """No library, no compiler: `auto` draws with the reference, says once what to install, and `cpu` refuses."""
    script = """
        import warnings, torch
        from pathlib import Path
        from deja_vu.core import native
        native.LIBRARY_NAME = "absent.so"
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
    """A compiler that notes its calls, and does not optimise: it is the calls that count."""
    script = folder / "noting-c++"
    real = next(found for name in ("c++", "g++", "clang++") if (found := shutil.which(name)))
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexec {real} "$@" -O0\n')
    script.chmod(0o755)
    return script


@needs_compiler
def test_processes_that_start_together_compile_once(tmp_path):
    script = f"""
        from deja_vu.core import native
        native.LIBRARY_NAME = "absent.so"
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
    assert sorted(path.suffix for path in (tmp_path / "cache" / "deja-vu").iterdir()) == [".lock", ".so"]
    assert (tmp_path / "cache" / "deja-vu").stat().st_mode & 0o077 == 0  # nobody else may put a library there


@needs_compiler
def test_a_failing_compiler_and_an_unusable_cache_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "LIBRARY_NAME", "absent.so")
    native.load.cache_clear()
    try:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(native.NativeError, match="set XDG_CACHE_HOME to a writable folder"):
            native.load()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(native, "FLAGS", ("-std=c++0",))
        with pytest.raises(native.NativeError, match=r"a compiler for C\+\+17 is needed.\n.*c\+\+0"):
            native.load()
    finally:
        native.load.cache_clear()


def test_no_flag_binds_a_wheel_to_this_processor_or_this_arithmetic():
    flags = [*native.FLAGS, *native.KERNEL_FLAGS, *(flag for flags in native.VARIANT_FLAGS.values() for flag in flags)]
    assert not [flag for flag in flags if "native" in flag or flag in ("-ffast-math", "-Ofast", "-fassociative-math")]


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="no cross-compiler for ARM")
def test_compiles_for_arm(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "aarch64-linux-gnu-g++")
    monkeypatch.setattr(native.platform, "machine", lambda: "aarch64")
    built = native.build(tmp_path / "arm.so").read_bytes()
    assert built[18:20] == b"\xb7\x00"  # e_machine: AArch64, whose every processor has NEON


@needs_compiler
def test_a_damaged_library_in_the_cache_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(logging_compiler(tmp_path)))
    monkeypatch.setattr(native, "LIBRARY_NAME", "other.so")
    damaged = tmp_path / "deja-vu" / f"{native.source_key()}-other.so"
    damaged.parent.mkdir()
    damaged.write_bytes(b"not a library")
    native.load.cache_clear()
    try:
        assert native.load().deja_vu_source_key() == native.source_key().encode()
    finally:
        native.load.cache_clear()
