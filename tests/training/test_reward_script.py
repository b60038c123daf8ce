"""`rm-robustness reward`: TRL's keys, every objective, and one line for each mistake."""

import json
import re
import shutil
import sys

import pytest
import torch
from support.paths import ROOT

from rm_robustness.cli.main import main
from rm_robustness.models.reward_model import load as load_reward_model
from rm_robustness.objectives import OBJECTIVES
from rm_robustness.training.reward_script import ObjectiveArguments

sys.path.insert(0, str(ROOT / "examples"))
from bsr_in_your_training import load, preferences


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What `bsr_in_your_training.py --write small` writes, smaller."""
    folder = tmp_path_factory.mktemp("reward")
    for part in load(None):
        part.save_pretrained(folder / "small/model")
    preferences(64, seed=1).to_json(folder / "small/pairs.jsonl")
    preferences(16, seed=2).to_parquet(folder / "small/pairs.parquet")
    shutil.copy(ROOT / "examples/reward.yaml", folder / "reward.yaml")
    return folder


def reward(small, monkeypatch, *options):
    monkeypatch.chdir(small)
    main(["reward", "--config", "reward.yaml", "--num_train_epochs", "1", *options])


def test_the_example_trains_a_plain_checkpoint_with_its_tokenizer(small, monkeypatch, capsys):
    reward(small, monkeypatch, "--disable_tqdm", "true")
    assert "the reward model is in small/reward-model" in capsys.readouterr().err
    model, tokenizer = load_reward_model(small / "small/reward-model")
    assert tokenizer.chat_template == load(None)[1].chat_template
    before = load(None)[0]
    for (name, new), (_, old) in zip(
        model.named_parameters(), before.named_parameters(), strict=True
    ):
        assert not torch.equal(new, old), name


def test_options_of_the_command_line_replace_those_of_the_file(small, monkeypatch):
    options = ["--dataset_name", "small/pairs.parquet", "--output_dir", "small/parquet"]
    reward(small, monkeypatch, *options, "--max_steps", "1", "--save_strategy", "steps")
    state = json.loads((small / "small/parquet/checkpoint-1/trainer_state.json").read_text())
    assert state["global_step"] == 1


def test_lora_saves_an_adapter_and_says_how_to_read_it(small, monkeypatch, capsys):
    pytest.importorskip("peft")
    reward(small, monkeypatch, "--use_peft", "true", "--output_dir", "small/lora")
    assert "adapter (read with its base model, where peft is" in capsys.readouterr().err
    config = json.loads((small / "small/lora/adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"  # with which the head is trained and saved too


BROKEN = {"columns.jsonl": {"a": "b"}, "types.jsonl": {"chosen": 1, "rejected": 2}}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--objectiv", "bt"], "found '--objectiv'; .*did you mean 'objective'"),
        (["--objective", "bt-bs"], "objective: found 'bt-bs'; .*did you mean 'bt-bsr'"),
        (["--margin", "2"], "margin: found 2.0; .*'bt-bsr' takes: weight, reduction"),
        (["--learning_rate", "abc"], "invalid float value: 'abc'"),
        (["--dataset_name", "nix.jsonl"], "dataset_name: found no file 'nix.jsonl'"),
        (["--dataset_name", "columns.jsonl"], "found the columns a; expected chosen and rejected"),
        (["--dataset_name", "types.jsonl"], "error: small/model: found "),
        (["--dataset_name", "broken.jsonl"], "error: broken.jsonl: found .*JSON"),
        (["--eval_strategy", "epoch"], "found the splits train; expected a split 'test'"),
        (["--trust_remote_code", "true"], "trust_remote_code: found true"),
        (["--report_to", "trackoi"], "trackoi is not supported"),
        (["--model_name_or_path", "small/nix"], "error: small/nix: found "),
        (["--train_sampling_strategy", "group_by_length"], "without lengths of the pairs"),
    ],
)
def test_a_mistake_is_one_line(options, line, small, monkeypatch, capsys):
    for name, row in BROKEN.items():
        (small / name).write_text(json.dumps(row) + "\n")
    (small / "broken.jsonl").write_text("x{\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit, match="2"):
        reward(small, monkeypatch, *options, "--output_dir", "small/none")
    (last,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("rm-robustness:")]
    assert re.search(line, last)
    assert not (small / "small/none/model.safetensors").exists()


def test_an_unknown_key_of_the_file_is_named_with_the_nearest_one(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text("learning_rat: 1\n")
    with pytest.raises(SystemExit, match="2"):
        main(["reward", f"--config={tmp_path / 'x.yaml'}"])
    assert "unknown key 'learning_rat'; expected a known one; did you mean 'learning_rate'?" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_its_options_here(name):
    taken = ObjectiveArguments(objective=name).function()
    assert taken.func is OBJECTIVES[name].function
