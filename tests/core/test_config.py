from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deja_vu.core.config import config_text, load_config
from deja_vu.core.errors import ConfigError, FormatError
from deja_vu.core.upgrade import CONFIG_FORMAT, RENAMED_KEYS
from deja_vu.io.files import write_atomic
from deja_vu.pipelines.configs import GeneralizeConfig
from deja_vu.pipelines.recipes import Recipe
from deja_vu.training.config import ImageLossWeights
from deja_vu.training.gaussian_config import GaussianPhase


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_overrides_change_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    text = "gaussian:\n  avatar: {blendmaps: 3}\n  phases: [{steps: 5, resolution: 64, learning_rate: 1}]\n"
    recipe = load_config(Recipe, write(tmp_path, text))
    assert recipe.gaussian.avatar.blendmaps == 3
    assert recipe.gaussian.phases == (GaussianPhase(5, 64, 1.0),)
    assert recipe.track == Recipe().track
    assert recipe.gaussian.loss == Recipe().gaussian.loss


def test_a_field_keeps_its_own_defaults_where_its_class_has_others(tmp_path: Path) -> None:
    image = load_config(Recipe, write(tmp_path, "nerf:\n  loss: {huber: 5.0}\n")).nerf.loss
    assert image == replace(Recipe().nerf.loss, huber=5.0)
    assert image.dssim != ImageLossWeights().dssim, "the class's default is another one"


def test_a_dumped_recipe_reads_back_equal(tmp_path: Path) -> None:
    write_atomic(tmp_path / "all.yaml", config_text(Recipe()))
    assert load_config(Recipe, tmp_path / "all.yaml") == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gausian: {}", "Did you mean 'gaussian'"),
        ("gaussian: {avatar: {uvsize: 64}}", "Did you mean 'uv_size'"),
        ("gaussian: {phases: [{stepz: 5}]}", "Did you mean 'steps'"),
        ("gaussian: {avatar: {uv_size: many}}", "gaussian.avatar.uv_size is 'many'. Expected a whole number from 64 to 512"),
        ("gaussian: {avatar: {uv_size: 64.5}}", "gaussian.avatar.uv_size is 64.5. Expected a whole number"),
        ("gaussian: {avatar: {uv_size: 0}}", "gaussian.avatar.uv_size is 0. Expected a number from 64 to 512"),
        ("gaussian: {avatar: {correction: 1}}", "gaussian.avatar.correction is 1. Expected true or false"),
        ("gaussian: {learning_rates: {blendmaps: fast}}", "gaussian.learning_rates.blendmaps is 'fast'. Expected a number"),
        ("gaussian: {phases: [{steps: 5, resolution: 64, learning_rate: fast}]}", "gaussian.phases.0.learning_rate is 'fast'"),
        ("gaussian: {phases: 3}", "gaussian.phases is 3. Expected a list"),
        ("gaussian: {avatar: {blend_size: 512}}", "gaussian.avatar: blend_size 512 is more than uv_size 256"),
        ("track: {split: middle}", "track.split is 'middle'. Expected tail or blocks"),
        ("track: {max_frames: -5}", "track.max_frames is -5. Expected a number from 1 up"),
        ("track: {fit: {focal_ratio: .nan}}", "track.fit.focal_ratio is nan"),
        ("track: {fit: {focal_range: [4, 0.5]}}", "track.fit: focal_range goes from 4 to 0.5. Expected the least first"),
        ("track: {fit: {start_ratios: []}}", "track.fit: start_ratios is empty"),
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
    recipe = load_config(Recipe, write(tmp_path, "gaussian: {code_noise: 1e-3}"))
    assert recipe.gaussian.code_noise == 0.001
    assert load_config(Recipe, write(tmp_path, "track: {max_frames: null}")).track.max_frames is None


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config file"):
        load_config(Recipe, tmp_path / "none.yaml")


OLDER = [
    (
        "track: {photometric: {lift_frames: 5, lift_passes: 1, lift_robust: 2.0}}",
        "track: {photometric: {texture_frames: 5, texture_passes: 1, texture_robust: 2.0}}",
    ),
    (
        "personalize: {loss: {attention: 7.0, unseen: 2.0, sides: 3.0}}",
        "gaussian: {loss: {eyes_mouth: 7.0}, regularizers: {unseen: 2.0, novel_views: 3.0}}",
    ),
    ("personalize: {start: network, lift_frames: 3, network_frames: 4}", "gaussian: {init: prior, lift: {frames: 3, prior_frames: 4}}"),
    ("personalize: {start: none, validation_share: 0.5}", "gaussian: {init: gray, validation: {share: 0.5}}"),
    ("gaussian: {init: grey}", "gaussian: {init: gray}"),
    ("track: {detection: {same_look: 0.1, alone_look: 0.2}}", "track: {detection: {same_appearance: 0.1, alone_appearance: 0.2}}"),
    (
        "personalize: {sides: {every: 2, least: 0.1, most: 0.2, set_share: 0.3, strength: 0.4}}",
        "gaussian: {novel_views: {every: 2, min_yaw: 0.1, max_yaw: 0.2, random_expression_share: 0.3, max_expression: 0.4}}",
    ),
    (
        "personalize: {blendmap_rate: 0.5, code_rate: 0.6, correction_rate: 0.7}",
        "gaussian: {learning_rates: {blendmaps: 0.5, code: 0.6, correction: 0.7}}",
    ),
    (
        "personalize: {phases: [{steps: 1, resolution: 64, learning_rate: 1.0, blendmaps: true}]}",
        "gaussian: {phases: [{steps: 1, resolution: 64, learning_rate: 1.0, blendmaps: true}]}",
    ),
    (
        "nerf: {loss: {image: {attention: 2.0, sides: 9.0, opacity: 9.0}, l1: 3.0, opacity: 4.0, fine: 5.0}}",
        "nerf: {loss: {eyes_mouth: 2.0, l1: 3.0}, regularizers: {opacity: 4.0, fine: 5.0}}",
    ),
    (
        "nerf: {planes_rate: 1.0, points_rate: 2.0, slow_rate: 3.0, code_rate: 4.0, beta1: 0.5}",
        "nerf: {learning_rates: {planes: 1.0, points: 2.0, slow: 3.0, code: 4.0}, adam: {beta1: 0.5}}",
    ),
    (
        "nelf: {warp_rate: 0.5, loss: {rays: 1.0, l2: 2.0}}",
        "nelf: {learning_rates: {warp: 0.5}, regularizers: {rays: 1.0}, loss: {l2: 2.0}}",
    ),
    (
        "nelf: {phases: [{steps: 1, resolution: 64, learning_rate: 1.0, enlarge: true}]}",
        "nelf: {phases: [{steps: 1, resolution: 64, learning_rate: 1.0}]}",
    ),
]


@pytest.mark.parametrize(("old", "new"), OLDER)
@pytest.mark.parametrize("version", ["", "format: 2\n", "format: 3\n"], ids=["no format", "format 2", "format 3"])
def test_names_of_older_versions_are_read(tmp_path: Path, old: str, new: str, version: str) -> None:
    recipe = load_config(Recipe, write(tmp_path, version + old))
    assert recipe == load_config(Recipe, write(tmp_path, f"format: {CONFIG_FORMAT}\n{new}"))
    assert recipe != Recipe()
    assert recipe == load_config(Recipe, write(tmp_path, new)), "today's names stay where no format is given"


def test_names_of_an_older_stage_are_read(tmp_path: Path) -> None:
    old, new = "{loss: {position: 0.5, unseen: 9.0}, consistency: 0.3}", "{regularizers: {position: 0.5, consistency: 0.3}}"
    assert load_config(GeneralizeConfig, write(tmp_path, old)) == load_config(GeneralizeConfig, write(tmp_path, new)) != GeneralizeConfig()


def test_older_names_are_refused_where_todays_are_promised(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'gaussian\.loss\.attention'"):
        load_config(Recipe, write(tmp_path, f"format: {CONFIG_FORMAT}\ngaussian: {{loss: {{attention: 7.0}}}}"))


@pytest.mark.parametrize("path", ["gaussian", "nerf", "nelf"])
@pytest.mark.parametrize("key", ["loss: {sides: 1.0}", "loss: {position: 1.0}", "loss: {blendmaps: 1.0}", "phases: [{nonsense: 1}]"])
def test_what_a_path_does_not_use_is_not_accepted(tmp_path: Path, path: str, key: str) -> None:
    with pytest.raises(ConfigError, match="unknown option"):
        load_config(Recipe, write(tmp_path, f"format: {CONFIG_FORMAT}\n{path}: {{{key}}}"))


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
    assert {name for _, new in RENAMED_KEYS if new for name in new.split(".")} <= known


def test_a_recipe_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="update the program"):
        load_config(Recipe, write(tmp_path, "format: 99\npersonalize: {}"))
