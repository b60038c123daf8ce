"""The gold of policies' samples: the mean of what the reward models say (D51)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from rm_robustness.cli.main import main
from rm_robustness.errors import InputError
from rm_robustness.files import read_json, sha256
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models.ensemble import mean_rewards
from rm_robustness.models.reward_model import initialise, load, save
from rm_robustness.models.scoring import score


@pytest.fixture(scope="module")
def models(llama, tmp_path_factory):
    """Two reward models; the rewards of the second are three times those of the first."""
    folders = []
    for times in (1, 3):
        model, tokenizer = initialise(llama, 5), AutoTokenizer.from_pretrained(llama)
        model.score.weight.data *= times
        folders.append(tmp_path_factory.mktemp("model") / f"seed-{times}")
        save(model, tokenizer, folders[-1])
    return [str(folder) for folder in folders]


def settings(models, **changes):
    return {"models": models, "batch_tokens": 512, "dtype": "float32"} | changes


def rewards_of(folder, frame):
    model, tokenizer = load(folder)
    rows = frame.assign(prompt_id=frame["prompt"], response_id=range(len(frame)))
    return score(model, tokenizer, rows, 0)["reward"].to_numpy()


def test_the_gold_is_the_mean_of_the_models_own_scores(models, world):
    frame = world.head(6)
    texts = list(frame["prompt"]), list(frame["response"])
    single = mean_rewards(*texts, settings(models[:1]))
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, rewards_of(models[0], frame), atol=1e-6)
    assert np.ptp(single) > 1e-3
    np.testing.assert_allclose(mean_rewards(*texts, settings(models)), 2 * single, rtol=1e-4)


def test_a_policy_s_empty_answer_has_a_gold_too(models):
    assert np.isfinite(mean_rewards(["a question"] * 2, ["", "one"], settings(models))).all()


def test_a_response_too_long_and_a_broken_model_are_refused_in_one_line(models, llama, tmp_path):
    with pytest.raises(InputError, match=r"tokens with its prompt.* lower rloo\.prompt_length"):
        mean_rewards(["a question"], ["word " * 200], settings(models))
    model = initialise(llama, 5)
    model.score.weight.data[0, 0] = float("nan")
    save(model, AutoTokenizer.from_pretrained(llama), tmp_path / "broken")
    with pytest.raises(InputError, match="broken: found a reward that is not finite"):
        mean_rewards(["a question"], ["one"], settings([str(tmp_path / "broken")]))


def test_the_record_names_the_bytes_of_every_model(models, tmp_path):
    columns = {"example_id": "e", "prompt": "a question", "response_model": "standard-bt"}
    samples = pd.DataFrame([columns | {"response": text} for text in ("one", "two")])
    write_frame(samples, tmp_path / "samples.parquet")
    files = ["--responses", str(tmp_path / "samples.parquet")]
    section = {"kind": "reward_models"} | settings(models)
    output = tmp_path / "standard-bt.parquet"
    main(["gold", "--settings", json.dumps(section), *files, "--output", str(output)])
    assert read_frame(output)["gold"].notna().all()
    record = read_json(tmp_path / "standard-bt.record.json")
    weights = {f"{folder}/model.safetensors" for folder in models}
    inputs = record["inputs"].values()
    assert {entry["path"] for entry in inputs} == {*weights, str(tmp_path / "samples.parquet")}
    for entry in inputs:
        assert entry["sha256"] == sha256(Path(entry["path"]))
    assert record["settings"] == section and record["left_out"] == []
