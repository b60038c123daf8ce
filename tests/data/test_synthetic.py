import hashlib
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from rm_robustness.data.synthetic.responders import TRAIN_STYLE, VALID_STYLE, Style
from rm_robustness.data.synthetic.responses import (
    CHAT_RESPONDERS,
    TRAIN_RESPONDERS,
    VALID_RESPONDERS,
    chats,
    gold,
    responses,
)
from rm_robustness.data.synthetic.tasks import CATEGORY, NOUNS, NUMBERS, TEMPLATES, parse
from rm_robustness.errors import InputError

# For every kind of task: a prompt, the right answer, and answers from good to bad, each of which
# must have strictly less gold than the one before it.
BY_HAND = {
    "list": (
        "please list three fruits or birds .",
        ["fig , owl , pear", "fig , owl", "fig , owl , axe", "fig , axe , saw"],
    ),
    "except": (
        "list three tools but not saw or drill .",
        ["axe , rake , spade", "axe , rake", "axe , rake , saw", "saw , drill , rake"],
    ),
    "alphabet": (
        "sort in alphabetical order : pear apple fig kiwi .",
        ["apple , fig , kiwi , pear", "apple , fig , kiwi", "pear , kiwi , fig , apple"],
    ),
    "scale": (
        "sort from large to small : dog whale ant cat .",
        ["whale , dog , cat , ant", "whale , dog , ant , cat", "ant , cat , dog , whale"],
    ),
    "pick": (
        "which of these are cities : paris dog rome saw lima ?",
        ["paris , rome , lima", "paris , rome", "paris , rome , lima , dog , saw", "dog , saw"],
    ),
    "count": (
        "count the birds and name them : owl paris crow saw hawk .",
        ["three owl , crow , hawk", "two owl , crow , hawk", "two owl , crow", "nine paris"],
    ),
    "odd": ("find the odd words : owl crow paris hawk .", ["paris", "paris , owl", "owl"]),
    "reverse": (
        "say these words backwards : owl saw paris drum .",
        ["drum , paris , saw , owl", "drum , paris , owl , saw", "owl , saw , paris , drum"],
    ),
    "add": (
        "add three to each number : four nine two .",
        ["seven , twelve , five", "seven , twelve", "seven , twelve , four", "four , nine , two"],
    ),
    "compare": (
        "pick the numbers above nine : twelve seven nine four nineteen .",
        ["twelve , nineteen", "twelve", "twelve , nine", "seven , four"],
    ),
}


def draw(seed=0, prompts=300, train=TRAIN_RESPONDERS, valid=VALID_RESPONDERS, dials=(0.6, -0.6)):
    return responses(seed, prompts, list(train), list(valid), *dials)


def fingerprint(frame):
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def mean_tau_of_length(frame):
    frame = frame.assign(
        length=frame.response.str.split().str.len(),
        gold=[gold(p, r) for p, r in zip(frame.prompt, frame.response, strict=True)],
    )
    rows = frame.groupby("example_id")
    return pd.Series([kendalltau(g.length, g.gold).statistic for _, g in rows]).mean()


def phrases(style: Style):
    return {*style.openings, *style.fillers, *style.endings}


def test_the_hand_written_prompts_cover_every_kind_of_task():
    assert {kind: parse(prompt).kind for kind, (prompt, _) in BY_HAND.items()} == {
        kind: kind for kind in TEMPLATES
    }


@pytest.mark.parametrize("kind", BY_HAND)
def test_gold_ranks_answers_as_a_person_would(kind):
    prompt, answers = BY_HAND[kind]
    golds = [gold(prompt, answer) for answer in answers]
    assert golds == sorted(golds, reverse=True)
    assert len(set(golds)) == len(golds)
    assert golds[0] > 0.98


@pytest.mark.parametrize("kind", BY_HAND)
def test_repeats_surplus_and_talk_each_cost_and_talk_costs_least(kind):
    prompt, (right, *_) = BY_HAND[kind]
    last = right.split()[-1]
    polite = gold(prompt, f"{right} . i hope this helps")
    assert gold(prompt, f"{right} , {last}") < polite < gold(prompt, right)


def test_gold_of_a_list_is_the_number_computed_by_hand():
    prompt = "please list four fruits ."
    assert gold(prompt, "fig plum pear lime") == 1.0
    assert gold(prompt, "fig plum") == 0.5
    assert gold(prompt, "") == 0.0
    # 1 - exp(-0.75 / 4): one wrong item; 1 - exp(-0.0025 * 11): eleven characters of talk.
    assert gold(prompt, "fig plum pear axe") == pytest.approx(0.75 - 0.170971, abs=1e-6)
    assert gold(prompt, "Fig, plum, pear, lime: really!") == pytest.approx(0.972875, abs=1e-6)


def test_gold_of_an_order_is_the_number_computed_by_hand():
    prompt = "sort from north to south : lima oslo rome ."
    # Two of three pairs in order: 0.4 + 0.6 * 2 / 3.
    assert gold(prompt, "oslo lima rome") == pytest.approx(0.8)


@given(st.text(max_size=200))
def test_gold_reads_any_text_and_stays_between_minus_one_and_one(text):
    for prompt, _ in BY_HAND.values():
        assert -1.0 <= gold(prompt, text) <= 1.0


def test_a_prompt_in_other_case_and_spacing_has_the_same_gold():
    prompt, (right, *_) = BY_HAND["pick"]
    assert gold(f"  {prompt.title()} ".replace(" ", "   "), right) == gold(prompt, right)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "write a poem .",
        "please list three dinosaurs .",
        "please list many fruits .",
        "please list twenty fruits .",
        "pick the birds : dog axe .",
        "pick the birds : owl unicorn .",
        "sort from small to large : dog axe .",
        "sort from small to south : dog ant .",
        "add nine to each number : fifteen .",
    ],
)
def test_a_prompt_of_no_task_is_an_input_error(prompt):
    with pytest.raises(InputError, match="synthetic world"):
        gold(prompt, "owl")


def test_the_frame_has_the_requested_columns_rows_and_models():
    frame = draw(prompts=200)
    assert list(frame.columns) == ["example_id", "prompt", "response", "response_model"]
    models = frame.groupby("example_id").response_model.agg(set)
    assert len(models) == 200
    for known in (TRAIN_RESPONDERS, VALID_RESPONDERS):
        assert all(len(names & set(known)) == 4 for names in models)
    assert set(frame.response_model) == {*TRAIN_RESPONDERS, *VALID_RESPONDERS}
    assert (
        len(TRAIN_RESPONDERS) == 17 and len(VALID_RESPONDERS) == 12 and len(CHAT_RESPONDERS) == 30
    )


def test_the_frame_is_the_same_in_a_process_with_another_hash_seed():
    code = (
        "import hashlib;from rm_robustness.data.synthetic.responses import *;"
        "f=responses(0,300,list(TRAIN_RESPONDERS),list(VALID_RESPONDERS),0.6,-0.6);"
        "print(hashlib.sha256(f.to_csv(index=False).encode()).hexdigest(),"
        "hashlib.sha256(chats(0,50).to_csv(index=False).encode()).hexdigest())"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.split() == [fingerprint(draw()), fingerprint(chats(0, 50))]


def test_another_seed_is_another_world():
    assert not set(draw(seed=0).prompt[:80]) & set(draw(seed=1).prompt[:80])


def test_a_response_does_not_depend_on_other_prompts_or_models():
    many, few = draw(prompts=300), draw(prompts=40)
    pd.testing.assert_frame_equal(many.iloc[: len(few)], few)
    backwards = draw(prompts=40, train=TRAIN_RESPONDERS[::-1], valid=VALID_RESPONDERS[1:])
    key = ["example_id", "prompt", "response_model"]
    both = few.merge(backwards, on=key, suffixes=("", "_again"))
    assert len(both) > 40 * 6  # the same four, but where the model left out was one of them
    assert (both.response == both.response_again).all()


def test_no_response_is_empty_and_words_stand_apart_by_one_space():
    frame = pd.concat([draw(prompts=500), chats(0, 500)])
    assert frame.response.map(lambda r: r == " ".join(r.split()) and len(r.split()) >= 2).all()
    assert frame.response.map(str.islower).all()
    assert frame.response.str.split().str.len().mean() == pytest.approx(16, abs=2)


def test_the_vocabulary_is_small_and_items_are_never_words_of_talk():
    frame = pd.concat([draw(prompts=1500), chats(0, 500)])
    words = set(" ".join(frame.prompt.str.lower() + " " + frame.response).split())
    assert 250 <= len(words) <= 400
    assert len(CATEGORY) == len(NOUNS) == 140
    talk = {
        word for style in (TRAIN_STYLE, VALID_STYLE) for p in phrases(style) for word in p.split()
    }
    talk |= {*TRAIN_STYLE.separators, *VALID_STYLE.separators}
    assert not talk & {*NOUNS, *NUMBERS}


def test_there_are_at_least_20000_distinct_short_prompts():
    prompts = chats(3, 20_000).prompt
    assert prompts.nunique() == 20_000
    assert prompts.str.split().str.len().between(5, 14).all()


def test_some_prompts_repeat_and_some_responses_are_twins():
    frame = draw(prompts=2000)
    prompts = frame.drop_duplicates("example_id").prompt
    exact = prompts.duplicated().mean()
    loose = prompts.str.lower().str.split().str.join(" ").duplicated().mean()
    assert 0.001 < exact < loose < 0.02
    twins = frame.duplicated(["example_id", "response"]).sum()
    assert 3 <= twins <= 60


def test_validation_style_never_occurs_in_training_responses():
    assert not phrases(TRAIN_STYLE) & phrases(VALID_STYLE)
    assert not set(TRAIN_STYLE.separators) & set(VALID_STYLE.separators)
    assert TRAIN_STYLE.stop != VALID_STYLE.stop
    frame = draw(prompts=1500)
    text = {
        name: "\n".join(f" {r} " for r in frame.response[frame.response_model.isin(models)])
        for name, models in (("train", TRAIN_RESPONDERS), ("valid", VALID_RESPONDERS))
    }
    for own, other, style in (("train", "valid", TRAIN_STYLE), ("valid", "train", VALID_STYLE)):
        marks = {f" {phrase} " for phrase in phrases(style) if "{" not in phrase}
        marks |= {f" {p.split('{what}')[0].strip()} " for p in phrases(style) if " {what}" in p}
        assert all(mark in text[own] and mark not in text[other] for mark in marks if mark.strip())
    for separator in VALID_STYLE.separators:
        assert not re.search(rf"\S {re.escape(separator)} \S", text["train"])


def test_chats_speak_in_both_styles_and_only_by_chat_responders():
    frame = chats(0, 600)
    assert set(frame.response_model) == set(CHAT_RESPONDERS)
    stop = frame.response.str.contains("!", regex=False)
    assert 0.4 < stop.mean() < 0.6
    assert frame.prompt.is_unique and frame.example_id.is_unique


def test_the_dials_move_the_correlation_of_length_with_gold():
    taus = []
    for dial in (-1.0, 0.0, 1.0):
        frame = draw(prompts=500, dials=(dial, -dial))
        train = frame.response_model.isin(TRAIN_RESPONDERS)
        taus.append((mean_tau_of_length(frame[train]), mean_tau_of_length(frame[~train])))
    train, valid = zip(*taus, strict=True)
    assert train[0] + 0.15 < train[1] < train[2] - 0.15
    assert valid[0] - 0.15 > valid[1] > valid[2] + 0.15


def test_ties_of_gold_within_a_prompt_are_rare_and_quality_varies():
    frame = draw(prompts=800)
    frame["gold"] = [gold(p, r) for p, r in zip(frame.prompt, frame.response, strict=True)]
    pairs = frame.merge(frame, on="example_id")
    pairs = pairs[pairs.response_model_x < pairs.response_model_y]
    assert (pairs.gold_x == pairs.gold_y).mean() < 0.02
    assert frame.groupby("example_id").gold.std().mean() > 0.2
    by_model = frame.groupby("response_model").gold.mean()
    assert by_model["alder"] > by_model["elm"] > by_model["willow"]
    assert by_model["danube"] > by_model["rhine"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_models": ["aldr", *TRAIN_RESPONDERS[1:]]}, "train_models.*'aldr'.*'alder'"),
        ({"valid_models": ["alder"]}, "valid_models.*'alder'"),
        ({"train_models": ["alder", "ash", "ash", "elm"]}, "'ash' twice"),
        ({"length_quality_correlation": 1.2}, "^length_quality_correlation.*1.2.*nearest: 1"),
        ({"valid_length_quality_correlation": -7}, "valid_length_quality.*nearest: -1"),
        ({"length_quality_correlation": float("nan")}, "nan"),
        ({"responses_per_prompt": 18}, "responses_per_prompt.*18"),
        ({"prompts": 0}, "prompts.*0"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_that_says_what_is_near(change, message):
    settings = {
        "seed": 0,
        "prompts": 2,
        "train_models": list(TRAIN_RESPONDERS),
        "valid_models": list(VALID_RESPONDERS),
        "length_quality_correlation": 0.6,
        "valid_length_quality_correlation": -0.6,
    }
    with pytest.raises(InputError, match=message):
        responses(**{**settings, **change})
