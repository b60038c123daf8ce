"""Prompt trees give the rewards and gradients of a batch of one."""

import contextlib
import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification

from rm_robustness.errors import InputError
from rm_robustness.models import packing
from rm_robustness.models.packing import (
    attention,
    packs,
    row_of,
    shared_prefix,
    take_rows,
    tree_batches,
    tree_tokens,
    without_padding,
)
from rm_robustness.models.scoring import score_ids
from rm_robustness.objectives import OBJECTIVES

FAMILIES = ("llama", "qwen2", "gpt_neox")
SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 1,
}


@functools.cache
def model_of(family, **changes):
    """A small reward model whose attention matters: its weights are drawn ten times wider."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, "initializer_range": 0.2, **changes})
    return AutoModelForSequenceClassification.from_config(config).eval()


def alone(model, sequence):
    """The reward (1,) of a batch of one, by the classifier's own forward pass."""
    return model(input_ids=torch.tensor([sequence])).logits[0]


def in_row(model, prompts):
    """Rewards (N,) of the sequences of some prompts, read in one row."""
    row = row_of(prompts)
    with attention(model):
        states = model.base_model(**row.inputs(), use_cache=False).last_hidden_state
    return model.score(states[0, row.ends])[:, 0]


tokens = st.lists(st.integers(3, 60), min_size=1, max_size=12)
branches = st.lists(tokens, min_size=1, max_size=5)
trees = st.tuples(
    st.one_of(st.just([]), tokens, st.lists(st.integers(3, 60), max_size=90)), branches
)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(st.lists(trees, min_size=1, max_size=4))
@example([([], [[5], [6]])])  # nothing shared
@example([([5, 6], [[7, 8], [7, 8]])])  # identical responses
@example([([5, 6], [[7], [7, 8], [7, 8, 9]])])  # one within another
@example([([], [[5]]), ([], [[5]])])  # one token, one response
@example([([5] * 3, [[7] * 150, [8]])])  # very unequal lengths
@example([([], [[3], [3, 3, 3]])])  # equal states
def test_rewards_and_gradients_are_those_of_a_batch_of_one(family, trees):
    model = model_of(family)
    prompts = [[prefix + branch for branch in branches] for prefix, branches in trees]
    weights = torch.linspace(0.5, 1.5, sum(map(len, prompts)))  # of one sign: nothing cancels
    found = []
    for read in (
        lambda: torch.cat([alone(model, sequence) for each in prompts for sequence in each]),
        lambda: in_row(model, prompts),
    ):
        model.zero_grad()
        rewards = read()
        (rewards * weights).sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((rewards.detach(), gradients))
    (expected, exact), (rewards, gradients) = found
    torch.testing.assert_close(rewards, expected, rtol=1e-5, atol=1e-5)
    assert (gradients - exact).norm() <= 1e-4 * exact.norm() + 1e-5


@given(st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_row_has_every_token_once_and_whole_sequences(sequences):
    row = row_of([sequences])
    prefix = shared_prefix(list(dict.fromkeys(map(tuple, sequences))))
    (tree,) = row.trees
    assert sum(tree) == len(row.tokens) == len(row.positions) == tree_tokens(sequences)
    assert all(branch > 0 for branch in tree[1:])
    for sequence, end in zip(sequences, row.ends, strict=True):
        assert row.tokens[:prefix] == sequence[:prefix]
        own = len(sequence) - prefix
        assert row.tokens[end + 1 - own : end + 1] == sequence[prefix:]
        assert row.positions[end + 1 - own : end + 1] == list(range(prefix, len(sequence)))


def test_a_shared_prefix_leaves_every_sequence_a_token():
    assert shared_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert shared_prefix([[1, 2], [1, 2, 3]]) == 1
    assert shared_prefix([[1], [1, 2]]) == 0
    assert shared_prefix([[1, 2, 3]]) == 0


def test_rows_hold_whole_prompts_within_the_budget_the_longest_first():
    sequences = [[1, 2, 3], [1, 2, 4], [7, 7], [8] * 9, [8] * 10]
    batches = list(tree_batches(sequences, ["a", "a", "b", "c", "c"], 6))
    assert batches == [([[3, 4]], 11), ([[0, 1], [2]], 6)]


def test_a_prompt_that_a_template_renders_otherwise_with_its_response_shares_less():
    """The prefix is taken from the renderings, so a template need not be stable."""
    model, prompts = model_of("llama"), [[[9, 5, 6, 11], [10, 5, 6, 12]]]
    assert row_of(prompts).trees == [[0, 4, 4]]
    expected = torch.cat([alone(model, sequence) for sequence in prompts[0]])
    torch.testing.assert_close(in_row(model, prompts), expected, rtol=0, atol=1e-5)


def test_stock_attention_over_a_row_is_wrong_and_found():
    """What the trial of a model must find: positions alone do not separate the branches."""
    model, prompts = model_of("llama"), [[[5, 6, 7, 8], [5, 6, 9, 10, 11]]]
    row = row_of(prompts)
    inputs = row.inputs()
    del inputs["trees"]
    with torch.no_grad():
        states = model.base_model(**inputs, use_cache=False).last_hidden_state
    wrong = model.score(states[0, row.ends])[:, 0]
    assert (wrong - in_row(model, prompts)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("family", "changes", "why"),
    [
        ("mistral", {"sliding_window": 6}, "sliding_window"),
        ("gemma2", {"head_dim": 8}, "softcap"),
        ("gemma2", {"head_dim": 8, "layer_types": ["full_attention"] * 2}, "softcap"),
        (
            "llama",
            {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
            "positions of type dynamic",
        ),
        ("falcon", {}, "other states than alone"),
    ],
)
def test_a_model_that_trees_are_not_sound_for_is_read_without_them(family, changes, why, capsys):
    config = AutoConfig.for_model(family, **{**SIZES, "initializer_range": 0.2, **changes})
    model = AutoModelForSequenceClassification.from_config(config).eval()
    sequences = [[5, 6, 7, 8], [5, 6, 9], [11, 12, 13, 14]]
    scores = score_ids(model, sequences, 64, ["a", "a", "b"])
    lines = capsys.readouterr().err.splitlines()
    assert sum("reads no prompt trees" in line and why in line for line in lines) == 1
    with torch.no_grad():
        expected = [alone(model, sequence).item() for sequence in sequences]
    np.testing.assert_allclose(scores.rewards, expected, rtol=0, atol=1e-5)


def test_a_classifier_with_another_head_is_read_without_trees(capsys):
    config = AutoConfig.for_model("bert", **{**SIZES, "num_key_value_heads": None})
    assert not packs(AutoModelForSequenceClassification.from_config(config))
    assert "a head that is not named score" in capsys.readouterr().err


def test_the_attention_of_a_model_is_as_before_after_it_was_scored():
    model = model_of("llama")
    before = model.config._attn_implementation
    score_ids(model, [[5, 6, 7]], 64)
    assert packs(model)
    assert model.config._attn_implementation == before != packing.NAME


@contextlib.contextmanager
def memory_for(model, tokens):
    """The body raises as a GPU without memory does for a row of more tokens."""
    stock = model.base_model.forward

    def forward(*args, input_ids=None, **inputs):
        if input_ids.numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return stock(*args, input_ids=input_ids, **inputs)

    model.base_model.forward = forward
    try:
        yield
    finally:
        model.base_model.forward = stock


def test_a_batch_without_memory_is_read_in_two_halves():
    model, sequences = model_of("llama"), [[5, 6, 7], [5, 8], [9, 10], [11, 12, 13]]
    expected = score_ids(model, sequences, 64, list("aabc"))
    with memory_for(model, 5):
        found = score_ids(model, sequences, 64, list("aabc"))
    np.testing.assert_allclose(found.rewards, expected.rewards, rtol=0, atol=1e-6)


def test_a_prompt_without_memory_is_named():
    model, sequences = model_of("llama"), [[5, 6, 7, 8, 9], [5, 6, 8], [9, 10], [11, 12, 13]]
    with memory_for(model, 4), pytest.raises(InputError, match=r"prompt a: .*no memory.*fits"):
        score_ids(model, sequences, 64, list("aabc"))


def test_padding_at_the_end_is_never_read():
    assert without_padding([[3, 0, 4, 0, 0], [0], [0, 0]], 0) == [[3, 0, 4], [0], [0]]
    assert without_padding([[3, 0]], None) == [[3, 0]]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "norm-bt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_that_takes_rows_has_the_loss_of_padded_pairs(
    family, objective, checkpointing
):
    function = OBJECTIVES[objective].function
    pairs = [([5, 6, 7, 8], [5, 6, 9]), ([11, 12], [11, 13, 14, 15, 16, 17]), ([20], [21])]
    found = []
    for trees in (False, True):
        model = AutoModelForSequenceClassification.from_config(
            copy.deepcopy(model_of(family).config)
        ).train()
        model.load_state_dict(model_of(family).state_dict())
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if trees:
            take_rows(model)
            row = row_of(pairs)
            ends = torch.tensor(row.ends[0::2] + row.ends[1::2])
            logits = model(**row.inputs(), ends=ends, use_cache=False).logits
        else:
            ids = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
            longest = max(map(len, ids))
            padded = torch.tensor([each + [0] * (longest - len(each)) for each in ids])
            logits = model(input_ids=padded, attention_mask=(padded > 0).long()).logits
        chosen, rejected = logits[:, 0].chunk(2)
        loss = function(chosen, rejected)
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (expected, exact), (loss, gradients) = found
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert (gradients - exact).norm() <= 1e-4 * exact.norm() + 1e-5


def test_a_padded_batch_is_read_as_before_by_a_classifier_that_takes_rows():
    model = AutoModelForSequenceClassification.from_config(
        copy.deepcopy(model_of("llama").config)
    ).eval()
    padded = torch.tensor([[5, 6, 7, 8], [5, 9, 0, 0]])
    inputs = {"input_ids": padded, "attention_mask": (padded > 0).long()}
    with torch.no_grad():
        expected = model(**inputs).logits
        take_rows(model)
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_another_attention_between_forward_and_backward_is_refused(checkpointing):
    model = AutoModelForSequenceClassification.from_config(
        copy.deepcopy(model_of("llama").config)
    ).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    take_rows(model)
    row = row_of([[[5, 6, 7], [5, 8]]])
    logits = model(**row.inputs(), ends=torch.tensor(row.ends), use_cache=False).logits
    model.set_attn_implementation("sdpa")
    with pytest.raises(InputError, match="attention: found 'sdpa' in the backward pass"):
        logits.sum().backward()


def test_a_checkpoint_of_a_classifier_that_takes_rows_is_an_ordinary_one(tmp_path):
    model = AutoModelForSequenceClassification.from_config(
        copy.deepcopy(model_of("qwen2").config)
    ).eval()
    take_rows(model)
    model.save_pretrained(tmp_path)
    assert packing.NAME not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        rewards = loaded(input_ids=torch.tensor([[5, 6, 7]])).logits
        expected = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    torch.testing.assert_close(rewards, expected, rtol=0, atol=0)
    assert loaded.config._attn_implementation == "sdpa"


def test_half_precision_on_a_gpu_is_compared_with_attention_one_by_one(monkeypatch):
    """The check that stands before FlashAttention; the kernel itself needs a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    cpu, half = torch.device("cpu"), torch.bfloat16

    def wrong(queries, keys, values, scaling):  # aligned top left, as some kernels are
        return packing._one_by_one(queries, keys, [value * 1.5 for value in values], scaling)

    monkeypatch.setattr(packing, "_varlen", wrong)
    with pytest.raises(InputError, match=r"varlen_attn.*relative difference of [\d.]+ from"):
        packing._kernel.__wrapped__(cpu, half, 16)
    monkeypatch.setattr(packing, "_varlen", packing._one_by_one)
    assert packing._kernel.__wrapped__(cpu, half, 16) is packing._one_by_one

    def unsupported(*_):
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer")

    monkeypatch.setattr(packing, "_varlen", unsupported)
    assert packing._kernel.__wrapped__(cpu, half, 16) is packing._one_by_one
