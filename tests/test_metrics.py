import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kendalltau

from rm_robustness.errors import InputError
from rm_robustness.metrics import (
    count_ties,
    effective_rank,
    kendall_tau,
    kendall_tau_per_prompt,
    pairwise_accuracy,
)

few_values = st.integers(-2, 2).map(float)  # few, so that ties are common


def test_a_tie_counts_as_wrong_and_is_counted():
    chosen, rejected = [1.0, 2.0, 3.0, 0.0], [0.0, 2.0, 4.0, -1.0]
    assert pairwise_accuracy(chosen, rejected) == 0.5
    assert count_ties(chosen, rejected) == 1
    assert pairwise_accuracy(np.zeros(3), np.zeros(3)) == 0.0


def test_tau_of_one_swap_among_four_is_two_thirds():
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    # One tie in the rewards: (5 - 0) / sqrt(5 * 6).
    assert kendall_tau([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(5 / math.sqrt(30))


@settings(deadline=None)
@given(
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6).flatmap(
        lambda shape: st.tuples(
            hnp.arrays(float, shape, elements=few_values),
            hnp.arrays(float, shape, elements=few_values),
        )
    )
)
def test_tau_per_prompt_is_scipys_tau_b(arrays):
    rewards, gold = arrays
    expected = [kendalltau(r, g).statistic for r, g in zip(rewards, gold, strict=True)]
    np.testing.assert_allclose(kendall_tau_per_prompt(rewards, gold), expected, atol=1e-12)


def test_undefined_prompts_are_left_out_of_the_mean():
    rewards = [[1, 2, 3, 4], [5, 5, 5, 5], [4, 3, 2, 1]]
    gold = [[1, 2, 3, 4], [1, 2, 3, 4], [7, 7, 7, 7]]
    assert np.isnan(kendall_tau_per_prompt(rewards, gold)).tolist() == [False, True, True]
    assert kendall_tau(rewards, gold) == 1.0
    assert math.isnan(kendall_tau(rewards[1], gold[1]))


def test_tau_of_the_papers_training_set_takes_well_under_a_second():
    rng = np.random.default_rng(0)
    rewards, gold = rng.normal(size=(2, 51_200, 4))
    start = time.perf_counter()
    kendall_tau(rewards, gold)
    assert time.perf_counter() - start < 1.0


def test_effective_rank_of_known_spectra():
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.outer([1.0, 2.0, 3.0], [4.0, 5.0])) == pytest.approx(1)
    # Singular values 3 and 1: p = (3/4, 1/4), exp(H) = 4 / 3^(3/4).
    assert effective_rank([[0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]]) == pytest.approx(4 / 3**0.75)


@settings(deadline=None)
@given(hnp.arrays(float, (5, 3), elements=st.floats(-10, 10)), st.floats(1e-3, 1e3))
def test_effective_rank_ignores_scale_and_rotation_and_is_at_most_the_rank(matrix, scale):
    if np.abs(matrix).max() < 1e-3:
        return
    rank = effective_rank(matrix)
    assert 1 - 1e-9 <= rank <= 3 + 1e-9
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert effective_rank(scale * matrix @ rotation) == pytest.approx(rank, rel=1e-6)


def test_effective_rank_of_tiny_and_huge_entries():
    assert effective_rank(1e-300 * np.eye(4)) == pytest.approx(4)
    assert effective_rank(1e300 * np.eye(4)) == pytest.approx(4)


@pytest.mark.parametrize("metric", [pairwise_accuracy, count_ties, kendall_tau])
def test_unequal_shapes_are_refused(metric):
    with pytest.raises(InputError, match=r"shapes \(3,\) and \(2,\)"):
        metric([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_row_of_a_value_that_is_not_finite_is_named(bad):
    with pytest.raises(InputError, match="rejected, row 1"):
        pairwise_accuracy([1.0, 2.0], [0.0, bad])
    with pytest.raises(InputError, match="rewards, row 2"):
        kendall_tau([[1, 2], [3, 4], [5, bad]], np.ones((3, 2)))
    with pytest.raises(InputError, match="gold, row 0"):
        kendall_tau([[1, 2]], [[bad, 1]])
    with pytest.raises(InputError, match="matrix, row 1"):
        effective_rank([[1.0, 2.0], [bad, 0.0]])


def test_nothing_to_measure_is_refused():
    with pytest.raises(InputError, match="no pairs"):
        pairwise_accuracy([], [])
    with pytest.raises(InputError, match="only zeros"):
        effective_rank(np.zeros((2, 2)))
