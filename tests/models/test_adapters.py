"""An adapter merged onto its base gives the rewards of peft's own unmerged model."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rm_robustness.errors import InputError
from rm_robustness.files import sha256
from rm_robustness.frames import read_frame
from rm_robustness.models import adapters, chat
from rm_robustness.models.checkpoint import weight_files
from rm_robustness.models.language_model import load_language_model
from rm_robustness.models.reward_model import load
from rm_robustness.models.scoring import score

peft = pytest.importorskip("peft")


@pytest.fixture
def adapted(llama, tmp_path):
    """peft's model on a language model without a head, and the folder that it was saved to."""
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=1)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, target_modules=["q_proj", "down_proj"], modules_to_save=["score"]
    )
    model = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora" in name or "score" in name:
                weight.normal_(0, 0.3)
    model.save_pretrained(tmp_path / "adapter")
    return model, tmp_path / "adapter"


@pytest.fixture
def rows(splits):
    return read_frame(splits / "in_domain.parquet").head(12)


def test_a_merged_adapter_gives_the_rewards_of_the_unmerged_one(adapted, llama, rows):
    unmerged, folder = adapted
    tokenizer = AutoTokenizer.from_pretrained(llama)
    with torch.no_grad():
        expected = [
            unmerged(input_ids=torch.tensor([ids])).logits.item()
            for ids in chat.frame_ids(tokenizer, rows)
        ]
    model, loaded = load(folder)
    assert type(model).__name__ == "LlamaForSequenceClassification"
    found = score(model, loaded, rows, 4096)["reward"]
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_tokenizer_beside_an_adapter_is_its_own(adapted, llama):
    _, folder = adapted
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = "{{ messages[0]['content'] }}{{ messages[1]['content'] }}"
    tokenizer.save_pretrained(folder)
    assert load(folder)[1].chat_template == tokenizer.chat_template


def edit(folder, change):
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def test_a_missing_weight_is_refused_not_drawn(adapted):
    _, folder = adapted
    edit(folder, lambda w: w.pop(next(name for name in w if "lora_B" in name)))
    with pytest.raises(InputError, match=r"missing or unexpected weights .*lora_B"):
        load(folder)


def test_a_reward_head_in_neither_is_refused(adapted):
    _, folder = adapted
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modules_to_save": None}))
    edit(folder, lambda w: [w.pop(name) for name in list(w) if "score" in name])
    with pytest.raises(InputError, match=r"score|missing or unexpected"):
        load(folder)


def test_without_peft_the_line_says_what_to_install(adapted, monkeypatch):
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"found an adapter; .*pip install peft"):
        load(adapted[1])


def test_a_base_that_is_not_there_is_named(adapted):
    _, folder = adapted
    path = folder / "adapter_config.json"
    base = {"base_model_name_or_path": "/no/such/base"}
    path.write_text(json.dumps(json.loads(path.read_text()) | base))
    with pytest.raises(InputError, match=r"adapter, its base model /no/such/base: found no folder"):
        load(folder)


def test_the_files_of_an_adapter_are_its_weights_and_its_configuration(adapted):
    _, folder = adapted
    files = weight_files(folder)
    assert [path.name for path in files] == ["adapter_model.safetensors", "adapter_config.json"]
    assert all(sha256(path) for path in files)


def test_an_adapter_is_no_language_model(adapted):
    with pytest.raises(
        InputError, match=r"found an adapter; expected a whole language model; merge"
    ):
        load_language_model(adapted[1], "float32")
