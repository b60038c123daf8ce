"""The example, and ObjectiveTrainer used alone, without the rest of this project."""

import importlib
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from support.paths import ROOT
from transformers import AutoTokenizer
from trl import RewardConfig

import rm_robustness
from rm_robustness import ObjectiveTrainer, bsr, bt, bt_bsr, bt_hinge
from rm_robustness.data.splits import pairs
from rm_robustness.frames import read_frame
from rm_robustness.models import chat
from rm_robustness.models.reward_model import initialise
from rm_robustness.models.scoring import score_ids

README = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(splits):
    """Sixteen pairs with the columns of TRL's preference data, as texts."""
    frame = pairs(read_frame(splits / "train.parquet").head(32))
    names = {"chosen_response": "chosen", "rejected_response": "rejected"}
    return frame.rename(columns=names)[["prompt", "chosen", "rejected"]].to_dict("records")


def messages(rows):
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return [{k: [{"role": roles[k], "content": v}] for k, v in row.items()} for row in rows]


def trainer(llama, rows, folder, objective, kind=ObjectiveTrainer, eval_rows=None, **options):
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_eval_batch_size": 16,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    } | options
    return kind(
        model=initialise(llama, seed=1),
        args=RewardConfig(**settings),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(eval_rows) if eval_rows else None,
        processing_class=AutoTokenizer.from_pretrained(llama),
        objective=objective,
    )


def blocks() -> list[str]:
    return re.findall(r"```python\n(.+?)```", README, re.DOTALL)


def test_the_lines_of_the_readme_train_a_model(llama, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = initialise(llama, seed=1)
    before = model.score.weight.detach().clone()
    tokenizer = AutoTokenizer.from_pretrained(llama)
    code = blocks()[0].replace("RewardConfig(", "RewardConfig(bf16=False, ")
    exec(code, {"model": model, "tokenizer": tokenizer, "pairs": Dataset.from_list(rows)})
    assert not torch.equal(model.score.weight, before)


def test_the_objective_of_the_readme_is_a_sum(rows):
    names: dict = {}
    exec(blocks()[1], names)
    chosen, rejected = torch.tensor([2.0, 1.0]), torch.tensor([1.5, 3.0])
    # By hand: hinges of 0.5 and 3; the mean of the four rewards is 1.875, B is 2.
    expected = (0.5 + 3) / 2 + 1e-3 * 2 * 1.875**2
    assert names["objective"](chosen, rejected).item() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["text", "messages"])
def test_ordinary_preference_data_are_trained_on(llama, rows, tmp_path, form):
    data = messages(rows) if form == "messages" else rows
    made = trainer(llama, data, tmp_path, partial(bt_bsr, weight=1e-3))
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    made.train()
    for name, parameter in made.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_messages_are_rendered_as_the_scorer_renders_them(llama, rows, tmp_path):
    made = trainer(llama, messages(rows), tmp_path, bt)
    texts = {name: [row[name] for row in rows] for name in rows[0]}
    for side in ("chosen", "rejected"):
        expected = chat.pair_ids(made.processing_class, texts["prompt"], texts[side])
        assert list(made.train_dataset[f"{side}_ids"]) == expected


def test_the_loss_of_eval_data_is_the_objective_s(llama, rows, tmp_path):
    made = trainer(
        llama, messages(rows), tmp_path, partial(bt_bsr, weight=0.5), eval_rows=messages(rows)
    )
    found = made.evaluate()
    ids = [*made.train_dataset["chosen_ids"], *made.train_dataset["rejected_ids"]]
    rewards = torch.from_numpy(score_ids(made.model, ids, 0).rewards)
    chosen, rejected = rewards.chunk(2)
    expected = bt(chosen, rejected) + bsr(chosen, rejected, weight=0.5)
    assert found["eval_loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert found["eval_loss"] != pytest.approx(bt(chosen, rejected).item(), rel=1e-2)
    assert found["eval_mean_reward"] == pytest.approx(rewards.mean().item(), rel=1e-4)


@pytest.mark.parametrize(("reduction", "share"), [("release", 0.5), ("paper", 1.0)])
def test_accumulation_averages_the_penalties_of_its_micro_batches(
    llama, rows, tmp_path, reduction, share
):
    """Every response is the same, so every reward is c and the loss log 2 plus the penalty."""
    same = [row | {"prompt": "a", "chosen": "b", "rejected": "b"} for row in rows[:8]]
    objective = partial(bt_bsr, weight=0.5, reduction=reduction)
    penalties = []
    for micro, steps in ((8, 1), (4, 2)):
        made = trainer(
            llama,
            messages(same),
            tmp_path,
            objective,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=steps,
        )
        reward = score_ids(made.model, made.train_dataset["chosen_ids"][:1], 0).rewards.item()
        penalties.append(made.train().training_loss - math.log(2))
    assert penalties[0] == pytest.approx(
        0.5 * (8 if reduction == "release" else 1) * reward**2, rel=1e-3
    )
    assert penalties[1] == pytest.approx(share * penalties[0], rel=1e-3)


class Mine(ObjectiveTrainer):
    """A user's subclass: it adds a term to the loss and reads the outputs."""

    seen: list[float]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        self.seen.append(float(outputs.logits.detach().mean()))
        loss = loss + 0.0 * outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


def test_a_subclass_with_a_loss_of_its_own_trains_the_same(llama, rows, tmp_path):
    made = [trainer(llama, rows, tmp_path, bt_hinge, kind) for kind in (Mine, ObjectiveTrainer)]
    made[0].seen = []
    for one in made:
        one.train()
    logged = [entry["mean_reward"] for entry in made[0].state.log_history if "loss" in entry]
    np.testing.assert_allclose(made[0].seen, logged, atol=1e-6)
    assert torch.equal(made[0].model.score.weight, made[1].model.score.weight)


def test_every_public_name_is_there_and_no_other():
    assert set(dir(rm_robustness)) == set(rm_robustness.__all__)
    for name in rm_robustness.__all__:
        value = getattr(rm_robustness, name)
        assert value is getattr(importlib.import_module(value.__module__), name)
    with pytest.raises(AttributeError, match="no attribute 'bt_bsrr'"):
        _ = rm_robustness.bt_bsrr


def test_importing_the_package_imports_nothing_heavy():
    program = (
        "import sys, rm_robustness; print([n for n in ('torch', 'trl', 'pandas') "
        "if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.slow
def test_the_example_shows_that_bsr_holds_the_mean(tmp_path):
    """The mean reward ends nearer to zero than with bt alone, and the accuracy does not pay."""
    program = ROOT / "examples" / "bsr_in_your_training.py"
    answer = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    line = r"(\S+) +mean reward +(\S+) -> +(\S+), accuracy (\S+)"
    found = {name: list(map(float, rest)) for name, *rest in re.findall(line, answer.stdout)}
    assert list(found) == ["bt", "bt-bsr"]
    assert found["bt"][0] == found["bt-bsr"][0]
    assert abs(found["bt-bsr"][1]) < abs(found["bt"][1]) / 2
    assert found["bt-bsr"][2] > found["bt"][2] - 0.1
    assert list(Path(tmp_path).iterdir()) == []
    # What the README shows is of this kind: the same lines in the same form.
    assert len(re.findall(line, README)) == 2
