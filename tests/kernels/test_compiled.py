"""Every kernel becomes machine code for an A100 and an H100, which takes no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import inspect, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from deja_vu.kernels import distance, pose, ssim

CONSTANTS = {"CHANNELS": 3, "KEEP": True, "GIVEN": False, "BLENDED": True, "UPSAMPLED": True}
INDICES = ("faces_ptr", "texel_faces_ptr", "taps_ptr", "begin_ptr", "rows_ptr", "list_ptr")
NUMBERS = {"delta": "fp32"}

for room, kernels in ((distance, "_forward _backward"), (ssim, "_blur_columns _compare _gather_columns _gather_rows"),
                      (pose, "_normals _pose _pull _gather")):
    for name in kernels.split():
        kernel = getattr(room, name)
        constants = {**CONSTANTS, "BLOCK": room.BLOCK}
        signature = {}
        for argument in inspect.signature(kernel.fn).parameters:
            pointer = "*i32" if room is pose and argument in INDICES else "*fp32"
            number = "constexpr" if argument.isupper() else NUMBERS.get(argument, "i32")
            signature[argument] = pointer if argument.endswith("_ptr") else number
        given = {(place,): constants[argument] for place, argument in enumerate(signature) if argument.isupper()}
        made = triton.compile(ASTSource(kernel, signature, constexprs=given), target=GPUTarget("cuda", ARCHITECTURE, 32))
        print(name, len(made.asm["cubin"]))
"""


@pytest.mark.parametrize("architecture", [80, 90])
def test_kernels_become_machine_code(architecture: int, tmp_path: Path) -> None:
    """In a process whose Triton compiles, where that of the tests interprets."""
    source = tmp_path / "compile_kernels.py"
    source.write_text(COMPILE.replace("ARCHITECTURE", str(architecture)))
    compiling = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    compiling |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])}
    done = subprocess.run([sys.executable, str(source)], capture_output=True, text=True, env=compiling)
    assert done.returncode == 0, done.stderr
    sizes = {name: int(size) for name, size in (line.split() for line in done.stdout.splitlines())}
    assert len(sizes) == 10
    assert min(sizes.values()) > 1000
