from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deja_vu.avatars.io import load_avatar, read_header, save_avatar
from deja_vu.core.errors import DejaVuError, FormatError, InputError, OutputError

WHITE = torch.ones(3)


@pytest.fixture
def saved(random_avatar, tmp_path: Path) -> Path:
    path = tmp_path / "avatar.safetensors"
    save_avatar(random_avatar, path, {"commit": "abc", "command": "deja-vu personalize"})
    return path


def rewrite(path: Path, header: dict[str, str] | None = None, tensors: dict[str, torch.Tensor | None] | None = None) -> None:
    """The same file with some header fields or tensors changed; None removes one."""
    with safe_open(path, framework="pt") as file:
        fields = file.metadata()
    kept = load_file(path) | (tensors or {})
    save_file({name: value for name, value in kept.items() if value is not None}, path, metadata=fields | (header or {}))


def test_a_loaded_avatar_renders_the_same_picture(random_avatar, saved, params, camera) -> None:
    random_avatar.eval()
    loaded = load_avatar(saved).eval()
    with torch.no_grad():
        ours, theirs = (avatar.render(params, camera, WHITE) for avatar in (random_avatar, loaded))
    assert torch.equal(ours.rgb, theirs.rgb)
    assert torch.equal(ours.alpha, theirs.alpha)
    assert loaded.config == random_avatar.config
    assert loaded.code.state_dict().keys() == random_avatar.code.state_dict().keys()


def test_the_reader_of_an_earlier_version_is_left_out_and_that_is_said(random_avatar, saved, capsys, params, camera) -> None:
    config = json.dumps({**asdict(random_avatar.config), "reader": True})
    older = {f"reader.{name}": torch.ones(3) for name in ("reach", "mean", "weight")}
    rewrite(saved, {"config": config}, older)
    loaded = load_avatar(saved)
    assert "earlier version" in capsys.readouterr().out
    assert loaded.config == random_avatar.config
    with torch.no_grad():
        assert torch.equal(loaded.render(params, camera, WHITE).rgb, random_avatar.eval().render(params, camera, WHITE).rgb)


def test_the_header_says_what_the_file_is(random_avatar, saved) -> None:
    header = read_header(saved)
    assert header["head"] == "toy"
    assert header["uv_hash"] == random_avatar.layout.hash
    assert json.loads(header["config"]) == asdict(random_avatar.config)
    assert (header["commit"], header["command"]) == ("abc", "deja-vu personalize")


def test_the_file_carries_no_head_model(saved) -> None:
    """A licensed head (FLAME) must not travel with an avatar."""
    assert set(load_file(saved)) == {
        "shape",
        "base",
        "rectification",
        "blendmaps",
        *(f"code.{name}" for name in ("mix", "mean", "components", "weight", "reach", "low", "high", "rest_rotation")),
    }


def test_a_failed_save_keeps_the_former_file(random_avatar, saved, tmp_path) -> None:
    before = saved.read_bytes()
    (tmp_path / f".avatar.{os.getpid()}.part.safetensors").mkdir()  # where the new file would be written first
    with pytest.raises(OutputError, match="could not be written"):
        save_avatar(random_avatar, saved, {})
    assert saved.read_bytes() == before


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"version": "2"}, r"format 2, expected 1\. A newer version of this program wrote it: update the program"),
        ({"version": "0"}, r"format 0, expected 1\. Personalize again"),
        ({"format": "something else"}, "holds no avatar"),
        ({"kind": "nerf"}, "header"),
        ({"config": "{"}, "header"),
        ({"config": "5"}, "header"),
        ({"config": '{"uv_size": 96, "blendmap": 3}'}, "header"),
        ({"config": '{"uv_size": "big"}'}, "header"),
        ({"head": "toi"}, "no head named 'toi'"),
        ({"head": "anny"}, "the identity has shape"),
        ({"uv_hash": "0123"}, "another UV chart"),
        ({"config": '{"uv_size": 64, "blend_size": 64, "blendmaps": 3}'}, "another UV chart"),
        ({"config": '{"uv_size": 96, "blend_size": 64, "blendmaps": 4}'}, "tensors do not fit: .*blendmaps"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(saved, header, message) -> None:
    rewrite(saved, header)
    with pytest.raises(DejaVuError, match=message):
        load_avatar(saved)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rectification", lambda value: value[:-1], "rectification is .* expected"),
        ("blendmaps", lambda value: value[..., :12].contiguous(), "blendmaps is .* expected"),
        ("shape", lambda value: value[:3], "identity has shape"),
        ("shape", lambda value: None, "identity has shape"),
        ("code.mix", lambda value: None, "code.mix is None"),
        ("extra", lambda value: torch.zeros(1), "extra is"),
        ("base", lambda value: value.where(torch.arange(13) != 4, torch.nan), "base hold values that are not finite"),
        ("code.low", lambda value: -value / 0, "code.low hold values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(saved, name, change, message) -> None:
    rewrite(saved, tensors={name: change(load_file(saved).get(name))})
    with pytest.raises(FormatError, match=message):
        load_avatar(saved)


def test_files_that_are_no_avatar_are_refused(saved, tmp_path) -> None:
    with pytest.raises(InputError, match="No avatar at"):
        load_avatar(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(FormatError, match="holds no avatar"):
        load_avatar(other)
    for content in (b"", b"no safetensors at all", saved.read_bytes()[:-1000], saved.read_bytes()[:50]):
        other.write_bytes(content)
        with pytest.raises(FormatError, match="damaged or not a safetensors"):
            load_avatar(other)


def test_the_rasterizer_is_the_readers_choice(random_avatar, saved) -> None:
    assert load_avatar(saved, backend="reference").config == replace(random_avatar.config, backend="reference")
