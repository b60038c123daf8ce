import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from rm_robustness.data.gold import add_gold
from rm_robustness.errors import InputError
from rm_robustness.models import armorm

SPECIAL = ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "\n\n"]
WORDS = ["user", "assistant", "why", "is", "the", "sky", "blue", "it", "because", "of", "light"]
TEMPLATE = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny ArmoRM with a tokenizer, saved as the published one is."""
    folder = tmp_path_factory.mktemp("armorm")
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        num_objectives=19,
        gating_hidden_dim=12,
    )
    torch.manual_seed(0)
    model = armorm.ArmoRM(config)
    with torch.no_grad():  # untouched, these hide mistakes: small logits gate almost evenly
        for name, parameter in model.named_parameters():
            if not name.startswith("model."):
                parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *SPECIAL, *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed")])
    core.add_special_tokens(SPECIAL)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(weights, states, gate):
    """The published formula in numpy, from the body's states (T, H) of one chat."""
    w = {name: value.double().numpy() for name, value in weights.items()}
    x = states[gate]
    for i in range(3):
        x = np.maximum(w[f"gating.layers.{i}.weight"] @ x + w[f"gating.layers.{i}.bias"], 0)
    logits = w["gating.layers.3.weight"] @ x + w["gating.layers.3.bias"]
    share = np.exp(logits / 10) / np.exp(logits / 10).sum()
    rewards = w["regression_layer.weight"] @ states[-1]
    return float((share * w["gating.logit_scale"] * (rewards @ w["reward_transform_matrix"])).sum())


def test_scores_equal_the_formula_computed_by_hand(folder):
    model = armorm.load_armorm(str(folder), "float32")
    chats, gates = [[5, 1, 2, 6, 3, 4, 9, 10, 1], [6, 6, 1, 2, 6, 3, 4, 1]], [1, 2]
    with torch.inference_mode():
        states = [model.model(torch.tensor([c])).last_hidden_state[0].double() for c in chats]
    weights = load_file(folder / "model.safetensors")
    expected = [by_hand(weights, s.numpy(), g) for s, g in zip(states, gates, strict=True)]
    got = armorm.score_tokens(model, chats, gates, batch_tokens=64)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got.dtype == np.float64


def test_saved_parameters_have_the_published_names_and_come_back_equal(folder, tmp_path):
    model = armorm.load_armorm(str(folder), "float32")
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    heads = {name for name in saved if not name.startswith("model.")}
    layers = {f"gating.layers.{i}.{part}" for i in range(4) for part in ("weight", "bias")}
    assert heads == layers | {
        "gating.logit_scale",
        "regression_layer.weight",
        "reward_transform_matrix",
    }
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= saved.keys()
    for name, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(saved[name], value), name


def test_around_a_bfloat16_body_the_heads_keep_the_published_float32(folder, tmp_path):
    """As published: a body in bfloat16 and heads in float32, which bfloat16 would round."""
    weights = load_file(folder / "model.safetensors")
    published = {
        name: value.bfloat16() if name.startswith("model.") else value
        for name, value in weights.items()
    }
    rewrite(folder, tmp_path, published)
    loaded = armorm.load_armorm(str(tmp_path), "bfloat16").state_dict()
    for name, value in published.items():
        assert loaded[name].dtype == value.dtype, name
        assert torch.equal(loaded[name], value), name


@pytest.mark.parametrize(
    "name",
    ["gating.layers.2.bias", "gating.logit_scale", "reward_transform_matrix", "model.norm.weight"],
)
def test_a_missing_parameter_is_refused_by_name(folder, tmp_path, name):
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    rewrite(folder, tmp_path, weights)
    with pytest.raises(InputError, match=f"missing keys: {name}"):
        armorm.load_armorm(str(tmp_path), "float32")


def test_an_unexpected_parameter_is_refused_by_name(folder, tmp_path):
    weights = load_file(folder / "model.safetensors") | {"score.weight": torch.ones(1, 16)}
    rewrite(folder, tmp_path, weights)
    with pytest.raises(InputError, match=r"unexpected keys: score\.weight"):
        armorm.load_armorm(str(tmp_path), "float32")


def test_a_parameter_of_another_shape_is_refused_by_name(folder, tmp_path):
    weights = load_file(folder / "model.safetensors") | {
        "regression_layer.weight": torch.ones(3, 16)
    }
    rewrite(folder, tmp_path, weights)
    with pytest.raises(InputError, match=r"mismatched keys: .*regression_layer\.weight"):
        armorm.load_armorm(str(tmp_path), "float32")


def rewrite(folder, target, weights):
    (target / "config.json").write_text((folder / "config.json").read_text())
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def test_a_cut_file_and_an_empty_folder_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no readable model"):
        armorm.load_armorm(str(tmp_path), "float32")
    rewrite(folder, tmp_path, load_file(folder / "model.safetensors"))
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="no readable model"):
        armorm.load_armorm(str(tmp_path), "float32")


def test_a_name_of_the_hub_is_not_downloaded():
    with pytest.raises(InputError, match=r"no such folder; .*`rm-robustness pretrained`"):
        armorm.load_armorm("RLHFlow/ArmoRM-Llama3-8B-v0.1", "bfloat16")


def test_the_gate_is_where_the_last_opening_begins():
    assert armorm.gate_position([7, 1, 2, 3, 8, 1, 2, 3, 9], [1, 2, 3]) == 5
    assert armorm.gate_position([1, 2, 3], [1, 2, 3]) == 0
    with pytest.raises(ValueError, match="opening of an assistant turn"):
        armorm.gate_position([1, 2, 4, 3], [1, 2, 3])


def test_a_score_does_not_depend_on_what_is_scored_with_it(folder):
    model = armorm.load_armorm(str(folder), "float32")
    chats = [[5, 1, 6, 9, 10], [8, 1, 6, 9, 11], [5, 1, 6], [12, 1, 6, 2, 3, 4]]
    gates = [1, 1, 1, 1]
    together = armorm.score_tokens(model, chats, gates, batch_tokens=64)
    alone = [armorm.score_tokens(model, [c], [g], 0)[0] for c, g in zip(chats, gates, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len(set(together.round(4))) == 4


def test_texts_are_read_at_the_end_of_the_prompt_and_at_the_last_token(folder):
    settings = {"kind": "model", "model": str(folder), "dtype": "float32"}
    frame = pd.DataFrame({"prompt": ["why is the sky blue"], "response": ["because of light"]})
    gold = add_gold(frame, {**settings, "batch_tokens": 64})["gold"]
    ids = {word: i for i, word in enumerate(["[UNK]", *SPECIAL, *WORDS])}
    user = ["<|start_header_id|>", "user", "<|end_header_id|>", "\n\n"]
    user += [*["why", "is", "the", "sky", "blue"], "<|eot_id|>"]
    answer = ["<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"]
    answer += [*["because", "of", "light"], "<|eot_id|>"]
    chat = [ids[token] for token in user + answer]
    model = armorm.load_armorm(str(folder), "float32")
    # The gate reads the end of the user's turn, the last token of `user`.
    expected = armorm.score_tokens(model, [chat], [len(user) - 1], 0)
    np.testing.assert_allclose(gold, expected, rtol=1e-6)


def test_a_chat_longer_than_the_context_is_refused_with_its_row(folder):
    settings = {"model": str(folder), "dtype": "float32", "batch_tokens": 64}
    with pytest.raises(InputError, match=r"row 1: found a chat of 4\d tokens; expected at most 32"):
        armorm.armorm_scores(["why", "why"], ["light", "light " * 32], settings)


def test_a_template_without_the_opening_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    settings = {"model": str(tmp_path), "dtype": "float32", "batch_tokens": 64}
    with pytest.raises(InputError, match="row 0, chat template"):
        armorm.armorm_scores(["why"], ["light"], settings)
