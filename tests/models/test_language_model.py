"""Language models: their loading, and small ones made from config."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_models import INIT
from transformers import AutoTokenizer

from rm_robustness.errors import InputError
from rm_robustness.models.language_model import load_language_model, train_tokenizer


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


def test_a_language_model_is_loaded_in_the_requested_dtype(llama):
    model, tokenizer = load_language_model(llama, "bfloat16")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert tokenizer("<|end|>")["input_ids"] == [model.config.eos_token_id]


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json") as error:
        load_language_model(tmp_path, torch.float32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight"])
def test_a_missing_weight_is_never_drawn_at_random(name, llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"weights \['{name}'\].*a language model"):
        load_language_model(folder, torch.float32)


def test_an_unexpected_weight_is_never_dropped(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "model")
    weights = load_file(folder / "model.safetensors") | {"score.weight": torch.zeros(1, 32)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"weights \['score\.weight'\]"):
        load_language_model(folder, torch.float32)
