from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.avatars import GaussianAvatar, save_avatar
from deja_vu.core.config import dump_config
from deja_vu.core.errors import ConfigError, FormatError, InputError, OutputError
from deja_vu.heads.toy import load as load_toy
from deja_vu.pipelines.personalize import Recipe
from deja_vu.pipelines.runs import clear_run, commit, find_avatar, find_track, load_pair, machine, open_run, record, refuse_other_recipe


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_new_or_empty_folder_is_accepted_and_not_made_yet(tmp_path) -> None:
    open_run(tmp_path / "a" / "b", resume=False, overwrite=False)
    assert tree(tmp_path) == set()
    (tmp_path / "empty").mkdir()
    open_run(tmp_path / "empty", resume=False, overwrite=False)


def test_a_folder_in_use_needs_a_word_from_the_user(tmp_path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(OutputError, match=r"--resume .* --overwrite"):
        open_run(tmp_path, resume=False, overwrite=False)
    open_run(tmp_path, resume=True, overwrite=False)
    open_run(tmp_path, resume=False, overwrite=True)
    with pytest.raises(OutputError, match="exclude each other"):
        open_run(tmp_path, resume=True, overwrite=True)


def test_nothing_to_resume_is_said(tmp_path) -> None:
    with pytest.raises(OutputError, match="no run to resume"):
        open_run(tmp_path, resume=True, overwrite=False)
    with pytest.raises(OutputError, match="no run to resume"):
        open_run(tmp_path / "absent", resume=True, overwrite=False)
    (tmp_path / "track").mkdir()  # interrupted while tracking
    open_run(tmp_path, resume=True, overwrite=False)


def test_places_that_cannot_be_written_are_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        open_run(tmp_path / "file", resume=False, overwrite=False)
    with pytest.raises(OutputError, match=r"cannot be made: .*file is a file"):
        open_run(tmp_path / "file" / "run", resume=False, overwrite=False)


def test_a_read_only_place_is_refused(tmp_path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write into read-only folders")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="read-only"):
            open_run(tmp_path / "run", resume=False, overwrite=False)
    finally:
        tmp_path.chmod(0o755)


def test_a_cleared_run_keeps_the_tracked_folder_it_is_told_to(tmp_path) -> None:
    run = tmp_path / "run"
    for name in ("track/frames", "curves", "deep/er"):
        (run / name).mkdir(parents=True)
    for name in ("track/track.json", "avatar.safetensors", "deep/er/track.json"):
        (run / name).write_text("")
    clear_run(run, keep=run / "track")
    assert tree(run) == {"track", "track/frames", "track/track.json"}
    clear_run(run, keep=tmp_path / "elsewhere")
    assert tree(run) == set()


def test_clearing_never_reaches_what_a_run_learns_from(tmp_path) -> None:
    tracked = tmp_path / "run" / "deep" / "tracked"
    tracked.mkdir(parents=True)
    (tracked / "track.json").write_text("")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "frame").write_text("")
    (tmp_path / "run" / "link").symlink_to(outside)
    clear_run(tmp_path / "run", keep=tracked)
    assert tree(tmp_path) == {"run", "run/deep", "run/deep/tracked", "run/deep/tracked/track.json", "outside", "outside/frame"}
    for folder in (tracked, tracked / "run"):
        with pytest.raises(OutputError, match="which --overwrite would delete"):
            clear_run(folder, keep=tracked)


def test_a_run_records_where_it_comes_from(tmp_path) -> None:
    provenance = record(tmp_path / "run", tmp_path / "tracked")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["commit"] == provenance["commit"] == commit()
    assert facts["machine"] == machine()
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert "cores" in machine()


def test_a_tracked_video_is_found_in_a_run_beside_it_or_where_it_was_taken_from(tmp_path) -> None:
    run, tracked = tmp_path / "run", tmp_path / "tracked"
    tracked.mkdir()
    record(run, tracked)
    with pytest.raises(InputError, match="holds no tracked video"):
        find_track(run)
    (tracked / "track.json").write_text("{}")
    assert find_track(run) == tracked
    assert find_track(tracked) == tracked
    (run / "track").mkdir()
    (run / "track" / "track.json").write_text("{}")
    assert find_track(run) == run / "track"


def test_an_avatar_is_found_in_its_run_or_by_its_name(tmp_path) -> None:
    with pytest.raises(InputError, match=r"holds no avatar.safetensors"):
        find_avatar(tmp_path)
    path = tmp_path / "avatar.safetensors"
    path.write_text("")
    assert find_avatar(tmp_path) == find_avatar(path) == path


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tracked": 5}'])
def test_a_damaged_record_of_the_video_is_refused(content, tmp_path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(FormatError, match=r"run\.json is damaged"):
        find_track(tmp_path)


def test_another_recipe_cannot_be_resumed(tmp_path) -> None:
    refuse_other_recipe(tmp_path, Recipe())  # interrupted before it was written
    dump_config(Recipe(), tmp_path / "config.yaml")
    refuse_other_recipe(tmp_path, Recipe())
    other = replace(Recipe(), personalize=replace(Recipe().personalize, blendmap_rate=0.123))
    with pytest.raises(ConfigError, match=r"--config .*config.yaml"):
        refuse_other_recipe(tmp_path, other)


def test_an_avatar_and_its_video_must_have_the_same_head(film, small_recipe, tmp_path) -> None:
    sequence = film(tmp_path / "run" / "track", frames=5)
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), small_recipe.personalize.avatar)
    save_avatar(avatar, tmp_path / "run" / "avatar.safetensors", {})
    found, video = load_pair(tmp_path / "run")
    assert found.head.spec.name == "toy"
    assert video.info == sequence.info
    path = tmp_path / "run" / "track" / "track.json"
    path.write_text(path.read_text().replace('"head_name": "toy"', '"head_name": "anny"'))
    with pytest.raises(FormatError, match="avatar has head 'toy', but the video was tracked with head 'anny'"):
        load_pair(tmp_path / "run")
