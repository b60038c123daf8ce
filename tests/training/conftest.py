"""What RLOO's tests train and are trained against, made once for all of them."""

from pathlib import Path

import pytest
from support.small_rloo import make_policy, make_prompts, make_reward_model


@pytest.fixture(scope="session")
def policy(world, tmp_path_factory) -> Path:
    return make_policy(world, tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def reward_model(world, tmp_path_factory) -> Path:
    return make_reward_model(world, tmp_path_factory.mktemp("reward_model"))


@pytest.fixture(scope="session")
def prompts(splits, tmp_path_factory) -> Path:
    return make_prompts(splits, tmp_path_factory.mktemp("prompts"))
