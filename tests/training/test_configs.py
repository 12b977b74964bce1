"""What recipes of training refuse."""

from __future__ import annotations

import pytest

from deja_vu.core.errors import ConfigError
from deja_vu.core.ranges import check_config
from deja_vu.training.gaussian_config import GaussianTrainConfig
from deja_vu.training.nelf_config import NelfTrainConfig
from deja_vu.training.nerf_config import NerfTrainConfig
from deja_vu.training.prior_config import PriorTrainConfig


@pytest.mark.parametrize("config", [GaussianTrainConfig, NerfTrainConfig, NelfTrainConfig, PriorTrainConfig])
def test_a_recipe_that_trains_nothing_is_refused(config) -> None:
    check_config(config(), "mine.yaml")
    with pytest.raises(ConfigError, match=r"^mine\.yaml: phases is empty.* Expected at least one"):
        check_config(config(phases=()), "mine.yaml")
