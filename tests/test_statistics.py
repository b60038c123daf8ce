import math
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rm_robustness.errors import InputError
from rm_robustness.statistics import Estimate, holm, paired_difference, seed_mean


def world(rng, seeds, prompts, seed_sd, prompt_sd, noise_sd):
    return (
        seed_sd * rng.normal(size=(seeds, 1))
        + prompt_sd * rng.normal(size=(1, prompts))
        + noise_sd * rng.normal(size=(seeds, prompts))
    )


@pytest.mark.parametrize(
    ("seeds", "sds"),
    [(4, (0.1, 1, 1)), (4, (0.3, 1, 0.5)), (4, (1, 0.3, 0.3)), (4, (0, 1, 1)), (2, (0.3, 1, 1))],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds, sds):
    rng = np.random.default_rng(7)
    estimates = [seed_mean(world(rng, seeds, 60, *sds), i, resamples=400) for i in range(300)]
    covered = np.mean([e.low <= 0 <= e.high for e in estimates])
    accepted = np.mean([e.p_value > 0.05 for e in estimates])
    assert 0.90 <= covered <= 0.99
    assert 0.90 <= accepted <= 0.99


def test_one_seed_cannot_see_the_variation_between_seeds():
    rng = np.random.default_rng(7)
    estimates = [seed_mean(world(rng, 1, 60, 0.3, 1, 0.5), i, resamples=400) for i in range(100)]
    assert np.mean([e.low <= 0 <= e.high for e in estimates]) < 0.85


def test_the_value_is_the_mean_of_the_seeds_means():
    # Seed means 1.5 (of 1 and 2) and 6: pooling the three entries would give 3.
    estimate = seed_mean([[1.0, 2.0, math.nan], [6.0, math.nan, math.nan]])
    assert estimate.value == 3.75
    assert (estimate.n_seeds, estimate.n_prompts) == (2, 2)


def test_one_seed_gives_the_t_interval_over_prompts():
    sample = np.random.default_rng(3).normal(0.2, 1.0, size=40)
    oracle = stats.ttest_1samp(sample, 0.0)
    low, high = oracle.confidence_interval(0.95)
    estimate = seed_mean(sample[None], resamples=20_000)
    width = high - low
    assert estimate.low == pytest.approx(low, abs=0.04 * width)
    assert estimate.high == pytest.approx(high, abs=0.04 * width)
    assert estimate.p_value == pytest.approx(oracle.pvalue, rel=0.1)


def test_few_prompts_give_the_p_value_of_the_t_test():
    sample = np.array([0.9, -0.2, 0.4, 1.1, 0.3])
    oracle = stats.ttest_1samp(sample, 0.0).pvalue
    assert seed_mean(sample[None], resamples=20_000).p_value == pytest.approx(oracle, rel=0.05)


def test_seeds_that_differ_by_a_constant_give_the_t_test_over_seeds():
    effects = np.array([0.1, 0.5, 0.2, 0.4])
    estimate = seed_mean(np.tile(effects[:, None], (1, 50)), resamples=20_000)
    assert estimate.value == pytest.approx(0.3)
    assert estimate.p_value == pytest.approx(stats.ttest_1samp(effects, 0.0).pvalue, rel=0.05)


def test_one_prompt_leaves_the_variation_of_seeds():
    many = seed_mean(np.tile([[0.1], [0.5], [0.2]], (1, 9)))
    one = seed_mean([[0.1], [0.5], [0.2]])
    assert one.high - one.low == pytest.approx(many.high - many.low, rel=0.1)
    assert one.n_prompts == 1


@settings(deadline=None)
@given(st.floats(-5, 5), st.integers(1, 4), st.integers(2, 30))
def test_equal_values_have_an_interval_of_no_width(value, seeds, prompts):
    estimate = seed_mean(np.full((seeds, prompts), value), resamples=20)
    assert estimate == Estimate(value, value, value, float(value == 0), seeds, prompts)


def test_a_single_number_has_no_interval_and_nothing_has_no_value():
    single = seed_mean([[0.7]])
    assert single.value == 0.7
    assert math.isnan(single.low) and math.isnan(single.high) and math.isnan(single.p_value)
    nothing = seed_mean(np.full((2, 3), np.nan))
    assert math.isnan(nothing.value)
    assert (nothing.n_seeds, nothing.n_prompts) == (0, 0)


def test_undefined_entries_weigh_nothing():
    values = world(np.random.default_rng(1), 3, 20, 0.1, 1, 1)
    padded = np.full((4, 25), np.nan)
    padded[:3, :20] = values
    assert seed_mean(padded, seed=5) == seed_mean(values, seed=5)
    values[0, 3:] = np.nan  # a resample of the prompts often misses the three that are left
    estimate = seed_mean(values)
    assert estimate.low < estimate.value < estimate.high


def test_the_same_seed_gives_the_same_estimate_and_another_does_not():
    values = world(np.random.default_rng(1), 4, 50, 0.1, 1, 1)
    assert seed_mean(values, seed=1) == seed_mean(values, seed=1)
    assert seed_mean(values, seed=1).low != seed_mean(values, seed=2).low


def test_the_number_of_threads_does_not_move_a_bit():
    program = """
import numpy as np
from rm_robustness.statistics import seed_mean
rng = np.random.default_rng(0)
for prompts in (300, 1000, 3000):
    print(seed_mean(rng.normal(size=(4, prompts)) + 0.01))
"""
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OPENBLAS_NUM_THREADS": n, "OMP_NUM_THREADS": n},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in ("1", "2")
    ]
    assert printed[0] == printed[1] != ""


def test_a_higher_level_widens_the_interval():
    values = world(np.random.default_rng(1), 4, 50, 0.1, 1, 1)
    narrow, wide = seed_mean(values, level=0.8), seed_mean(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_resampling_in_chunks_covers_every_resample(monkeypatch):
    values = world(np.random.default_rng(1), 4, 50, 0.1, 1, 1)
    monkeypatch.setattr("rm_robustness.statistics.CHUNK", 7 * 50)
    chunked = seed_mean(values, resamples=2000)
    monkeypatch.undo()
    whole = seed_mean(values, resamples=2000)
    assert chunked.high - chunked.low == pytest.approx(whole.high - whole.low, rel=0.1)


def test_many_prompts_are_resampled_in_little_memory():
    values = np.random.default_rng(0).normal(size=(2, 51_200))
    tracemalloc.start()
    seed_mean(values, resamples=400)  # all counts at once would take 164 MB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6


def test_pairing_removes_what_the_two_methods_share():
    rng = np.random.default_rng(2)
    shared = world(rng, 4, 200, 0.5, 1, 0)
    better = shared + 0.1 + 0.05 * rng.normal(size=shared.shape)
    paired = paired_difference(better, shared)
    assert paired.value == pytest.approx(0.1, abs=0.01)
    assert paired.high - paired.low < 0.05 < seed_mean(better).high - seed_mean(better).low
    assert paired.p_value < 1e-3


def test_a_method_does_not_differ_from_itself():
    values = world(np.random.default_rng(2), 4, 30, 0.5, 1, 1)
    assert paired_difference(values, values) == Estimate(0.0, 0.0, 0.0, 1.0, 4, 30)


def test_a_difference_counts_where_both_are_defined():
    difference = paired_difference([[1.0, 2.0, np.nan, 5.0]], [[0.0, np.nan, 1.0, 2.0]])
    assert difference.value == 2.0
    assert difference.n_prompts == 2


def test_wrong_matrices_are_refused():
    with pytest.raises(InputError, match=r"shapes \(2, 3\) and \(2, 4\)"):
        paired_difference(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InputError, match=r"row \(seed\) 1, column \(prompt\) 0"):
        seed_mean([[0.0, 1.0], [math.inf, 2.0]])
    with pytest.raises(InputError, match="matrix"):
        seed_mean(np.zeros(3))


def test_holm_matches_the_example_worked_by_hand():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and the last may not fall below .06.
    adjusted = holm([0.01, 0.04, math.nan, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, math.nan, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.5]), [1.0, 1.0])
    assert np.isnan(holm([math.nan])).all()
    assert holm([]).shape == (0,)
    with pytest.raises(InputError, match="row 1"):
        holm([0.5, 1.5])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_the_raw_and_bonferroni(p_values):
    p, adjusted = np.array(p_values), holm(p_values)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
