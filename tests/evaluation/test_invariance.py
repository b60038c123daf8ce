"""Drop of accuracy and flips, against values that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from rm_robustness.errors import InputError
from rm_robustness.evaluation.invariance import invariance_rows
from rm_robustness.evaluation.transformations import transformed
from rm_robustness.statistics import seed_mean


def frame(*golds: list[float]) -> pd.DataFrame:
    """A prompt for each list of gold."""
    rows = [
        (f"p{n}", f"p{n}-{k}", f"question {n}", f"answer {k} to {n}.", gold)
        for n, of_prompt in enumerate(golds)
        for k, gold in enumerate(of_prompt)
    ]
    return pd.DataFrame(rows, columns=["prompt_id", "response_id", "prompt", "response", "gold"])


def rows_of(before, after, data, other=None) -> dict[str, dict]:
    other = transformed(data, "double_spaces", 0) if other is None else other
    names = {"set_name": "own", "transformation": "double_spaces", "model": "m"}
    rows = invariance_rows(np.array(before, float), np.array(after, float), data, other, **names)
    return {row["statistic"]: row for row in rows}


def test_drop_and_flips_are_means_over_prompts_of_pairs_that_differ_in_gold():
    data = frame([1, 0], [0, 1], [2, 1, 0], [1, 1])
    before = [1, 0, 0, 1, 3, 2, 1, 5, 6]
    after = [0, 1, 0, 1, 3, 1, 2, 6, 5]
    rows = rows_of(before, after, data)
    drop, flips = [1, 0, 1 / 3], [1, 0, 1 / 3]  # the last prompt's gold is tied
    for name, values in (("accuracy_drop", drop), ("flips", flips)):
        expected, row = seed_mean([values]), rows[name]
        assert (row["value"], row["ci_low"], row["ci_high"]) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
        assert (row["n_prompts"], row["n_undefined"]) == (3, 1)
    assert rows["accuracy_drop"]["p_value"] == pytest.approx(seed_mean([drop]).p_value)
    assert "p_value" not in rows["flips"]
    assert rows["changed"]["value"] == 1
    assert rows["flips"]["metric"] == "own_flips"


def test_gains_and_losses_cancel_in_the_drop_but_not_in_the_flips():
    rows = rows_of([1, 0, 0, 1], [0, 1, 1, 0], frame([1, 0], [1, 0]))
    assert (rows["accuracy_drop"]["value"], rows["flips"]["value"]) == (0, 1)


def test_a_tie_is_wrong_and_flips():
    rows = rows_of([1, 0, 2, 1], [1, 1, 2, 1], frame([1, 0], [1, 0]))
    assert (rows["accuracy_drop"]["value"], rows["flips"]["value"]) == (0.5, 0.5)


def test_texts_as_they_were_cannot_flip():
    data = frame([1, 0], [1, 0])
    other = data.assign(response=[*data["response"][:2] + "!", *data["response"][2:] + " "])
    rows = rows_of([1, 0, 1, 0], [0, 1, 0, np.nan], data, other)
    assert (rows["accuracy_drop"]["value"], rows["flips"]["value"]) == (0.5, 0.5)
    assert (rows["changed"]["value"], rows["flips"]["n_prompts"]) == (0.5, 2)


def test_a_transformation_that_changes_no_text_measures_nothing():
    data = frame([1, 0], [1, 0])
    rows = rows_of([1, 0, 1, 0], [np.nan] * 4, data, data)
    assert np.isnan([rows["accuracy_drop"]["value"], rows["flips"]["value"]]).all()
    assert (rows["flips"]["n_prompts"], rows["flips"]["n_undefined"]) == (0, 2)
    assert rows["changed"]["value"] == 0


def test_a_model_that_does_not_mind_has_no_drop():
    row = rows_of([1, 0, 1, 0], [3, 2, 1, 0], frame([1, 0], [1, 0]))["accuracy_drop"]
    assert (row["value"], row["ci_low"], row["ci_high"], row["p_value"]) == (0, 0, 0, 1)


def test_rows_of_a_prompt_need_not_stand_together():
    data = frame([1, 0], [1, 0])
    order = [2, 0, 3, 1]
    before, after = np.array([1, 0, 1, 0.0]), np.array([0, 1, 1, 0.0])
    one = rows_of(before, after, data)
    other = rows_of(before[order], after[order], data.iloc[order].reset_index(drop=True))
    assert one == other and one["flips"]["value"] == 0.5


def test_a_reward_that_is_not_finite_is_one_line():
    with pytest.raises(InputError, match="own, response p0-1, after: found a reward of nan"):
        rows_of([1, 0], [1, np.nan], frame([1, 0]))
