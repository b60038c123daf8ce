"""The hub's metadata of an evaluation: read back by the hub's library, beside what was there."""

import json

import numpy as np
import pytest
from huggingface_hub import ModelCard
from support.evaluation_frames import evaluation

from rm_robustness.errors import InputError
from rm_robustness.results.eval_metadata import END, START, model_card

NAME = "org/Reward-8B"
OWN_CARD = """\
---
license: apache-2.0
base_model: Qwen/Qwen2.5-1.5B
datasets:
- openbmb/UltraFeedback
tags: [mine]
model-index:
- name: my-model
  results:
  - task: {type: text-classification}
    dataset: {type: imdb, name: IMDb}
    metrics: [{type: accuracy, value: 0.9}]
---

# My model

Made with care.

## Evaluation

By hand: good.
"""


def test_it_is_read_back_with_its_intervals():
    frame = evaluation()
    card = ModelCard(model_card(frame, NAME, None))
    results = card.data.eval_results
    own = frame[(frame["kind"] == "model") & (frame["name"] == NAME)]
    assert len(results) == (own["transformation"] == "").sum()
    tau = next(
        r for r in results if r.dataset_config == "prompt_disjoint" and r.metric_type == "tau"
    )
    row = own[own["metric"] == "prompt_disjoint_tau"].iloc[0]
    assert tau.metric_value == pytest.approx(row["value"], abs=1e-4)
    assert tau.metric_args["interval_95"] == pytest.approx(
        [row["ci_low"], row["ci_high"]], abs=1e-4
    )
    assert tau.metric_args["prompts"] == 195 and tau.dataset_name == row["title"]
    assert tau.dataset_type == "tatsu-lab/alpaca_eval" and tau.task_type == "reward-modeling"
    bench = {r.metric_type for r in results if r.dataset_type == "THU-KEG/RM-Bench"}
    assert {"chat", "hard", "overall", "style_gap"} <= bench
    assert card.data.model_name == "Reward-8B" and card.data.license is None


def test_the_source_in_the_rows_is_kept():
    source = "https://github.com/THU-KEG/RM-Bench.git at 73c52d7"
    frame = evaluation(sets={})
    frame["source"] = frame["source"].where(frame["kind"] != "model", source)
    results = ModelCard(model_card(frame, NAME, None)).data.eval_results
    assert {r.dataset_args["source"] for r in results} == {source}
    assert {r.dataset_type for r in results} == {"THU-KEG/RM-Bench"}
    assert f"{source}: ODC-By-1.0" in model_card(frame, NAME, None)


def test_the_models_own_card_is_kept_and_the_section_replaced(tmp_path):
    (tmp_path / "README.md").write_text(OWN_CARD, "utf-8")
    first = model_card(evaluation(), NAME, tmp_path)
    card = ModelCard(first)
    assert card.data.license == "apache-2.0" and card.data.base_model == "Qwen/Qwen2.5-1.5B"
    assert card.data.datasets == ["openbmb/UltraFeedback"] and card.data.tags == ["mine"]
    assert card.data.model_name == "my-model"
    assert card.data.eval_results[0].dataset_type == "imdb"
    assert "Made with care." in first and "By hand: good." in first
    (tmp_path / "README.md").write_text(first, "utf-8")
    assert model_card(evaluation(), NAME, tmp_path) == first
    fewer = model_card(evaluation(bench=False), NAME, tmp_path)
    assert fewer.count(START) == fewer.count(END) == 1 and "By hand: good." in fewer
    types = [r.dataset_type for r in ModelCard(fewer).data.eval_results]
    assert "THU-KEG/RM-Bench" in types  # of an earlier evaluation, of other data


def test_a_card_without_metadata_is_kept(tmp_path, capfd):
    (tmp_path / "README.md").write_text("# Mine\n", "utf-8")
    made = model_card(evaluation(), NAME, tmp_path)
    assert made.count("# Mine") == 1 and ModelCard(made).data.eval_results
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("named", "base"),
    [
        ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B"),
        ("/home/me/sft", None),
        ("./sft", None),
        ("sft", None),
        (None, None),
    ],
)
@pytest.mark.parametrize(
    ("file", "key"),
    [("config.json", "_name_or_path"), ("adapter_config.json", "base_model_name_or_path")],
)
def test_the_base_model_is_what_its_files_name_if_it_is_on_the_hub(
    tmp_path, file, key, named, base
):
    (tmp_path / file).write_text(json.dumps({key: named}))
    card = ModelCard(model_card(evaluation(), NAME, tmp_path))
    assert card.data.base_model == base


@pytest.mark.parametrize(
    "text", ["---\n- a\n---\n", "---\na: [\n---\n", "---\nmodel-index: [{name: x}]\n---\n", "\xff"]
)
def test_a_broken_card_is_one_line(tmp_path, text):
    (tmp_path / "README.md").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"README\.md: found .*; expected a model card") as error:
        model_card(evaluation(), NAME, tmp_path)
    assert "\n" not in str(error.value)


def test_names_are_told_apart_as_in_the_frame_and_prompts_are_each_rows_own():
    frame = evaluation(["a/bt/last", "a/bsr/last"])
    chat = (frame["statistic"] == "chat") & (frame["kind"] == "model")
    frame.loc[chat, "n_prompts"] = 129
    made = model_card(frame, "a/bt/last", None)
    assert "# bt/last\n" in made and "| bt/last " in made and "bsr" not in made
    assert next(x for x in made.splitlines() if "| chat, %" in x).split("|")[-2].strip() == "129"
    assert next(x for x in made.splitlines() if "| math, %" in x).split("|")[-2].strip() == "1327"


def test_the_table_survives_odd_titles_and_missing_numbers():
    frame = evaluation(sets={"mine": ("a | b <i>\n*c*", 3)}, bench=False)
    frame.loc[frame["statistic"] == "length_tau", "value"] = np.nan
    made = model_card(frame, NAME, None)
    table = [line for line in made.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3 and all(line.count(" | ") == 4 for line in table)
    assert r"a \| b \<i\> \*c\*" in table[2] and "nan" not in made
    assert not ModelCard(model_card(frame.assign(value=np.nan), NAME, None)).data.eval_results
