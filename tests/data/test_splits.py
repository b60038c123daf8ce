import json

import pandas as pd
import pytest
from support.hash_seeds import printed
from support.small_splits import frame, settings

from rm_robustness.data.splits import (
    SPLITS,
    all_pairs,
    build_splits,
    check_leakage,
    counts,
    normalise,
    pairs,
)
from rm_robustness.errors import InputError
from rm_robustness.experiment.scenarios import SCENARIOS
from rm_robustness.experiment.scenarios import SPLITS as DECLARED


def test_counts_are_those_of_the_paper_s_construction():
    splits, facts = build_splits(frame(), settings())
    assert counts(splits) == {
        "train": {"prompts": 4, "responses": 8},
        "in_domain": {"prompts": 4, "responses": 8},
        "prompt_disjoint": {"prompts": 2, "responses": 8},
        "response_disjoint": {"prompts": 4, "responses": 16},
        "mutual_disjoint": {"prompts": 2, "responses": 8},
    }
    assert facts["dropped"] == {}
    both = pd.concat([splits["train"], splits["in_domain"]])
    assert both.groupby("prompt_id")["response_model"].nunique().eq(4).all()


def test_no_scenario_leaks_into_training(world, split_settings):
    splits, _ = build_splits(world, split_settings)
    train = splits["train"]
    assert SPLITS == DECLARED
    for name, scenario in SCENARIOS.items():
        trained_on = set(splits[name]["prompt_id"]) & set(train["prompt_id"])
        assert not (scenario.unseen_prompts and trained_on)
        known = set(splits[name]["response_model"]) & set(split_settings["train_models"])
        assert bool(known) != scenario.unseen_models
    trained = set(
        zip(train["prompt"].map(normalise), train["response"].map(normalise), strict=True)
    )
    for name in SPLITS[1:]:
        split = splits[name]
        seen = zip(split["prompt"].map(normalise), split["response"].map(normalise), strict=True)
        assert not trained & set(seen)


def test_splits_do_not_depend_on_row_order(world, split_settings):
    splits, facts = build_splits(world, split_settings)
    shuffled, shuffled_facts = build_splits(world.sample(frac=1, random_state=1), split_settings)
    assert facts == shuffled_facts
    for name in SPLITS:
        pd.testing.assert_frame_equal(splits[name], shuffled[name])


def test_splits_do_not_depend_on_the_hash_seed():
    program = (
        "import hashlib, sys; sys.path.insert(0, 'tests')\n"
        "from support.small_splits import frame, settings\n"
        "from rm_robustness.data.splits import build_splits\n"
        "splits, _ = build_splits(frame(30), settings(train_prompts=20))\n"
        "text = ''.join(split.to_csv() for split in splits.values())\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    assert len(printed(program)) == 1


def test_another_seed_gives_other_splits():
    one, _ = build_splits(frame(30), settings(train_prompts=20))
    other, _ = build_splits(frame(30), settings(train_prompts=20, seed=1))
    assert set(one["train"]["prompt_id"]) != set(other["train"]["prompt_id"])


def repeated():
    """Six prompts, and the first once more in capitals and with other answers."""
    again = frame(1).assign(
        example_id="again", prompt="  QUESTION   0 ", response=[f"again {n}" for n in range(8)]
    )
    return pd.concat([frame(), again], ignore_index=True)


def test_a_repeated_prompt_is_kept_once_or_dropped():
    kept, facts = build_splits(repeated(), settings())
    assert facts["dropped"] == {"examples: repeated prompt": 1}
    assert counts(kept)["prompt_disjoint"]["prompts"] == 2
    left, facts = build_splits(repeated(), settings(repeated_prompts="drop_all"))
    assert facts["dropped"] == {"examples: repeated prompt": 2}
    assert counts(left)["prompt_disjoint"]["prompts"] == 1


def test_identical_responses_drop_the_prompt_or_the_repeat():
    rows = frame(train=("a", "b", "c", "d", "e"))
    rows.loc[(rows.example_id == "0") & (rows.response_model == "b"), "response"] = (
        "Answer of  a to 0"
    )
    models = ["a", "b", "c", "d", "e"]
    _, facts = build_splits(rows, settings(train_models=models))
    assert facts["dropped"] == {"prompts: identical responses": 1}
    splits, facts = build_splits(
        rows, settings(train_models=models, identical_responses="drop_repeats")
    )
    assert facts["dropped"] == {"responses: identical to another of the prompt": 1}
    assert sum(counts(splits)[name]["prompts"] for name in ("train", "prompt_disjoint")) == 6


def test_an_unseen_model_that_says_what_a_train_model_said_is_left_out():
    rows = frame()
    rows.loc[(rows.example_id == "0") & (rows.response_model == "v"), "response"] = (
        "answer of a to 0"
    )
    splits, facts = build_splits(rows, settings())
    assert facts["dropped"]["responses: identical to another of the prompt"] == 1
    both = pd.concat([splits["response_disjoint"], splits["mutual_disjoint"]])
    assert "question 0" not in set(both["prompt"])


def test_long_responses_are_left_out_and_counted():
    rows = frame(train=("a", "b", "c", "d", "e"))
    rows.loc[(rows.response_model == "e"), "response"] += " and more" * 50
    _, facts = build_splits(
        rows, settings(train_models=["a", "b", "c", "d", "e"], max_characters=100)
    )
    assert facts["dropped"] == {"responses: longer than max_characters": 6}


def test_a_prompt_whose_responses_are_all_too_long_is_counted():
    rows = frame(7)
    rows.loc[rows.example_id == "0", "prompt"] = "a longer question " * 10
    splits, facts = build_splits(rows, settings(max_characters=100))
    assert facts["dropped"] == {
        "responses: longer than max_characters": 8,
        "prompts: too few train-model responses left": 1,
    }
    both = pd.concat([splits["train"], splits["prompt_disjoint"]])
    assert both["prompt_id"].nunique() == 6


def test_pairs_with_equal_gold_are_dropped_and_counted():
    splits, facts = build_splits(frame().assign(gold=1.0), settings())
    assert facts["dropped"] == {
        "train: prompts without two different golds": 4,
        "in_domain: prompts without two different golds": 4,
    }
    assert len(splits["train"]) == 0


def test_train_has_as_many_responses_as_are_asked_for_and_in_domain_the_two_after_them():
    models = ["a", "b", "c", "d", "e", "f"]
    splits, facts = build_splits(
        frame(train=models), settings(train_models=models, train_responses=3)
    )
    assert counts(splits)["train"] == {"prompts": 4, "responses": 12}
    assert counts(splits)["in_domain"] == {"prompts": 4, "responses": 8}
    both = pd.concat([splits["train"], splits["in_domain"]])
    assert both.groupby("prompt_id")["response_model"].nunique().eq(5).all()
    assert facts["dropped"] == {}


def test_prompts_need_two_responses_beside_those_that_train():
    models = ["a", "b", "c", "d", "e"]
    rows = frame(7, train=models)
    one_fewer = (rows.example_id == "0") & (rows.response_model == "e")
    asked = settings(train_models=models, train_responses=3, max_characters=100)
    rows.loc[one_fewer, "response"] += " and more" * 50
    splits, facts = build_splits(rows, asked)
    assert facts["dropped"]["prompts: too few train-model responses left"] == 1
    assert counts(splits)["in_domain"] == {"prompts": 4, "responses": 8}


def test_the_chosen_response_has_more_gold():
    splits, _ = build_splits(frame(), settings())
    paired = pairs(splits["train"])
    assert (paired["chosen_gold"] > paired["rejected_gold"]).all()
    assert list(paired["prompt_id"]) == list(splits["train"]["prompt_id"].unique())


def test_evaluation_prompts_caps_every_scenario():
    splits, _ = build_splits(frame(20), settings(train_prompts=10, evaluation_prompts=3))
    sizes = {name: count["prompts"] for name, count in counts(splits).items()}
    assert sizes == {"train": 10, **dict.fromkeys(SPLITS[1:], 3)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.assign(gold=f["gold"].where(f.index != 3)), ["example 0", "model d", "nan"]),
        (
            lambda f: f.assign(response=f["response"].where(f.index != 3, "  ")),
            ["model d", "empty"],
        ),
        (lambda f: f.drop(index=3), ["example 0", "3 responses of train_models", "4"]),
        (lambda f: f.drop(index=6), ["example 0", "3 responses of valid_models"]),
        (lambda f: f[f["response_model"] != "w"], ["none of response model 'w'"]),
        (lambda f: pd.concat([f, f[f.index == 3]]), ["example 0", "two responses"]),
        (lambda f: f[f["example_id"].isin(["0", "1", "2"])], ["3 usable prompts", "5 or more"]),
    ],
)
def test_bad_rows_are_named(change, words):
    with pytest.raises(InputError) as error:
        build_splits(change(frame()), settings())
    line = str(error.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_prompt_with_too_few_train_responses_is_left_out_whole_and_listed():
    rows = frame(10).drop(index=3)  # example 0, model d
    splits, facts = build_splits(rows, settings(max_left_out=0.1))
    why = "found 3 responses of train_models; expected 4 (responses.responses_per_prompt)"
    assert facts["left_out"] == {"0": why}
    assert "question 0" not in {prompt for split in splits.values() for prompt in split["prompt"]}
    assert sum(counts(splits)[name]["prompts"] for name in ("train", "prompt_disjoint")) == 9


def test_a_prompt_with_too_few_unseen_responses_is_left_out_of_their_scenarios_alone():
    rows = frame(10).drop(index=6)  # example 0, model x
    splits, facts = build_splits(rows, settings(max_left_out=0.1, train_prompts=5))
    why = "found 3 responses of valid_models; expected 4 (responses.responses_per_prompt)"
    assert facts["left_out"] == {"0": why}
    known = pd.concat([splits["train"], splits["prompt_disjoint"]])
    unseen = pd.concat([splits["response_disjoint"], splits["mutual_disjoint"]])
    assert "question 0" in set(known["prompt"])
    assert set(known["prompt"]) - set(unseen["prompt"]) == {"question 0"}


def test_more_prompts_with_too_few_responses_than_the_share_are_an_error():
    rows = frame(10).drop(index=[3, 8 + 6, 8 + 7])  # examples 0 and 1
    build_splits(rows, settings(max_left_out=0.2))
    with pytest.raises(InputError, match=r", and 1 more of 10; .*splits\.max_left_out .* 0\.1$"):
        build_splits(rows, settings(max_left_out=0.1))


@pytest.mark.parametrize("value", [None, 3, "cut \ud83d"])
def test_a_response_or_prompt_that_is_no_text_is_named(value):
    for column in ("prompt", "response"):
        rows = frame()
        rows[column] = rows[column].astype(object)
        rows.at[3, column] = value
        with pytest.raises(InputError, match=f"responses: row 3, example 0: found {column} "):
            build_splits(rows, settings())


def test_empty_responses_may_be_dropped_where_config_says_so():
    rows = frame(train=("a", "b", "c", "d", "e"))
    rows.loc[3, "response"] = ""
    models = ["a", "b", "c", "d", "e"]
    _, facts = build_splits(rows, settings(train_models=models, empty_responses="drop"))
    assert facts["dropped"] == {"responses: empty": 1}


@pytest.mark.parametrize("name", ["in_domain", "prompt_disjoint", "response_disjoint"])
def test_leakage_is_refused(name):
    splits, _ = build_splits(frame(), settings())
    leak = splits["train"].iloc[[0]].assign(response_id="new")
    broken = splits | {name: pd.concat([splits[name], leak], ignore_index=True)}
    with pytest.raises(InputError, match=name):
        check_leakage(broken, settings())


def test_the_command_writes_the_manifest_with_hashes(tmp_path):
    from rm_robustness.cli.main import main
    from rm_robustness.files import sha256
    from rm_robustness.frames import write_frame

    write_frame(frame(), tmp_path / "gold.parquet")
    main(
        [
            "splits",
            "--settings",
            json.dumps(settings()),
            "--gold",
            str(tmp_path / "gold.parquet"),
            "--output",
            str(tmp_path / "splits"),
        ]
    )
    manifest = json.loads((tmp_path / "splits/manifest.json").read_text())
    assert manifest["counts"]["train"] == {"prompts": 4, "responses": 8}
    assert set(manifest["sha256"]) == set(SPLITS)
    for name, digest in manifest["sha256"].items():
        assert digest == sha256(tmp_path / f"splits/{name}.parquet")


def test_all_pairs_are_those_that_differ_in_gold_prompt_by_prompt():
    split = pd.DataFrame(
        {
            "prompt_id": ["b", "b", "a", "a", "a"],
            "prompt": ["B", "B", "A", "A", "A"],
            "response": ["b1", "b2", "a1", "a2", "a3"],
            "gold": [1.0, 1.0, 1.0, 3.0, 2.0],
        }
    )
    paired = all_pairs(split)
    found = paired[["prompt_id", "prompt", "chosen_response", "rejected_response"]]
    assert found.to_numpy().tolist() == [
        ["a", "A", "a2", "a1"],
        ["a", "A", "a2", "a3"],
        ["a", "A", "a3", "a1"],
    ]
    assert set(pairs(split.iloc[2:]).columns) == set(paired.columns)


def test_the_gold_s_pairs_are_of_the_train_prompts_and_of_all_models():
    """D51: six prompts of eight responses each, one model in either half among the drawn ones."""
    plain, facts = build_splits(frame(), settings())
    splits, own_facts = build_splits(frame(), settings(gold_responses=8))
    gold = splits.pop("gold_train")
    for name, split in plain.items():
        pd.testing.assert_frame_equal(splits[name], split)
    assert own_facts["counts"].pop("gold_train") == {"prompts": 4, "responses": 32}
    assert own_facts == facts
    assert list(gold.columns) == list(splits["train"].columns)
    assert list(gold["prompt_id"].unique()) == list(splits["train"]["prompt_id"].unique())
    assert not set(gold["prompt_id"]) & set(splits["prompt_disjoint"]["prompt_id"])
    for _, rows in gold.groupby("prompt_id"):
        assert sorted(rows["response_model"]) == ["a", "b", "c", "d", "v", "w", "x", "y"]


def test_of_more_responses_as_many_as_wanted_are_drawn_and_always_the_same():
    whole, _ = build_splits(frame(30), settings(train_prompts=20, gold_responses=8))
    some, _ = build_splits(frame(30), settings(train_prompts=20, gold_responses=3))
    shuffled = frame(30).sample(frac=1, random_state=1)
    again, _ = build_splits(shuffled, settings(train_prompts=20, gold_responses=3))
    pd.testing.assert_frame_equal(some["gold_train"], again["gold_train"])
    first = whole["gold_train"].groupby("prompt_id", sort=False).head(3).reset_index(drop=True)
    pd.testing.assert_frame_equal(some["gold_train"], first)
    assert set(some["gold_train"]["response_model"]) == set("abcdvwxy")
    other, _ = build_splits(frame(30), settings(train_prompts=20, gold_responses=3, seed=1))
    assert set(other["gold_train"]["response_id"]) != set(first["response_id"])


def test_a_prompt_whose_drawn_responses_are_equally_good_has_no_pair():
    rows = frame()
    rows.loc[rows["prompt"] == "question 0", "gold"] = 1.0
    for seed in range(3):
        splits, _ = build_splits(rows, settings(gold_responses=8, seed=seed))
        assert "question 0" not in set(splits["gold_train"]["prompt"])
