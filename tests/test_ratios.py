"""Linearised ratios: their means and intervals against those of the ratio itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rm_robustness.ratios import (
    mean_of_sets,
    relative_change,
    relative_loss,
    relative_loss_unpaired,
)
from rm_robustness.statistics import seed_mean


@given(
    arrays(float, (3, 5), elements=st.floats(0.5, 2) | st.just(np.nan)),
    arrays(float, (3, 5), elements=st.floats(-1, 1) | st.just(np.nan)),
)
def test_linearised_loss_has_the_mean_of_the_ratio(before, after):
    before[:, 0], after[:, 0] = 1.0, 0.25  # every seed has a pair
    both = ~np.isnan(before) & ~np.isnan(after)
    a = np.mean([row[own].mean() for row, own in zip(before, both, strict=True)])
    b = np.mean([row[own].mean() for row, own in zip(after, both, strict=True)])
    assert seed_mean(relative_loss(before, after)).value == pytest.approx(1 - b / a)
    a, b = np.nanmean(before, axis=1).mean(), np.nanmean(after, axis=1).mean()
    assert seed_mean(relative_loss_unpaired(before, after)).value == pytest.approx(1 - b / a)


def test_intervals_of_a_loss_are_those_of_a_bootstrap_of_the_ratio():
    rng = np.random.default_rng(0)
    before = rng.normal(0.7, 0.3, (1, 400))
    after = before - 0.2 + rng.normal(0, 0.1, (1, 400))
    other = rng.normal(0.5, 0.4, (1, 150))
    paired, unpaired = [], []
    for _ in range(4000):
        i, j = rng.integers(400, size=400), rng.integers(150, size=150)
        paired.append(1 - after[0, i].mean() / before[0, i].mean())
        unpaired.append(1 - other[0, j].mean() / before[0, i].mean())
    for values, drawn in (
        (relative_loss(before, after), paired),
        (relative_loss_unpaired(before, other), unpaired),
    ):
        found = seed_mean(values)
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert found.high - found.low == pytest.approx(high - low, rel=0.08)


def test_a_mean_of_sets_is_the_mean_of_their_means_and_pairs_what_they_share():
    rng = np.random.default_rng(1)
    first, second = rng.normal(1, 1, (3, 4)), rng.normal(2, 1, (3, 2))
    second[1, 0] = np.nan
    names = list("abcdef")
    linearised = mean_of_sets([(first, list("abcd")), (second, list("de"))], names)
    expected = (first.mean(axis=1) + np.nanmean(second, axis=1)) / 2
    np.testing.assert_allclose(linearised.mean(axis=1), expected)
    np.testing.assert_allclose(linearised[:, 5], expected)  # a prompt of no set moves nothing


def test_a_mean_of_sets_has_the_spread_that_shared_prompts_give_it():
    rng = np.random.default_rng(2)
    means, widths = [], []
    for _ in range(400):
        prompts = rng.normal(size=60)
        sets = [
            (prompts[None, own] + 0.1 * rng.normal(size=(1, len(own))), [str(i) for i in own])
            for own in (np.arange(40), np.arange(20, 60))
        ]
        estimate = seed_mean(mean_of_sets(sets, [str(i) for i in range(60)]))
        means.append(estimate.value)
        widths.append(estimate.high - estimate.low)
    assert np.mean(widths) == pytest.approx(2 * 2 * np.std(means), rel=0.12)


def test_there_is_no_share_of_nothing():
    nothing, some = np.zeros((2, 3)), np.ones((2, 3))
    assert np.isnan(relative_loss(nothing, some)).all()
    assert np.isnan(relative_change(some, nothing[0])).all()
