from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deja_vu.core.config import dump_config, load_config
from deja_vu.core.errors import ConfigError
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
        ("personalize: {avatar: {uv_size: many}}", "uv_size"),
        ("[1, 2]", "mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Recipe, write(tmp_path, text))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config file"):
        load_config(Recipe, tmp_path / "none.yaml")
