import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from rm_robustness.data.gold import add_gold, preference_logit
from rm_robustness.data.synthetic import responses as synthetic
from rm_robustness.errors import InputError

LOGIT = {"kind": "column", "column": "preference", "transform": "logit", "clip": 1e-8}


def frame_of(*preferences: object) -> pd.DataFrame:
    size = len(preferences)
    return pd.DataFrame(
        {
            "example_id": [f"e{i}" for i in range(size)],
            "prompt": ["hello"] * size,
            "response": [f"answer {i}" for i in range(size)],
            "response_model": ["alpaca-7b"] * size,
            "preference": preferences,
        }
    )


def test_a_preference_becomes_the_log_odds_of_beating_the_baseline():
    frame = add_gold(frame_of(1.5, 1.75, 1.25), LOGIT)
    assert frame["gold"].dtype == np.float64
    np.testing.assert_allclose(frame["gold"], [0.0, np.log(3), -np.log(3)], atol=1e-12)


def test_certain_preferences_are_clipped_to_finite_numbers():
    gold = add_gold(frame_of(1, 2), LOGIT)["gold"]
    np.testing.assert_allclose(gold, [logit(1e-8), logit(1 - 1e-8)], rtol=1e-9)
    np.testing.assert_allclose(gold[1], 18.420680733952367, rtol=1e-8)


@given(st.floats(0.001, 0.999))
def test_the_logit_is_undone_by_the_sigmoid(probability):
    gold = preference_logit(np.array([1 + probability]), 1e-8)
    np.testing.assert_allclose(expit(gold), probability, rtol=1e-9)


@given(st.lists(st.floats(1, 2), min_size=2, max_size=8))
def test_a_higher_preference_never_has_lower_gold(preferences):
    gold = preference_logit(np.sort(preferences), 1e-8)
    assert (np.diff(gold) >= 0).all()


def test_the_frame_given_is_not_changed():
    frame = frame_of(1.5)
    add_gold(frame, LOGIT)
    assert "gold" not in frame


@pytest.mark.parametrize("bad", [None, float("nan"), 0.999, 2.001, float("inf"), "much"])
def test_a_value_that_is_no_preference_is_refused_with_its_row(bad):
    with pytest.raises(InputError, match=r"preference, row 1 \(alpaca-7b, e1\)") as caught:
        add_gold(frame_of(1.5, bad, 1.5), LOGIT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "oracle"}, "gold.kind.*oracle.*programmatic, column, model"),
        ({"column": "rating"}, "gold.column.*rating"),
        ({"transform": "cube"}, "gold.transform.*cube"),
        ({"clip": 0.0}, "gold.clip"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(InputError, match=message):
        add_gold(frame_of(1.5), {**LOGIT, **change})


def test_the_programmatic_gold_judges_each_prompt_with_its_response(monkeypatch):
    monkeypatch.setattr(synthetic, "gold", lambda prompt, response: len(prompt) + int(response[-1]))
    frame = add_gold(frame_of(1.5, 1.5), {"kind": "programmatic"})
    assert frame["gold"].tolist() == [5.0, 6.0]
    assert frame["gold"].dtype == np.float64
