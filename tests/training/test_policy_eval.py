"""Evaluation of a policy during RLOO, and the KL that it measures."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.small_rloo import once
from transformers import AutoModelForCausalLM

from rm_robustness.frames import read_frame
from rm_robustness.models.generate import generate, sample
from rm_robustness.training.policy_eval import sequence_kl
from rm_robustness.training.proxy_reward import ProxyReward


@pytest.fixture(scope="module")
def samples(policy, reward_model, prompts, tmp_path_factory) -> pd.DataFrame:
    trained = once(policy, reward_model, prompts, tmp_path_factory.mktemp("trained"))
    return read_frame(trained / "samples.parquet")


def test_a_policy_is_evaluated_before_training_every_second_update_and_after(samples):
    assert list(samples["update"].unique()) == [0, 2, 4, 6]
    assert list(samples["epoch"].unique()) == pytest.approx([0, 0.6, 1.2, 1.8])
    assert list(samples.columns) == [
        "seed",
        "update",
        "epoch",
        "example_id",
        "prompt",
        "response",
        "response_model",
        "reward",
        "kl",
        "n_tokens",
        "finished",
    ]
    assert set(samples["response_model"]) == {"standard-bt"} and set(samples["seed"]) == {0}


def test_every_evaluation_is_on_the_first_prompts(samples, prompts):
    first = read_frame(prompts).drop_duplicates("prompt_id").head(7)
    for _, evaluation in samples.groupby("update"):
        assert list(evaluation["example_id"]) == list(first["prompt_id"])
        assert list(evaluation["prompt"]) == list(first["prompt"])


def test_an_evaluation_has_the_reward_that_training_gives(samples, reward_model):
    reward = ProxyReward(reward_model, 0, torch.device("cpu"))
    last = samples.tail(7)
    expected = reward(list(last["prompt"]), list(last["response"]))
    assert last["reward"].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_first_evaluation_has_the_responses_of_the_sft_policy_for_those_seeds(samples, policy):
    first = samples[samples["update"] == 0]
    settings = {"kind": "transformers", "model": str(policy), "temperature": 0.7, "seed": 0}
    answers = generate(list(first["prompt"]), settings | {"max_new_tokens": 12, "batch_size": 4})
    assert list(first["response"]) == answers
    assert (first["kl"] == 0).all()
    assert (samples[samples["update"] > 0].groupby("update")["kl"].mean() > 0).all()


def test_tokens_are_counted_with_the_end_and_only_the_cut_are_unfinished(samples):
    assert samples["finished"].any() and not samples["finished"].all()
    assert (samples["n_tokens"][~samples["finished"]] == 12).all()
    assert samples["n_tokens"].between(1, 12).all()
    assert (samples["response"][samples["n_tokens"].eq(1) & samples["finished"]] == "").all()


def test_without_a_kl_penalty_the_kl_is_still_measured(policy, reward_model, prompts, tmp_path):
    final = once(policy, reward_model, prompts, tmp_path, beta=0, epochs=0.6, eval_prompts=3)
    kl = read_frame(final / "samples.parquet").groupby("update")["kl"].mean()
    assert kl[0] == 0 < kl[2]


class Table:
    """A model of three words whose next-token chances at each position are given (4, 3)."""

    device = torch.device("cpu")

    def __init__(self, chances: list[list[float]], temperature: float) -> None:
        self.logits = torch.tensor(chances).log() * temperature

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(
            logits=self.logits[: input_ids.shape[1]].repeat(len(input_ids), 1, 1)
        )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_kl_by_hand(temperature):
    """Two tokens of prompt: the positions 1 and 2 predict a completion of two tokens."""
    never = [0.98, 0.01, 0.01]
    p = Table([never, [0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.1, 0.1, 0.8]], temperature)
    q = Table([never[::-1], [0.25, 0.5, 0.25], [0.6, 0.2, 0.2], never], temperature)
    first = 0.5 * math.log(2) - 0.25 * math.log(2)
    second = 0.6 * math.log(3) - 0.2 * math.log(3)
    kl = sequence_kl(p, q, [[0, 1], [2, 1]], [[2, 0], [1]], temperature, 100)
    assert kl.tolist() == pytest.approx([first + second, first], rel=1e-6)


def test_kl_has_the_mean_of_the_sampled_estimate_and_less_spread(policy):
    model = AutoModelForCausalLM.from_pretrained(policy).eval()
    other = AutoModelForCausalLM.from_pretrained(policy).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in other.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    chats = [[5, 6, 7]] * 1500
    drawn = sample(
        model,
        chats,
        list(range(1500)),
        ends=[10**6],
        pad=0,
        max_new_tokens=4,
        temperature=0.7,  # no word ends a completion
    )
    kl = sequence_kl(model, other, chats, drawn, 0.7, 4096)
    tokens = torch.tensor([c + d for c, d in zip(chats, drawn, strict=True)])
    with torch.no_grad():
        p, q = (
            torch.log_softmax(m(tokens).logits[:, 2:-1].double() / 0.7, -1)
            .gather(-1, tokens[:, 3:, None])
            .sum((1, 2))
            for m in (model, other)
        )
    sampled = (p - q).numpy()
    gap = kl - sampled
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap))
    assert kl.mean() > 10 * gap.std() / math.sqrt(len(gap))
    assert kl.std() < 0.5 * sampled.std()
    assert kl.min() >= 0 > sampled.min()
    assert np.allclose(sequence_kl(model, other, chats[:5], drawn[:5], 0.7, 0), kl[:5], atol=1e-5)
