"""Installation: `pip install .`, or `pip install -e .` to work on the sources; both compile the native library if there is a compiler."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
VERSION = "0.1.0"

REQUIRES = [
    "torch>=2.4",
    "numpy>=1.26",
    "tqdm>=4.66",
    "tensorboard>=2.21",  # older ones serve through pkg_resources, which new setuptools no longer have
    "mediapipe>=1.2,<2",  # brings opencv-contrib-python; a second OpenCV distribution beside it would overwrite its files
    "opencv-contrib-python>=4.10",
    "gsplat>=1.5,<2",
    "easypytorch3d>=0.7.9.post1; sys_platform == 'linux'",  # the maintained wheel of pytorch3d
    "av>=14",
    "pillow>=10",
    "scipy>=1.11",
    "tyro>=1.0",
    "dacite>=1.9",
    "pyyaml>=6",
    "safetensors>=0.4",
    "jaxtyping>=0.3",
    "filelock>=3.12",
    "viser>=1.1,<2",
    "accelerate>=1.10",  # the generalize stage on several processes
]
EXTRAS = {
    "anny": ["anny>=0.6.2"],  # only to bake the default head again
    "matting": ["pymatting>=1.1"],  # only for --closed-form-matte
    "virtual-camera": ["pyvirtualcam>=0.11"],  # only for drive --out virtual-camera
    "dev": [
        *("pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.5", "hypothesis>=6.100", "beartype>=0.18"),
        *("gsply>=0.4.6", "pygltflib>=1.16", "playwright>=1.50"),  # read exported files and pages back
        *("ruff>=0.6", "mypy>=1.10", "scikit-image>=0.24", "torchmetrics>=1.4"),
    ],
}


class BuildWithNative(build_py):
    """Copy the Python files, and put the compiled library beside the one that loads it."""

    def run(self) -> None:
        super().run()
        sys.path.insert(0, str(ROOT))
        from deja_vu.native import library  # needs nothing but the standard library

        package = ROOT / "deja_vu" if self.editable_mode else Path(self.build_lib).resolve() / "deja_vu"
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


setup(
    name="deja-vu",
    version=VERSION,
    description="From a phone video to a 3D Gaussian head avatar that can be driven, in minutes, on a laptop.",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["deja_vu*"]),
    package_data={
        "deja_vu.native": ["csrc/*"],
        "deja_vu.heads": ["assets/*"],
        "deja_vu.avatars.prior": ["assets/*"],
        "deja_vu.export": ["player/player.html", "player/NOTICES.txt"],
        "deja_vu.configs": ["*.yaml", "generalize/*.yaml"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["deja-vu = deja_vu.pipelines.entry:main"]},
    cmdclass={"build_py": BuildWithNative, "bdist_wheel": PlatformWheel},
)
