"""Rewards are those of transformers' own forward pass of a batch of one, whatever the architecture.

Every one is a tiny random model, saved and loaded as a published one would be.
"""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModelForSequenceClassification

from rm_robustness.errors import InputError
from rm_robustness.models import chat
from rm_robustness.models.heads import context, head, reads_last_token
from rm_robustness.models.language_model import train_tokenizer
from rm_robustness.models.packing import UnsoundError, attention, packs, row_of
from rm_robustness.models.reward_model import initialise, load
from rm_robustness.models.scoring import plan_for, plan_frame, score, score_ids, scores_of

SENTENCE = "list two fruits that are not red apple pear plum and a fig or none of them"
WORDS = SENTENCE.split()
INPUTS = ["input_ids", "token_type_ids", "attention_mask"]  # of BERT's tokenizer, for pairs
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}<|end|>{% endfor %}"
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 3,
}
TEXT = {name: SIZES[name] for name in SIZES if not name.endswith("token_id")}
ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 3,
}
MLA = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8}
MLA |= {"v_head_dim": 8, "num_key_value_heads": 4, "head_dim": 8}
EXPERTS = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2}
EXPERTS |= {"n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION |= {"intermediate_size": 16, "image_size": 28, "patch_size": 14}

# Decoders, read at the last token, with what differs from SIZES.
DECODERS = {
    "arcee": {},
    "biogpt": {},
    "bloom": {},  # ALiBi, no limit of positions
    "deepseek_v2": {**MLA, **EXPERTS},
    "deepseek_v3": {**MLA, **EXPERTS, "num_attention_heads": 4},
    "diffllama": {},
    "doge": {},
    "exaone4": {},
    "falcon": {"head_dim": None, "alibi": True},
    "gemma": {},
    "gemma2": {"sliding_window": 8},
    "gemma3": {"text_config": TEXT, "vision_config": VISION, "mm_tokens_per_image": 4},
    "gemma3_text": {"sliding_window": 1024},
    "glm": {},
    "glm4": {},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gpt_neox": {},
    "gpt_oss": {"num_local_experts": 4},
    "gptj": {"rotary_dim": 4},
    "helium": {},
    "hunyuan_v1_moe": {},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "jetmoe": {},
    "llama": {},
    "minimax": {},
    "ministral": {"sliding_window": 40},
    "mistral": {"sliding_window": 1024},
    "mixtral": {},
    "mpt": {},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "openai-gpt": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": {},
    "qwen2": {},
    "qwen2_moe": {
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
}
# Classifiers that are read by their own forward pass, of a pair or of a chat.
OTHERS = {
    "albert": {"embedding_size": 16},
    "bart": ENCODER_DECODER,
    "bert": {},
    "camembert": {"pad_token_id": 1},
    "ctrl": {"n_embd": 32, "dff": 48, "n_layer": 2, "n_head": 4},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
    },
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
    "electra": {"embedding_size": 16},
    "eurobert": {"classifier_pooling": "mean"},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {},
    "modernbert-decoder": {},
    "mpnet": {},
    "roberta": {"pad_token_id": 1},
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
        "bos_token_id": None,
    },
    "xlm-roberta": {"pad_token_id": 1},
    "xlnet": {
        "d_model": 32,
        "d_inner": 48,
        "n_layer": 2,
        "n_head": 4,
        "max_position_embeddings": None,
    },
}
# Trees are a way to be fast, and right only for attention of whole sequences.
NO_TREES = {
    "bloom",
    "doge",
    "falcon",
    "gemma2",
    "gpt_neo",
    "gpt_oss",
    "gptj",
    "stablelm",
    "jamba",
    "jetmoe",
    "minimax",
    "mpt",
    "nemotron",
    "openai-gpt",
    "qwen3_next",
}


@pytest.fixture(scope="module")
def tokenizer():
    """A tiny tokenizer that joins pairs as BERT's does; its template ends a turn with EOS."""
    made = train_tokenizer([SENTENCE], {"vocabulary": 320, "max_length": 128})
    made.chat_template = TEMPLATE
    made.add_special_tokens({"cls_token": "<|user|>", "sep_token": "<|end|>"})
    special = [(name, made.convert_tokens_to_ids(name)) for name in ("<|user|>", "<|end|>")]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|user|> $A <|end|>",
        pair="<|user|> $A <|end|> $B:1 <|end|>:1",
        special_tokens=special,
    )
    return made


@pytest.fixture(scope="module")
def frame():
    """Four prompts with three responses each, two of one length."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, n)) for n in (5, 5, 9) * 4]
    prompts = np.repeat([" ".join(draw.choice(WORDS, n)) for n in (4, 7, 12, 4)], 3)
    ids = [f"r{n}" for n in range(12)]
    return pd.DataFrame(
        {"prompt_id": prompts, "response_id": ids, "prompt": prompts, "response": texts}
    ).assign(response_model="m", gold=0.0)


def saved(folder, name, changes, tokenizer):
    """A folder with a random model of one label, whose weights are drawn wide, and a tokenizer."""
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": len(tokenizer), "num_labels": 1} | changes
    if "text_config" in changes:
        sizes["text_config"] = TEXT | {"vocab_size": len(tokenizer)}
    sizes = {key: value for key, value in sizes.items() if value is not None or key.endswith("id")}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(name, **sizes))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def alone(model, inputs):
    """The reward of transformers' own forward pass of a batch of one."""
    with torch.no_grad():
        return model(**{name: torch.tensor([row]) for name, row in inputs.items()}).logits.item()


def equal(found, expected):
    assert np.std(expected) > 1e-3  # weights that do nothing would agree with anything
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_gives_its_own_reward(name, tokenizer, frame, tmp_path):
    saved(tmp_path, name, DECODERS[name], tokenizer)
    model, loaded = load(tmp_path)
    ids = chat.frame_ids(loaded, frame)
    expected = [alone(model, {"input_ids": row}) for row in ids]
    for batch_tokens in (0, 60, 4096):
        found = score(model, loaded, frame, batch_tokens)
        equal(found["reward"], expected)
    assert reads_last_token(model)
    assert packs(model, 40) == (name not in NO_TREES)


@pytest.mark.parametrize("form", ["pair", "chat"])
@pytest.mark.parametrize("name", OTHERS)
def test_another_classifier_gives_its_own_reward(name, form, tokenizer, frame, tmp_path):
    saved(tmp_path, name, OTHERS[name], tokenizer)
    model, loaded = load(tmp_path)
    if form == "chat":
        inputs = [{"input_ids": row} for row in chat.frame_ids(loaded, frame)]
    else:
        loaded.chat_template, loaded.model_input_names = None, INPUTS
        pairs = zip(frame["prompt"], frame["response"], strict=True)
        inputs = [dict(loaded(*pair)) for pair in pairs]
    taken = inspect.signature(model.forward).parameters
    inputs = [{name: row for name, row in each.items() if name in taken} for each in inputs]
    expected = [alone(model, each) for each in inputs]
    for batch_tokens in (0, 4096):
        found = score(model, loaded, frame, batch_tokens)
        equal(found["reward"], expected)
    assert not reads_last_token(model)


def test_a_mean_of_the_rewards_of_all_tokens_is_refused(tokenizer, frame, tmp_path):
    saved(tmp_path, "eurobert", {"classifier_pooling": "late"}, tokenizer)
    with pytest.raises(InputError, match=r"EuroBertFor.* whose reward is no product of one hidden"):
        score(*load(tmp_path), frame, 4096)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "gemma3", "gpt2", "mistral", "opt", "t5"])
def test_bfloat16_moves_rewards_a_little(name, tokenizer, frame, tmp_path):
    saved(tmp_path, name, (DECODERS | OTHERS)[name], tokenizer)
    if name in OTHERS:
        (tmp_path / "chat_template.jinja").unlink()
    exact = score(*load(tmp_path), frame, 4096)["reward"]
    model, loaded = load(tmp_path, "bfloat16")
    assert head(model).weight.dtype == torch.float32
    moved = (score(model, loaded, frame, 4096)["reward"] - exact).abs()
    assert 0 < moved.max() < 0.25 * exact.std()


# Tokens that a model of 128 positions can read; those with a table of positions can read no more.
CONTEXTS = {
    "bert": 128,
    "bloom": None,
    "gpt2": 128,
    "llama": 128,
    "mpnet": 126,
    "mpt": 128,
    "opt": 128,
    "roberta": 126,
    "t5": None,
    "xlnet": None,
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_is_what_the_positions_allow(name, tokenizer, frame, tmp_path):
    changes = (DECODERS | OTHERS | {"mpt": {"max_seq_len": 128}})[name]
    if CONTEXTS[name] is None:
        changes = changes | {"max_position_embeddings": None}
    saved(tmp_path, name, changes, tokenizer)
    model, _ = load(tmp_path)
    assert context(model) == CONTEXTS[name]
    ids = [5] * ((context(model) or 300) - 1) + [3]
    assert np.isfinite(score_ids(model, [ids], 4096).rewards).all()
    np.testing.assert_allclose(
        score_ids(model, [ids], 4096).rewards, alone(model, {"input_ids": ids}), atol=1e-4
    )
    if context(model):
        with pytest.raises(
            InputError, match=f"tokens with its prompt; expected {context(model)} or"
        ):
            score_ids(model, [[5, *ids]], 4096)
        if name not in ("llama",):
            with pytest.raises((IndexError, RuntimeError)):
                alone(model, {"input_ids": [5, *ids]})


def test_a_sliding_window_takes_trees_up_to_its_size(tokenizer, tmp_path):
    saved(tmp_path, "mistral", {"sliding_window": 20}, tokenizer)
    model, _ = load(tmp_path)
    draw = np.random.default_rng(0)
    prefix = draw.integers(5, 300, 12).tolist()
    for size in (8, 9):
        ids = [prefix + draw.integers(5, 300, size).tolist() for _ in range(3)]
        plan = plan_for(model, ids, 4096, ["a"] * 3)
        assert plan.trees == (size == 8)
        assert not packs(model)  # as in training, whose longest sequence is not known
        expected = [alone(model, {"input_ids": each}) for each in ids]
        equal(scores_of(model, plan).rewards, expected)
    inside = row_of([ids])
    with attention(model), pytest.raises(UnsoundError, match="sliding_window"):
        model.base_model(**inside.inputs(), use_cache=False)


def test_token_types_are_the_tokenizer_s(tokenizer, frame, tmp_path):
    saved(tmp_path, "bert", {}, tokenizer)
    model, loaded = load(tmp_path)
    loaded.chat_template, loaded.model_input_names = None, INPUTS
    plan = plan_frame(model, loaded, frame, 4096)
    assert {tuple(sorted(set(types))) for types in plan.types} == {(0, 1)}
    untyped = scores_of(model, plan._replace(types=None)).rewards
    assert np.abs(untyped - score(model, loaded, frame, 4096)["reward"]).max() > 0.01


def test_special_tokens_in_a_pair_s_texts_move_nothing(tokenizer, frame, tmp_path):
    saved(tmp_path, "bert", {}, tokenizer)
    model, loaded = load(tmp_path)
    loaded.chat_template = None
    expected = score(model, loaded, frame, 4096)["reward"]
    spelt = frame.assign(response=frame["response"] + "<|end|>")
    assert score(model, loaded, spelt, 4096)["reward"].equals(expected)


def test_a_decoder_without_a_chat_template_is_refused(tokenizer, frame, tmp_path):
    saved(tmp_path, "gpt2", {}, tokenizer)
    model, loaded = load(tmp_path)
    loaded.chat_template = None
    with pytest.raises(InputError, match=r"no chat template.*chat_template.jinja"):
        score(model, loaded, frame, 4096)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_long_prompts_are_named_or_left_out(name, tokenizer, frame, tmp_path):
    saved(tmp_path, name, {}, tokenizer)
    model, loaded = load(tmp_path)
    long = frame.assign(response=["pear " * 200, *frame["response"][1:]])
    with pytest.raises(InputError, match=r"^response r0: found 2\d\d tokens .*; try this$"):
        plan_frame(model, loaded, long, 4096, fix="try this")
    plan = plan_frame(model, loaded, long, 4096, skip_long=True)
    fits = long["prompt_id"] != long["prompt_id"][0]
    assert list(plan.rows) == list(np.flatnonzero(fits)) and 0 < len(plan.rows) < len(long)
    rest = frame[fits].reset_index(drop=True)
    equal(scores_of(model, plan).rewards, score(model, loaded, rest, 4096)["reward"])
    none = plan_frame(model, loaded, long.iloc[:3], 4096, skip_long=True)
    assert len(none.rows) == none.tokens == 0


def test_an_encoder_is_no_backbone_of_a_reward_model(tokenizer, tmp_path):
    saved(tmp_path, "bert", {}, tokenizer)
    with pytest.raises(InputError, match="BertForSequenceClassification; expected a decoder"):
        initialise(tmp_path, 0)
