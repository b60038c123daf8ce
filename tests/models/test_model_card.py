import json
import re

import pandas as pd
import pytest

from rm_robustness.models.model_card import card
from rm_robustness.objectives import OBJECTIVES, Objective

HASH = "0" * 64


def record(**settings):
    """The parts of a reward model's record.json that a card reads, and some that it must not."""
    return {
        "seed": 3,
        "processes": 2,
        "settings": {
            "objective": "bt",
            "options": {},
            "pairs": "best_worst",
            "micro_batch": 16,
            "global_batch": 128,
            "learning_rate": 5e-6,
            "epochs": 1,
        }
        | settings,
        "inputs": {
            "backbone": {"path": "/home/someone/model.safetensors", "sha256": HASH},
            "train": {"path": "runs/demo/splits/train.parquet", "sha256": "f" * 64},
        },
        "hardware": {"cpu": "a machine"},
        "wall_seconds": 11.7,
    }


BACKBONE = record() | {
    "settings": {
        "init": {"kind": "hub", "repo": "team/base", "revision": None},
        "sft": {"learning_rate": 1e-5, "global_batch": 512, "epochs": 1},
    }
}
POLICY = record(k=2, beta=0.05, prompts_per_update=128) | {"policy": "standard-bt"}
ALL = {"reward_model": record(), "backbone": BACKBONE, "policy": POLICY}


@pytest.mark.parametrize("kind", ALL)
def test_the_front_matter_is_what_the_hub_reads(kind):
    from huggingface_hub import ModelCard

    data = ModelCard(card(kind, ALL[kind])).data
    task = "text-classification" if kind == "reward_model" else "text-generation"
    assert (data.library_name, data.pipeline_tag) == ("transformers", task)
    assert "rm-robustness" in data.tags
    assert data.base_model == ("team/base" if kind == "backbone" else None)


def test_the_gold_of_samples_is_said_to_be_a_stand_in():
    gold = record()
    gold["inputs"]["train"]["path"] = "runs/laptop/splits/gold_train.parquet"
    assert "is not that judge" in card("reward_model", gold)
    assert "is not that judge" not in card("reward_model", record())


@pytest.mark.parametrize("kind", ALL)
def test_a_card_says_what_it_rests_on_but_not_where_or_when(kind):
    text = card(kind, ALL[kind])
    assert "seed 3" in text and f"runs/demo/splits/train.parquet`, sha256 `{'f' * 64}`" in text
    assert "`model.safetensors`" in text and "someone" not in text
    assert "a machine" not in text and "11.7" not in text
    assert not re.search(r"\b20\d\d\b", text)


def test_a_card_says_at_which_time_a_dated_template_was_rendered():
    text = card("reward_model", record() | {"template_clock": "2024-07-26"})
    assert "strftime_now=datetime(2024, 7, 26).strftime" in text


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_formula_is_the_objective_s(objective):
    """The line is read back as Python and compared with what training minimises."""
    import torch

    text = card("reward_model", record(objective=objective))
    line = re.search(r"`(.+?)`, with r_w", text).group(1)
    chosen, rejected = torch.tensor([0.3, 1.5, -2.0]), torch.tensor([0.1, 2.5, -3.0])
    states_w, states_l = torch.eye(3), torch.arange(9.0).reshape(3, 3)
    names = {
        "h_w": states_w,
        "h_l": states_l,
        "norm": lambda x: x.norm(dim=1),
        "running_mean": lambda x: x.mean(),
        "logsigmoid": torch.nn.functional.logsigmoid,
        "sqrt": torch.sqrt,
        "r_w": chosen,
        "r_l": rejected,
        "max": lambda zero, x: x.clamp(min=zero),
        "m": torch.cat([chosen, rejected]).mean(),
    }
    found = eval(line, {}, names).mean()
    if "strength" in OBJECTIVES[objective].formula:  # of the card's 16 pairs, not the three here
        squares = torch.cat([chosen, rejected]).square().mean()
        penalty = squares if objective == "bt-squares" else names["m"] ** 2
        alone = OBJECTIVES[objective].function(chosen, rejected, weight=0.0)
        expected = alone + 1e-3 * 16 * penalty
        assert ("m the mean reward" in text) == (objective != "bt-squares")
    else:
        states = {"chosen_hidden": states_w, "rejected_hidden": states_l}
        options = states if objective == "norm-bt" else {}
        expected = OBJECTIVES[objective].function(chosen, rejected, **options)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("reduction", "strength"), [("release", 0.16), ("paper", 0.01), ("global", 0.32)]
)
def test_the_strength_of_bsr_follows_its_reduction(reduction, strength):
    options = {"weight": 1e-2, "reduction": reduction}
    text = card("reward_model", record(objective="bt-bsr", options=options))
    assert f"+ {strength:g} * m**2`" in text
    assert f"(lambda 0.01, micro-batch 16 pairs, reduction `{reduction}`)" in text


def test_of_all_pairs_of_a_prompt_a_batch_has_prompts_and_the_strength_counts_pairs():
    made = record(objective="bt-bsr", options={"weight": 1e-3, "reduction": "release"}, pairs="all")
    text = card("reward_model", made | {"pairs": 150, "prompts": 10})
    assert "+ 0.24 * m**2`" in text  # 1e-3 x 16 prompts x 15 pairs
    assert "16 prompts with all their pairs a step" in text


def test_options_that_settings_leave_out_are_the_objective_s_own():
    assert "max(0, 1 - (r_w - r_l))" in card("reward_model", record(objective="bt-hinge"))
    settings = record(objective="bt-hinge", options={"margin": 0.5})
    assert "max(0, 0.5 - (r_w - r_l))" in card("reward_model", settings)


@pytest.mark.parametrize(
    ("formula", "line"),
    [
        ("{scale:g} * (r_l - r_w)", "2 * (r_l - r_w)"),
        ("{unknown:g} * (r_l - r_w)", "{unknown:g} * (r_l - r_w)"),
        ("{scale} * {{r_l - r_w", "2.0 * {r_l - r_w"),
        ("{0} { (r_l - r_w)", "{0} { (r_l - r_w)"),
    ],
)
def test_a_sixth_objective_has_a_card_whatever_its_formula(formula, line, monkeypatch):
    def linear(chosen, rejected, scale=2.0, reduction="mean"):
        return scale * (rejected - chosen).mean()

    sixth = Objective(linear, formula, "Linear", "#0072B2", "p")
    monkeypatch.setitem(OBJECTIVES, "linear", sixth)
    text = card("reward_model", record(objective="linear"))
    assert text.startswith("---\n") and "# Reward model, linear" in text
    assert f"`{line}`, with r_w" in text


def code(text: str) -> str:
    return re.search(r"```python\n(.+?)```", text, re.DOTALL).group(1)


def test_the_code_of_a_reward_model_s_card_scores_as_the_scorer_does(
    llama, tmp_path, monkeypatch, capsys
):
    from transformers import AutoTokenizer

    from rm_robustness.models.reward_model import initialise, load, save
    from rm_robustness.models.scoring import score

    save(initialise(llama, seed=1), AutoTokenizer.from_pretrained(llama), tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code(card("reward_model", record())), names)
    assert float(capsys.readouterr().out)
    row = {"prompt": "count to two .", "response": "one two ."}
    ids = dict.fromkeys(["prompt_id", "response_id", "response_model", "gold"], 0)
    expected = score(*load(tmp_path), pd.DataFrame([row | ids]), 0)["reward"][0]
    assert names["reward"](**row) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["backbone", "policy"])
def test_the_code_of_a_language_model_s_card_answers(kind, llama, monkeypatch, capsys):
    monkeypatch.chdir(llama)
    names: dict = {}
    exec(code(card(kind, ALL[kind])), names)
    assert 1 <= len(names["output"][0]) - names["inputs"]["input_ids"].shape[1] <= 32
    assert capsys.readouterr().out.endswith("\n")


def test_a_card_is_made_from_a_record_as_training_writes_it(llama, splits, tmp_path):
    from support.small_models import training_settings

    from rm_robustness.files import read_json
    from rm_robustness.training.reward_trainer import train_reward_model

    settings = training_settings(epochs=0.2, objective="bt-bsr")
    data = (splits / "train.parquet", splits / "in_domain.parquet")
    folder = train_reward_model(llama, *data, settings, 0, tmp_path / "work", "test")
    written = read_json(folder / "record.json")
    text = card("reward_model", written)
    assert written["inputs"]["train"]["sha256"] in text and str(tmp_path) not in text
    assert card("reward_model", json.loads(json.dumps(written))) == text
