"""The formulas of memory and work, against real models and trainings on the CPU."""

import warnings
from typing import Any

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from trl.trainer import utils as trl_utils

from rm_robustness.cluster import model_cost as footprint
from rm_robustness.cluster.model_cost import (
    Shape,
    forward_flops,
    inference_memory,
    parameters,
    prompt_trees,
    sequences,
    training_flops,
    training_memory,
)

LARGE = {
    "Llama-3.2-1B": (Shape("llama", 128256, 2048, 8192, 16, 32, 8, True), 1_235_814_400),
    "Llama-3.2-3B": (Shape("llama", 128256, 3072, 8192, 28, 24, 8, True), 3_212_749_824),
    "Llama-3.1-8B": (Shape("llama", 128256, 4096, 14336, 32, 32, 8, False), 8_030_261_248),
    "Qwen2.5-1.5B": (Shape("qwen2", 151936, 1536, 8960, 28, 12, 2, True), 1_543_714_304),
    "Qwen2.5-3B": (Shape("qwen2", 151936, 2048, 11008, 36, 16, 2, True), 3_085_938_688),
    "Qwen2.5-7B": (Shape("qwen2", 152064, 3584, 18944, 28, 28, 4, False), 7_615_616_512),
    "SmolLM2-135M": (Shape("llama", 49152, 576, 1536, 30, 9, 3, True), 134_515_008),
}
SMALL = {
    "narrow": Shape("llama", 500, 64, 192, 4, 4, 2, False),
    "wide": Shape("llama", 300, 64, 512, 2, 4, 4, False),
    "deep": Shape("qwen2", 500, 48, 128, 8, 4, 2, True),
}


def model_of(shape: Shape, reward: bool, attention: str = "sdpa") -> Any:
    config = AutoConfig.for_model(
        shape.architecture,
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        tie_word_embeddings=shape.tied,
        pad_token_id=0,
        num_labels=1,
        attn_implementation=attention,
    )
    kind = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    return kind.from_config(config, dtype=torch.float32)


@pytest.mark.parametrize(("shape", "published"), LARGE.values(), ids=list(LARGE))
def test_parameters_are_those_of_the_real_models(shape, published):
    assert parameters(shape) == published
    with torch.device("meta"):
        language, reward = model_of(shape, False), model_of(shape, True)
    assert language.num_parameters() == parameters(shape)
    assert reward.num_parameters() == parameters(shape, reward=True)


def batch_of(shape: Shape, sequences: int, length: int, masked: bool) -> dict[str, torch.Tensor]:
    ids = torch.randint(2, shape.vocabulary, (sequences, length))
    mask = torch.ones_like(ids)
    if masked:
        ids[0, length // 2 :] = mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def peak(tracker: MemTracker) -> dict[str, int]:
    found = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    return {getattr(kind, "value", kind): count for kind, count in found.items()}


def measured(
    shape: Shape,
    reward: bool,
    sequences: int,
    length: int,
    masked: bool,
    bf16: bool,
    checkpointing: bool,
) -> tuple[dict[str, int], dict[str, int]]:
    """The peaks of a micro-batch and of a step, once gradients and moments are there."""
    torch.manual_seed(0)
    model = model_of(shape, reward).train()
    if not reward:
        trl_utils.add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    batch = batch_of(shape, sequences, length, masked)

    def micro_batch() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if reward:
                loss = model(**batch, use_cache=False).logits.float().square().mean()
            else:
                loss = model(**batch, labels=batch["input_ids"], fused_lm_head=True).loss
        loss.backward()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checkpointing, on a machine without a GPU
        micro_batch()
        optimizer.step()
        seen = []
        for act in (micro_batch, optimizer.step):
            tracker = MemTracker()
            tracker.track_external(model, optimizer)
            with tracker:
                act()
            seen.append(peak(tracker))
    return seen[0], seen[1]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["all saved", "checkpointing"])
@pytest.mark.parametrize(
    ("name", "masked", "bf16"),
    [
        ("narrow", False, False),
        ("narrow", True, False),
        ("narrow", True, True),
        ("wide", False, True),
        ("wide", True, False),
        ("deep", False, False),
        ("deep", True, True),
    ],
)
def test_the_memory_of_training_a_reward_model_is_as_measured(name, masked, bf16, checkpointing):
    """Weights, gradients and moments to the byte; activations and the whole within 4 %."""
    shape, case = SMALL[name], {"masked": masked, "bf16": bf16, "checkpointing": checkpointing}
    expected = training_memory(shape, reward=True, sequences=8, length=96, **case)
    seen, _ = measured(shape, True, 8, 96, **case)
    assert seen["Parameter"] == expected["weights"]
    assert seen["Gradient"] == expected["gradients"]
    steps = 4 * sum(1 for _ in model_of(shape, True).parameters())  # a counter a tensor
    assert seen["Optstate"] - steps == expected["optimizer"]
    states = sum(seen[kind] for kind in ("Parameter", "Buffer", "Gradient", "Optstate"))
    moving = expected["activations"] + expected["copies"]
    assert moving == pytest.approx(seen["Total"] - states, rel=0.04)
    assert sum(expected.values()) == pytest.approx(seen["Total"], rel=0.04)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["all saved", "checkpointing"])
def test_the_memory_of_training_a_language_model_is_as_measured(monkeypatch, checkpointing, bf16):
    """Within 10 %; tiles are 64 words wide here, as the CPU needs more than one of them."""
    monkeypatch.setattr(trl_utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", 64)
    monkeypatch.setattr(footprint, "TILE", (4096, 64))
    shape = SMALL["narrow"]._replace(vocabulary=3000)
    case = {"masked": False, "bf16": bf16, "checkpointing": checkpointing}
    expected = training_memory(shape, reward=False, sequences=8, length=96, **case)
    seen, _ = measured(shape, False, 8, 96, **case)
    assert seen["Parameter"] == expected["weights"]
    assert sum(expected.values()) == pytest.approx(seen["Total"], rel=0.10)


def test_the_step_of_adamw_needs_one_more_tensor_for_every_weight():
    shape = SMALL["wide"]._replace(vocabulary=3000)
    case = {"masked": False, "bf16": False, "checkpointing": True}
    _, seen = measured(shape, True, 1, 8, **case)
    expected = training_memory(shape, reward=True, sequences=1, length=8, **case)
    assert sum(expected.values()) == pytest.approx(seen["Total"], rel=0.02)
    fused = training_memory(
        shape, reward=True, sequences=1, length=8, **case, optimizer="adamw_torch_fused"
    )
    assert fused["activations"] < expected["activations"]


@pytest.mark.parametrize("name", SMALL)
def test_the_memory_of_scoring_is_as_measured(name):
    shape = SMALL[name]
    model, batch = model_of(shape, True).eval(), batch_of(shape, 16, 96, False)
    tracker = MemTracker()
    tracker.track_external(model)
    with torch.no_grad(), tracker:
        model.base_model(input_ids=batch["input_ids"], use_cache=False)
    seen, expected = peak(tracker), inference_memory(shape, 16 * 96, 4)
    assert seen["Parameter"] == expected["weights"]
    assert sum(expected.values()) == pytest.approx(seen["Total"], rel=0.02)


@pytest.mark.parametrize("reward", [True, False], ids=["reward", "language"])
@pytest.mark.parametrize("name", SMALL)
def test_the_work_of_a_forward_and_a_backward_pass_is_as_counted(name, reward):
    shape = SMALL[name]
    model, batch = model_of(shape, reward, "eager"), batch_of(shape, 4, 64, False)
    forward = FlopCounterMode(display=False)
    with forward:
        logits = model(**batch, use_cache=False).logits
    both = FlopCounterMode(display=False)
    with both:
        logits.float().square().sum().backward()
    counted, read = forward.get_total_flops(), sequences(4 * 64, 64)
    assert forward_flops(shape, read, reward) == pytest.approx(counted, rel=0.01)
    whole = counted + both.get_total_flops()
    head = 0 if reward else 2 * 4 * 64 * shape.hidden_size * shape.vocabulary  # TRL's, once more
    assert training_flops(shape, read, reward, False) - head == pytest.approx(whole, rel=0.02)


def test_checkpointing_computes_the_layers_once_more():
    shape = SMALL["deep"]
    model, batch = model_of(shape, True, "eager").train(), batch_of(shape, 4, 64, False)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    counter = FlopCounterMode(display=False)
    with warnings.catch_warnings(), counter:
        warnings.simplefilter("ignore")
        model(**batch, use_cache=False).logits.square().sum().backward()
    read = sequences(4 * 64, 64)
    expected = training_flops(shape, read, True, True)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert training_flops(shape, read, True, False) < 0.82 * expected


def test_a_prompt_is_read_once_for_its_responses_but_in_attention():
    shape = SMALL["deep"]
    alone, tree = sequences(3 * 5 * 90, 90), prompt_trees(3, 50, 5, 40)
    assert prompt_trees(7, 50, 1, 40) == sequences(7 * 90, 90)
    assert (tree.tokens, tree.queries, tree.length) == (3 * (50 + 5 * 40), 3 * 5 * 90, 90)
    saved = forward_flops(shape, alone) - forward_flops(shape, tree)
    matrices = forward_flops(shape, sequences(1, 0))
    assert saved == pytest.approx(3 * 4 * 50 * matrices)
