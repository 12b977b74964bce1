"""What a run says of itself, the files beside it, and how its parts are found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deja_vu.avatars import GaussianAvatar, save_avatar
from deja_vu.core.config import config_text
from deja_vu.core.errors import ConfigError, FormatError, InputError, OutputError
from deja_vu.heads.toy import load as load_toy
from deja_vu.io.files import write_atomic
from deja_vu.io.provenance import commit, machine
from deja_vu.pipelines.identity import refuse_other_recipe
from deja_vu.pipelines.own_files import claim, own_files
from deja_vu.pipelines.person import load_pair
from deja_vu.pipelines.recipes import Recipe
from deja_vu.pipelines.run_folder import amend_run, find_avatar, find_track, open_run
from tests.pipelines.runs import make_run


def test_an_output_file_replaces_neither_an_input_nor_a_runs_file_nor_anything_unasked(tmp_path) -> None:
    make_run(tmp_path / "run")
    video, linked, dangling = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4"
    video.write_text("mine")
    linked.hardlink_to(video)
    dangling.symlink_to(tmp_path / "absent")
    claim(tmp_path / "new.mp4", overwrite=False, inputs=[video])
    claim(Path("/dev/null"), overwrite=False)
    for path in (video, dangling):
        with pytest.raises(OutputError, match=r"exists already\. Add --overwrite"):
            claim(path, overwrite=False)
        claim(path, overwrite=True)
    for path in (video, linked):
        with pytest.raises(OutputError, match="is an input"):
            claim(path, overwrite=True, inputs=[tmp_path / "no file", video])
    for name in ("avatar.safetensors", "track/frames/000000.jpg", "run.json"):
        with pytest.raises(OutputError, match="belongs to the run in"):
            claim(tmp_path / "run" / name, overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        claim(tmp_path / "run", overwrite=True)


def test_a_further_file_of_a_run_is_the_runs_unless_the_user_has_one_of_that_name(tmp_path) -> None:
    make_run(tmp_path)
    for content in ("page", "newer page"):
        with amend_run(tmp_path, "report.html") as path:
            path.write_text(content)
    assert "report.html" in own_files(tmp_path)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="changed since"), amend_run(tmp_path, "report.html"):
        pass


def test_a_run_records_where_it_comes_from(tmp_path) -> None:
    with open_run(tmp_path / "run", "personalize") as run:
        provenance = run.note(tracked=str(tmp_path / "tracked"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["program"], facts["format"], facts["kind"], facts["files"]) == ("deja-vu", 1, "personalize", {})
    assert facts["commit"] == provenance["commit"] == commit()
    assert facts["machine"] == machine()
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert "cores" in machine()


def test_an_export_tells_nothing_of_the_machine_it_was_made_on(tmp_path) -> None:
    make_run(tmp_path, names=["index.html"], kind="export")
    assert json.loads((tmp_path / "run.json").read_text()).keys() == {"program", "format", "version", "kind", "files"}


def test_a_tracked_video_is_found_in_a_run_beside_it_or_where_it_was_taken_from(tmp_path) -> None:
    run, tracked = tmp_path / "run", tmp_path / "tracked"
    tracked.mkdir()
    with open_run(run, "personalize") as opened:
        opened.note(tracked=str(tracked))
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
    write_atomic(tmp_path / "config.yaml", config_text(Recipe()))
    refuse_other_recipe(tmp_path, Recipe())
    other = replace(Recipe(), gaussian=replace(Recipe().gaussian, code_noise=0.123))
    with pytest.raises(ConfigError, match=r"--config .*config.yaml"):
        refuse_other_recipe(tmp_path, other)


def test_an_avatar_and_its_video_must_have_the_same_head(film, small_recipe, tmp_path) -> None:
    sequence = film(tmp_path / "run" / "track", frames=5)
    head = load_toy()
    avatar = GaussianAvatar(head, torch.zeros(head.spec.num_shape), small_recipe.gaussian.avatar)
    save_avatar(avatar, tmp_path / "run" / "avatar.safetensors", {})
    found, video = load_pair(tmp_path / "run")
    assert found.head.spec.name == "toy"
    assert video.info == sequence.info
    path = tmp_path / "run" / "track" / "track.json"
    path.write_text(path.read_text().replace('"head_name": "toy"', '"head_name": "anny"'))
    with pytest.raises(FormatError, match="avatar has head 'toy', but the video was tracked with head 'anny'"):
        load_pair(tmp_path / "run")
