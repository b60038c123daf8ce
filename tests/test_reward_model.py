import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rm_robustness.errors import InputError
from rm_robustness.reward_model import initialise, load, save


@pytest.fixture
def checkpoint(llama, tmp_path):
    from transformers import AutoTokenizer

    save(initialise(llama, seed=1), AutoTokenizer.from_pretrained(llama), tmp_path / "model")
    return tmp_path / "model"


def test_the_head_is_drawn_as_the_paper_says(llama):
    heads = torch.cat([initialise(llama, seed).score.weight for seed in range(60)])
    assert heads.shape == (60, 32)
    assert heads.std().item() == pytest.approx(33**-0.5, rel=0.05)
    assert abs(heads.mean().item()) < 0.02


def test_the_head_depends_on_the_seed_alone(llama):
    torch.manual_seed(7)
    one = initialise(llama, seed=3).score.weight
    torch.manual_seed(8)
    torch.rand(5)
    assert torch.equal(one, initialise(llama, seed=3).score.weight)
    assert not torch.equal(one, initialise(llama, seed=4).score.weight)


def test_weights_are_float32_and_the_body_is_the_backbone_s(llama):
    model = initialise(llama, seed=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    saved = load_file(llama / "model.safetensors")
    assert torch.equal(model.model.embed_tokens.weight, saved["model.embed_tokens.weight"])


def test_a_saved_model_is_an_ordinary_classifier(checkpoint):
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    model, tokenizer = load(checkpoint)
    assert plain.config.num_labels == 1
    assert torch.equal(plain.score.weight, model.score.weight)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def edit(checkpoint, change):
    weights = load_file(checkpoint / "model.safetensors")
    change(weights)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_head_is_refused(checkpoint):
    edit(checkpoint, lambda w: w.pop("score.weight"))
    with pytest.raises(InputError, match=r"score\.weight.*never made up"):
        load(checkpoint)


def test_a_renamed_head_is_refused(checkpoint):
    edit(checkpoint, lambda w: w.update({"reward_head.weight": w.pop("score.weight")}))
    with pytest.raises(InputError, match="reward_head"):
        load(checkpoint)


def test_a_causal_language_model_is_refused(llama):
    with pytest.raises(InputError, match="score"):
        load(llama)


def test_a_cut_file_is_refused(checkpoint):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{checkpoint.name}.*unreadable checkpoint"):
        load(checkpoint)


@pytest.mark.parametrize("rows", [-3, +3])
def test_a_vocabulary_of_another_size_is_refused(checkpoint, rows):
    def resize(weights):
        old = weights["model.embed_tokens.weight"]
        weights["model.embed_tokens.weight"] = (
            old[:rows].clone() if rows < 0 else torch.cat([old, old[:rows]])
        )

    edit(checkpoint, resize)
    config = json.loads((checkpoint / "config.json").read_text())
    words = config["vocab_size"]
    (checkpoint / "config.json").write_text(json.dumps(config | {"vocab_size": words + rows}))
    with pytest.raises(InputError, match=f"{words + rows} embeddings for {words} tokens"):
        load(checkpoint)


def test_weights_that_are_not_the_config_s_are_refused(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"vocab_size": 999}))
    with pytest.raises(InputError, match="checkpoint"):
        load(checkpoint)


def test_the_wrong_folder_is_refused(tmp_path, checkpoint):
    with pytest.raises(InputError, match=r"no config\.json"):
        load(tmp_path)
    shutil.rmtree(checkpoint)
    with pytest.raises(InputError, match="model"):
        load(checkpoint)
