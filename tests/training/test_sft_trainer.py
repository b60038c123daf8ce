import json

import pandas as pd
import pytest
import torch
from support.small_models import CHAT, INIT, SFT, make_backbone
from transformers import AutoModelForCausalLM, AutoTokenizer

from rm_robustness.errors import InputError
from rm_robustness.files import read_json
from rm_robustness.frames import write_frame
from rm_robustness.training.sft_trainer import build_backbone, conversations


@pytest.fixture(scope="module")
def chats(world, tmp_path_factory):
    frame = pd.DataFrame(
        {
            "messages": [
                [{"role": "user", "content": p}, {"role": "assistant", "content": r}]
                for p, r in zip(world["prompt"], world["response"], strict=True)
            ]
        }
    )
    path = tmp_path_factory.mktemp("chats") / "chats.parquet"
    write_frame(frame, path)
    return path


def section(**changes):
    return {"init": INIT, "chat": CHAT, "keep_layers": None} | changes


def test_sft_lowers_the_loss_and_leaves_a_causal_model(chats, tmp_path):
    folder = build_backbone(section(), SFT, chats, None, tmp_path / "work", "llama")
    record = read_json(folder / "record.json")
    assert record["steps"] > 10
    assert record["train_loss"] < 6.7  # ln(900) = 6.8 is what guessing gives
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_first_layers_of_a_pretrained_model_are_kept(architecture, world, tmp_path):
    whole_folder = make_backbone(architecture, world, tmp_path / "model")
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    folder = build_backbone(section(keep_layers=1), None, None, manifest, tmp_path / "work", "cut")
    cut = AutoModelForCausalLM.from_pretrained(folder)
    whole = AutoModelForCausalLM.from_pretrained(whole_folder)
    assert cut.config.num_hidden_layers == 1 == len(cut.model.layers)
    kept = cut.model.layers[0].mlp.up_proj.weight
    assert torch.equal(kept, whole.model.layers[0].mlp.up_proj.weight)


def test_a_turn_that_is_no_text_is_named_by_file_and_row(tmp_path):
    turns = [[{"role": "user", "content": text}] for text in ("a", None)]
    write_frame(pd.DataFrame({"messages": turns}), tmp_path / "chats.parquet")
    with pytest.raises(InputError, match=r"chats\.parquet, row 1: found content None"):
        build_backbone(section(), SFT, tmp_path / "chats.parquet", None, tmp_path / "w", "test")


def test_a_system_turn_goes_before_chats_that_have_none():
    frame = pd.DataFrame({"messages": [[{"role": "user", "content": "hi"}]]})
    assert conversations(frame, "")[0][0] == {"role": "system", "content": ""}
    assert conversations(frame, None)[0] == [{"role": "user", "content": "hi"}]


def test_settings_of_another_experiment_do_not_reuse_its_work(chats, tmp_path):
    one = build_backbone(section(), SFT | {"epochs": 0.3}, chats, None, tmp_path / "work", "a")
    steps = read_json(one / "record.json")["steps"]
    two = build_backbone(section(), SFT | {"epochs": 0.6}, chats, None, tmp_path / "work", "a")
    assert read_json(two / "record.json")["steps"] > steps
    identity = json.loads((tmp_path / "work/identity.json").read_text())
    assert identity["sft"]["epochs"] == 0.6
