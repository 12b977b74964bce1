"""What `import deja_vu` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import deja_vu


@pytest.mark.parametrize("name", deja_vu.__all__)
def test_every_public_name_is_there_and_documented(name) -> None:
    value = getattr(deja_vu, name)
    assert value.__doc__
    assert name in dir(deja_vu)


def test_subpackages_are_attributes_and_other_names_are_not() -> None:
    assert deja_vu.avatars.GaussianAvatar
    assert deja_vu.core.camera.Camera is deja_vu.Camera
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = deja_vu.lod


def test_importing_loads_nothing_heavy() -> None:
    """In milliseconds it is 1 to 2; what is counted here does not depend on how busy the machine is."""
    program = "import sys; before = set(sys.modules); import deja_vu; print(*sorted({n.split('.')[0] for n in set(sys.modules) - before}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"deja_vu"}
