"""Columns of a difference and of the comparison with the paper's number."""

import numpy as np
import pytest

from rm_robustness.evaluation.estimates import (
    AGAINST_PAPER,
    DIFFERENCE,
    against_paper,
    difference_columns,
)
from rm_robustness.statistics import NO_ESTIMATE, seed_mean

VALUES = 0.02 + 0.01 * np.random.default_rng(0).normal(size=(4, 50))


def test_the_columns_are_those_listed():
    gap = seed_mean(VALUES)
    assert list(difference_columns(gap)) == DIFFERENCE
    assert list(against_paper(gap, 0.03)) == AGAINST_PAPER


def test_the_papers_number_is_held_against_the_interval():
    gap = seed_mean(VALUES)
    assert against_paper(gap, gap.low + 1e-9)["contains_paper"]
    assert not against_paper(gap, gap.low - 1e-9)["contains_paper"]
    half = against_paper(gap, 2 * gap.value)
    assert half["ratio"] == pytest.approx(0.5)
    assert half["ratio_low"] == pytest.approx(gap.low / gap.value / 2)
    reverse = against_paper(gap, -gap.value)
    assert reverse["ratio"] == pytest.approx(-1)
    assert reverse["ratio_low"] < -1 < reverse["ratio_high"]


def test_an_effect_of_the_papers_size_is_told_from_none():
    there, none = seed_mean(VALUES), seed_mean(VALUES - VALUES.mean())
    assert against_paper(there, 0.02)["bf_paper"] > 10
    assert against_paper(none, 0.02)["bf_paper"] < 1 / 3
    assert against_paper(there, -0.02)["bf_paper"] < 1 / 3


def test_without_the_paper_or_an_interval_all_is_empty():
    assert against_paper(seed_mean(VALUES), np.nan) == {}
    assert against_paper(NO_ESTIMATE, 0.1) == against_paper(seed_mean([[0.1]]), 0.1) == {}
    assert against_paper(seed_mean(VALUES), 0.0) == {"contains_paper": False}
