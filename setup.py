"""What pyproject.toml cannot say: the native library is compiled on installation, if there is a compiler."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithNative(build_py):
    """Copy the Python files, and put the compiled library beside the one that loads it."""

    def run(self) -> None:
        super().run()
        sys.path.insert(0, str(ROOT))
        from deja_vu.io.provenance import BUILT_FROM, commit_of
        from deja_vu.native import library  # needs nothing but the standard library

        package = ROOT / "deja_vu" if self.editable_mode else Path(self.build_lib).resolve() / "deja_vu"
        if not self.editable_mode and (commit := commit_of(ROOT)):
            (package / BUILT_FROM).write_text(commit + "\n")
        try:
            library.build(package / "native" / library.LIBRARY_NAME)
        except library.NativeError as error:
            # Not fatal: the sources are installed too, and the library is compiled when it is first needed.
            print(f"The native library was not compiled: {error}\nIt will be at first use.", file=sys.stderr)


class PlatformWheel(bdist_wheel):
    """The library is loaded with ctypes: bound to the platform, not to a Python version."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build_py": BuildWithNative, "bdist_wheel": PlatformWheel})
