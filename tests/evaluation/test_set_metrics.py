import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rm_robustness.evaluation import rm_bench
from rm_robustness.evaluation.set_metrics import by_prompt, lengths, set_values, tied_pairs
from rm_robustness.experiment.scenarios import RM_BENCH_DOMAINS, RM_BENCH_KINDS, RM_BENCH_STYLES
from rm_robustness.ratios import partial_correlation


def drawn(counts: list[int], seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Prompts with some responses each, rows shuffled, and rewards."""
    rng = np.random.default_rng(seed)
    prompts = np.repeat([f"p{n}" for n in range(len(counts))], counts)
    frame = pd.DataFrame(
        {
            "prompt_id": rng.permutation(prompts),
            "response": ["x" * n for n in rng.integers(1, 9, len(prompts))],
            "gold": rng.integers(0, 4, len(prompts)).astype(float),
        }
    )
    return frame, rng.integers(0, 5, len(prompts)).astype(float)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 99))
def test_each_prompt_is_measured_alone_whatever_the_others(counts, seed):
    frame, rewards = drawn(counts, seed)
    values = set_values("own", frame, rewards)
    groups = frame.groupby("prompt_id", sort=False).indices
    gold = frame["gold"].to_numpy()
    for name, column in (("tau", gold), ("length_tau", lengths(frame))):
        if name in values:
            expected = [
                scipy.stats.kendalltau(rewards[own], column[own]).statistic
                if len(own) > 1
                else np.nan
                for own in groups.values()
            ]
            np.testing.assert_allclose(values[name][0], expected, atol=1e-12)
    for own, accuracy in zip(groups.values(), values["accuracy"][0], strict=True):
        pairs = [(i, j) for i in own for j in own if gold[i] > gold[j]]
        expected = np.mean([rewards[i] > rewards[j] for i, j in pairs]) if pairs else np.nan
        np.testing.assert_allclose(accuracy, expected)
    ties = sum(
        rewards[i] == rewards[j] for own in groups.values() for i in own for j in own if i < j
    )
    assert tied_pairs(frame, rewards) == ties


def test_where_every_prompt_has_a_pair_tau_would_say_what_accuracy_says():
    frame, rewards = drawn([2] * 5)
    assert "tau" not in set_values("own", frame, rewards)


def test_values_come_in_the_order_of_the_prompts_first_rows():
    frame = pd.DataFrame({"prompt_id": ["b", "a", "b", "c", "a", "a", "c"]})
    column = np.array([1.0, 2, 3, 4, 5, 6, 7])
    sums = by_prompt(frame, lambda values: values.sum(axis=1), column)
    assert sums.tolist() == [4, 13, 11]


def taus(seed: int = 0, prompts: int = 40) -> np.ndarray:
    """Taus (3, P) of four responses, as reward with gold, reward and gold with length."""
    rng = np.random.default_rng(seed)
    length = rng.normal(size=(prompts, 4))
    gold = 0.7 * length + rng.normal(size=(prompts, 4))
    reward = 0.5 * length + 0.4 * gold + rng.normal(size=(prompts, 4))
    pairs = ((reward, gold), (reward, length), (gold, length))
    return np.array(
        [
            [scipy.stats.kendalltau(*row).statistic for row in zip(*pair, strict=True)]
            for pair in pairs
        ]
    )


def formula(a: float, b: float, c: float) -> float:
    return (a - b * c) / np.sqrt((1 - b**2) * (1 - c**2))


def test_the_mean_is_kendall_s_partial_correlation_of_the_mean_taus():
    of = taus()
    assert partial_correlation(*of).mean() == pytest.approx(formula(*of.mean(axis=1)))


def test_the_entries_vary_as_the_jackknife_does():
    of = taus(prompts=400)
    n = of.shape[1]
    left_out = np.array([formula(*np.delete(of, k, axis=1).mean(axis=1)) for k in range(n)])
    jackknife = (n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)
    assert partial_correlation(*of).var(ddof=1) / n == pytest.approx(jackknife, rel=0.02)


def test_a_reward_that_is_the_gold_keeps_all_and_one_that_is_length_has_nothing_left():
    _, with_length, gold_length = taus()
    ones = np.ones_like(with_length)
    np.testing.assert_allclose(partial_correlation(ones, gold_length, gold_length), 1)
    assert np.isnan(partial_correlation(gold_length, ones, gold_length)).all()


def test_a_prompt_where_one_tau_is_undefined_is_left_out():
    of = taus()
    of[2, 3] = np.nan
    values = partial_correlation(*of)
    assert np.isnan(values[3]) and np.isnan(values).sum() == 1
    rest = np.delete(of, 3, axis=1)
    np.testing.assert_allclose(np.delete(values, 3), partial_correlation(*rest))


def test_the_style_gap_is_easy_minus_hard():
    rows = [
        {"prompt_id": f"{d}-{n}", "domain": d, "kind": k, "style": s}
        for d in RM_BENCH_DOMAINS
        for n in range(3)
        for k in RM_BENCH_KINDS
        for s in RM_BENCH_STYLES
    ]
    bench, rng = pd.DataFrame(rows), np.random.default_rng(0)
    rewards = rng.normal(size=len(bench))
    values = set_values("rm_bench", bench, rewards)
    means = {name: of_prompts.mean() for name, of_prompts in values.items()}
    expected = rm_bench.accuracies(rm_bench.per_prompt(bench, rewards))
    assert means == pytest.approx(expected | {"style_gap": expected["easy"] - expected["hard"]})
    part = bench[bench["domain"] != "math"].reset_index(drop=True)
    prompts = rm_bench.per_prompt(part, rewards[: len(part)])
    gaps = 100 * (prompts["easy"] - prompts["hard"])
    of_domain = prompts["domain"].str.partition("-")[0]  # safety has two files
    found = set_values("rm_bench", part, rewards[: len(part)])
    assert found["style_gap"].mean() == pytest.approx(gaps.groupby(of_domain).mean().mean())
    assert found["overall"].size == 0
