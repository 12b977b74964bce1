from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deja_vu.core.config import dump_config, load_config
from deja_vu.core.errors import ConfigError, FormatError
from deja_vu.core.upgrade import RENAMED_KEYS
from deja_vu.pipelines.generalize import GeneralizeConfig
from deja_vu.pipelines.personalize import Recipe
from deja_vu.pipelines.train_gaussians import Phase
from deja_vu.training.objective import LossWeights


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_overrides_change_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    text = "personalize:\n  avatar: {blendmaps: 3}\n  phases: [{steps: 5, resolution: 64, learning_rate: 1}]\n"
    recipe = load_config(Recipe, write(tmp_path, text))
    assert recipe.personalize.avatar.blendmaps == 3
    assert recipe.personalize.phases == (Phase(5, 64, 1.0),)
    assert recipe.track == Recipe().track
    assert recipe.personalize.loss == Recipe().personalize.loss


def test_a_field_keeps_its_own_defaults_where_its_class_has_others(tmp_path: Path) -> None:
    image = load_config(Recipe, write(tmp_path, "nerf:\n  loss: {image: {huber: 5.0}}\n")).nerf.loss.image
    assert image == replace(Recipe().nerf.loss.image, huber=5.0)
    assert image.dssim != LossWeights().dssim, "the class's default is another one"


def test_a_dumped_recipe_reads_back_equal(tmp_path: Path) -> None:
    dump_config(Recipe(), tmp_path / "all.yaml")
    assert load_config(Recipe, tmp_path / "all.yaml") == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("personalise: {}", "Did you mean 'personalize'"),
        ("personalize: {avatar: {uvsize: 64}}", "Did you mean 'uv_size'"),
        ("personalize: {phases: [{stepz: 5}]}", "Did you mean 'steps'"),
        ("personalize: {avatar: {uv_size: many}}", "personalize.avatar.uv_size is 'many'. Expected a whole number from 8 to 2048"),
        ("personalize: {avatar: {uv_size: 64.5}}", "personalize.avatar.uv_size is 64.5. Expected a whole number"),
        ("personalize: {avatar: {uv_size: 0}}", "personalize.avatar.uv_size is 0. Expected a number from 8 to 2048"),
        ("personalize: {avatar: {correction: 1}}", "personalize.avatar.correction is 1. Expected true or false"),
        ("personalize: {blendmap_rate: fast}", "personalize.blendmap_rate is 'fast'. Expected a number"),
        ("personalize: {phases: [{steps: 5, resolution: 64, learning_rate: fast}]}", "personalize.phases.0.learning_rate is 'fast'"),
        ("personalize: {phases: 3}", "personalize.phases is 3. Expected a list"),
        ("track: {split: middle}", "track.split is 'middle'. Expected tail or blocks"),
        ("track: {max_frames: -5}", "track.max_frames is -5. Expected a number from 1 up"),
        ("track: {fit: {focal_ratio: .nan}}", "track.fit.focal_ratio is nan"),
        ("[1, 2]", "mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
        load_config(Recipe, write(tmp_path, text))
    assert len(str(refusal.value).splitlines()) == 1 or "YAML" in message


def test_a_number_may_be_written_as_yaml_writes_it(tmp_path: Path) -> None:
    """YAML takes 1e-3 for a text; where a number is wanted it is one."""
    assert load_config(Recipe, write(tmp_path, "personalize: {blendmap_rate: 1e-3}")).personalize.blendmap_rate == 0.001
    assert load_config(Recipe, write(tmp_path, "track: {max_frames: null}")).track.max_frames is None


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config file"):
        load_config(Recipe, tmp_path / "none.yaml")


def test_names_of_older_versions_are_read_where_no_format_is_given(tmp_path: Path) -> None:
    recipe = load_config(Recipe, write(tmp_path, "personalize: {loss: {attention: 7.0}}\nnerf: {loss: {image: {attention: 2.0}}}"))
    assert recipe.personalize.loss.eyes_mouth == 7.0
    assert recipe.nerf.loss.image.eyes_mouth == 2.0
    with pytest.raises(ConfigError, match=r"unknown option 'personalize.loss.attention'"):
        load_config(Recipe, write(tmp_path, "format: 2\npersonalize: {loss: {attention: 7.0}}"))


def test_every_renamed_key_leads_to_one_that_exists() -> None:
    """A rename is of use only while its new name is a field somewhere in a recipe."""
    known: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            known.update(value)
            for item in value.values():
                collect(item)

    collect(asdict(Recipe()))
    collect(asdict(GeneralizeConfig()))
    assert {new for _, new in RENAMED_KEYS} <= known


def test_a_recipe_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="update the program"):
        load_config(Recipe, write(tmp_path, "format: 99\npersonalize: {}"))
