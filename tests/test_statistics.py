import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rm_robustness.errors import InputError
from rm_robustness.pivot import Spread
from rm_robustness.statistics import (
    Estimate,
    _sum_degrees,
    conjunction,
    contrast,
    holm,
    moderated,
    paired_difference,
    seed_mean,
)


def world(rng, seeds, prompts, seed_sd, prompt_sd, noise_sd):
    return (
        seed_sd * rng.normal(size=(seeds, 1))
        + prompt_sd * rng.normal(size=(1, prompts))
        + noise_sd * rng.normal(size=(seeds, prompts))
    )


# Components of the demo: seeds' sd, prompts' sd, noise; the last two are means, not differences.
@pytest.mark.parametrize(
    ("seeds", "sds"),
    [
        (4, (0.012, 0.03, 0.25)),
        (4, (0.025, 0.2, 0.35)),
        (4, (0.06, 0.2, 0.4)),
        (4, (0.015, 0.4, 0.25)),
        (4, (0.06, 0.38, 0.31)),
        (2, (0.06, 0.38, 0.31)),
        (8, (0.012, 0.03, 0.25)),
    ],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds, sds):
    rng = np.random.default_rng(7)
    estimates = [seed_mean(world(rng, seeds, 400, *sds)) for _ in range(400)]
    covered = np.mean([e.low <= 0 <= e.high for e in estimates])
    assert covered == np.mean([e.p_value > 0.05 for e in estimates])
    assert 0.93 <= covered <= 1.0
    widths = np.mean([e.high - e.low for e in estimates])
    assert widths < 2.2 * 3.92 * np.std([e.value for e in estimates]) * (3 if seeds == 2 else 1)


def test_undefined_entries_keep_the_coverage():
    rng = np.random.default_rng(8)
    covered = []
    for _ in range(300):
        values = world(rng, 4, 200, 0.03, 0.3, 0.4)
        values[rng.random(values.shape) < 0.25] = np.nan
        estimate = seed_mean(values)
        covered.append(estimate.low <= 0 <= estimate.high)
    assert 0.93 <= np.mean(covered) <= 1.0


def test_one_seed_cannot_see_the_variation_between_seeds():
    rng = np.random.default_rng(7)
    estimates = [seed_mean(world(rng, 1, 60, 0.3, 1, 0.5)) for _ in range(100)]
    assert np.mean([e.low <= 0 <= e.high for e in estimates]) < 0.85


def test_the_value_is_the_mean_of_the_seeds_means():
    # Seed means 1.5 (of 1 and 2) and 6: pooling the three entries would give 3.
    estimate = seed_mean([[1.0, 2.0, math.nan], [6.0, math.nan, math.nan]])
    assert estimate.value == 3.75
    assert (estimate.n_seeds, estimate.n_prompts) == (2, 2)


def test_variances_are_those_of_the_two_way_layout():
    # By hand: rows (1, 2, 6), (3, 4, 5). Seeds' means 3, 4; prompts' 2, 3, 5.5; residuals
    # (-.5, -.5, 1), (.5, .5, -1), whose squares sum to 3, over (2 - 1)(3 - 1) degrees.
    spread = seed_mean([[1.0, 2.0, 6.0], [3.0, 4.0, 5.0]]).spread
    assert spread.seeds == pytest.approx(0.5 / 2)
    assert spread.prompts == pytest.approx((1.5**2 + 0.5**2 + 2**2) / 2 / 3)
    assert spread.noise == pytest.approx(3 / 2 / 6)
    assert (spread.seeds_df, spread.prompts_df) == (1, 2)


def test_the_noise_is_counted_once():
    rng = np.random.default_rng(2)
    spreads = [seed_mean(world(rng, 4, 100, 0.02, 0.1, 0.5)).spread for _ in range(200)]
    true = 0.02**2 / 4 + 0.1**2 / 100 + 0.5**2 / 400
    net = [s.seeds + s.prompts - s.noise for s in spreads]
    assert np.mean(net) == pytest.approx(true, rel=0.1)
    assert np.mean([s.noise for s in spreads]) == pytest.approx(0.5**2 / 400, rel=0.02)


def test_components_are_those_of_the_world():
    rng = np.random.default_rng(2)
    drawn = [seed_mean(world(rng, 8, 300, 0.1, 0.3, 0.4)).components() for _ in range(60)]
    for name, true in (("seed_sd", 0.1), ("prompt_sd", 0.3), ("noise_sd", 0.4)):
        assert np.sqrt(np.mean([c[name] ** 2 for c in drawn])) == pytest.approx(true, rel=0.1)
    one = seed_mean(world(rng, 1, 300, 0.1, 0.3, 0.4)).components()
    assert math.isnan(one["seed_sd"]) and math.isnan(one["noise_sd"]) and one["prompt_sd"] > 0.3


@pytest.mark.parametrize("n", [2, 5, 40])
def test_one_seed_and_one_prompt_give_the_t_test(n):
    sample = np.random.default_rng(3).normal(0.2, 1.0, size=n)
    oracle = stats.ttest_1samp(sample, 0.0)
    low, high = oracle.confidence_interval(0.95)
    for values in (sample[None], sample[:, None], np.tile(sample[:, None], (1, 50))):
        estimate = seed_mean(values)
        assert estimate.p_value == pytest.approx(oracle.pvalue, rel=1e-4)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=1e-4)
    assert seed_mean(sample[None]).p_of(low) == pytest.approx(0.05, rel=1e-4)


@settings(deadline=None)
@given(st.floats(-5, 5), st.integers(1, 4), st.integers(2, 30))
def test_equal_values_have_an_interval_of_no_width(value, seeds, prompts):
    estimate = seed_mean(np.full((seeds, prompts), value))
    assert estimate == Estimate(value, value, value, float(value == 0), seeds, prompts)
    assert (estimate.p_of(value), estimate.p_of(value + 1)) == (1, 0)


def test_a_single_number_has_no_interval_and_nothing_has_no_value():
    single = seed_mean([[0.7]])
    assert single.value == 0.7
    assert math.isnan(single.low) and math.isnan(single.high) and math.isnan(single.p_value)
    assert math.isnan(single.p_of(0.7)) and math.isnan(single.smallest_found())
    nothing = seed_mean(np.full((2, 3), np.nan))
    assert math.isnan(nothing.value)
    assert (nothing.n_seeds, nothing.n_prompts) == (0, 0)


def test_undefined_rows_and_columns_weigh_nothing():
    values = world(np.random.default_rng(1), 3, 20, 0.1, 1, 1)
    padded = np.full((4, 25), np.nan)
    padded[:3, :20] = values
    assert seed_mean(padded) == seed_mean(values)
    values[0, 3:] = np.nan
    estimate = seed_mean(values)
    assert estimate.low < estimate.value < estimate.high


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


def test_groups_of_seeds_have_the_degrees_that_the_largest_of_their_variances_leaves():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.5, 1, size=6), rng.normal(0, 3, size=4)
    by_group = a.var(ddof=1) / 6, b.var(ddof=1) / 4
    variance = sum(by_group)
    df = min(5 * variance / by_group[0], 3 * variance / by_group[1])
    estimate = contrast([a[:, None], b[:, None]], [1, -1])
    assert estimate.value == pytest.approx(a.mean() - b.mean())
    oracle = 2 * stats.t.sf(abs(estimate.value) / math.sqrt(variance), df)
    assert estimate.p_value == pytest.approx(oracle, rel=1e-4)
    assert 3 <= df < stats.ttest_ind(a, b, equal_var=False).df
    assert estimate.n_seeds == 4


@pytest.mark.parametrize("sds", [(1, 1), (1, 2), (1, 4), (1, 1, 1, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("seeds", [3, 4])
def test_unequal_groups_of_seeds_reject_no_more_than_they_say(seeds, sds):
    rng = np.random.default_rng(12)
    n, alpha = 100_000, 0.05 / 8
    drawn = np.array(sds)[:, None, None] * rng.normal(size=(len(sds), n, seeds))
    variances = drawn.var(axis=2, ddof=1) / seeds
    total = variances.sum(axis=0)
    degrees = _sum_degrees(variances, [seeds - 1] * len(sds))
    t = np.abs(drawn.mean(axis=2).sum(axis=0)) / np.sqrt(total)
    assert np.mean(2 * stats.t.sf(t, degrees) < alpha) < 1.3 * alpha


def test_groups_share_their_prompts_and_not_their_seeds():
    rng = np.random.default_rng(5)
    prompts = rng.normal(size=(1, 300))
    a, b = (prompts + 0.01 * rng.normal(size=(n, 300)) for n in (1, 5))
    same = contrast([a, b], [1, -1])
    assert same.high - same.low < 0.01 and same.n_seeds == 1
    mean = contrast([a, b], [0.5, 0.5])
    assert mean.high - mean.low == pytest.approx(2 * 1.968 / np.sqrt(300) * prompts.std(), rel=0.05)
    assert math.isnan(contrast([a, np.full((2, 300), np.nan)], [1, -1]).value)
    with pytest.raises(InputError, match="same prompts"):
        contrast([a, b[:, :9]], [1, -1])


def test_one_group_of_weight_one_is_the_mean():
    values = world(np.random.default_rng(6), 3, 50, 0.1, 1, 1)
    assert contrast([values], [1]) == seed_mean(values)
    halved = contrast([values], [0.5])
    assert halved.high == pytest.approx(seed_mean(values).high / 2)


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


def test_a_conjunction_counts_as_holm_rejects():
    p = [0.001, 0.2, 0.004, math.nan, 0.02, 0.6]
    assert conjunction(p, 1) == pytest.approx(0.005)  # 5 x .001
    assert conjunction(p, 2) == pytest.approx(0.016)  # 4 x .004
    assert conjunction(p, 3) == pytest.approx(0.06)  # 3 x .02
    assert math.isnan(conjunction(p, 6)) and math.isnan(conjunction([], 1))
    counted = max(n for n in range(1, 6) if conjunction(p, n) < 0.05)
    assert counted == (holm(p) < 0.05).sum() == 2


@pytest.mark.parametrize("there", [0, 3])
def test_a_conjunction_errs_no_more_than_it_says(there):
    # Of eight comparisons the effect is in `there`, strongly: "at least one more" is false.
    rng = np.random.default_rng(9)
    means = np.r_[np.full(there, 8.0), np.zeros(8 - there)]
    p = stats.norm.sf(rng.normal(means, size=(4000, 8)))
    assert np.mean([conjunction(row, there + 1) < 0.05 for row in p]) < 0.06


def test_equal_variances_are_pooled_and_unequal_ones_are_not():
    rng = np.random.default_rng(10)
    equal = [Spread(v, 0, 0, 3, 0) for v in rng.chisquare(3, size=200) / 3]
    pooled = moderated(equal)
    assert np.ptp([s.seeds for s in pooled]) < 0.4 and min(s.seeds_df for s in pooled) > 20
    assert np.mean([s.seeds for s in pooled]) == pytest.approx(1, rel=0.15)
    wild = [Spread(v, 0, 0, 3, 0) for v in np.exp(4 * rng.normal(size=200))]
    assert np.mean([s.seeds_df for s in moderated(wild)]) < 4
    alone = Spread(0.1, 0.2, 0.0, 3, 9)
    assert moderated([alone]) == [alone]


def test_a_few_variances_know_no_more_together_than_their_degrees():
    few = [Spread(v, 0, 0, 3, 0) for v in (1.0, 1.1, 0.9)]
    assert [s.seeds_df for s in moderated(few)] == [9, 9, 9]


def test_moderation_finds_the_distribution_of_the_variances():
    # limma's model: variance = 2 x 8 / chi2(8), each estimated with 3 degrees of freedom.
    rng = np.random.default_rng(11)
    variances = 2 * 8 / rng.chisquare(8, size=4000)
    seen = variances * rng.chisquare(3, size=4000) / 3
    first = moderated([Spread(v, 0, 0, 3, 0) for v in seen])[0]
    assert first.seeds_df - 3 == pytest.approx(8, rel=0.2)
    prior = ((first.seeds_df) * first.seeds - 3 * seen[0]) / (first.seeds_df - 3)
    assert prior == pytest.approx(2, rel=0.05)
