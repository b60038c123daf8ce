"""The sample of a scenario that is scored in float32 beside the preset's format."""

import numpy as np
import pytest
from support.small_models import make_backbone
from transformers import AutoTokenizer

from rm_robustness.evaluation.float32_sample import with_float32
from rm_robustness.frames import read_frame
from rm_robustness.models.reward_model import initialise, load, save
from rm_robustness.models.scoring import score


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    parent = tmp_path_factory.mktemp("float32")
    backbone = make_backbone("llama", world, parent / "backbone")
    save(initialise(backbone, 1), AutoTokenizer.from_pretrained(backbone), parent / "model")
    return parent / "model"


def test_the_first_prompts_in_file_order_have_their_rewards_in_float32_too(folder, splits):
    split = read_frame(splits / "prompt_disjoint.parquet")
    order = np.random.default_rng(0).permutation(len(split))  # a prompt's rows need not be adjacent
    split = split.iloc[order].reset_index(drop=True)
    exact = score(*load(folder), split, 4096)["reward"]
    rounded = score(*load(folder, "bfloat16"), split, 4096)
    found = with_float32(rounded, split, *load(folder), 3, 4096)
    sampled = split["prompt_id"].isin(list(dict.fromkeys(split["prompt_id"]))[:3])
    assert sampled.sum() == 12
    assert found["reward_float32"].dtype == np.float64
    assert found["reward_float32"][sampled].to_numpy() == pytest.approx(exact[sampled], abs=1e-6)
    assert found["reward_float32"][~sampled].isna().all()
    assert found.drop(columns="reward_float32").equals(rounded)


def test_more_prompts_than_there_are_is_all_of_them(folder, splits):
    split = read_frame(splits / "in_domain.parquet")[:8]
    model, tokenizer = load(folder)
    scores = score(model, tokenizer, split, 4096)
    found = with_float32(scores, split, model, tokenizer, 256, 4096)
    assert found["reward_float32"].to_list() == scores["reward"].to_list()
