"""ObjectiveTrainer as a user of TRL drives it: all that TRL's trainer takes, with its steps."""

import json
import sys

import pytest
import torch
from peft import LoraConfig
from support.paths import ROOT
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from rm_robustness import ObjectiveTrainer, bt, norm_bt
from rm_robustness.errors import InputError
from rm_robustness.training.reward_trainer import PairsInRows

sys.path.insert(0, str(ROOT / "examples"))
from bsr_in_your_training import load, preferences


def arguments(folder, **more):
    return RewardConfig(
        output_dir=str(folder),
        **{
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 4,
            "num_train_epochs": 1,
            "report_to": "none",
            "bf16": False,
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_steps": 1,
        }
        | more,
    )


def trained(trainer, folder, data=None, config=None, prepare=None, **extra):
    """A trainer that has trained: of TRL, or ours with Bradley-Terry, TRL's own loss."""
    model, tokenizer = load(None)
    if prepare:
        prepare(model, tokenizer)
    if trainer is ObjectiveTrainer:
        extra["objective"] = bt
    made = trainer(
        model,
        arguments(folder, **(config or {})),
        train_dataset=preferences(40, 1) if data is None else data,
        processing_class=tokenizer,
        **extra,
    )
    made.train()
    return made


def as_text(row):
    return {side: row[side][0]["content"] for side in ("prompt", "chosen", "rejected")}


def left(_, tokenizer):
    tokenizer.padding_side = "left"


def attention_noise(model, _):
    model.config.attention_dropout = 0.3


def rewards(prediction):
    return {"rewards": float(prediction.predictions.size)}


EVALUATED = {"eval_strategy": "steps", "eval_steps": 2}
KINDS = {
    "random": {},
    "sequential": {"config": {"train_sampling_strategy": "sequential"}},
    "stream": {"data": preferences(40, 1).to_iterable_dataset(), "config": {"max_steps": 3}},
    "fewer pairs than a batch": {"data": preferences(5, 1)},
    "a last batch that is not full": {"data": preferences(43, 1)},
    "a last step of fewer batches": {"config": {"gradient_accumulation_steps": 4}},
    "half an epoch": {"config": {"num_train_epochs": 0.5}},
    "text": {"data": preferences(40, 1).map(as_text)},
    "padded on the left": {"prepare": left},
    "auto_find_batch_size": {"config": {"auto_find_batch_size": True}},
    "evaluation": {"config": EVALUATED, "eval_dataset": preferences(11, 2)},
    "evaluations": {
        "config": EVALUATED,
        "eval_dataset": {"a": preferences(11, 2), "b": preferences(9, 3)},
    },
    "stream of evaluation": {
        "config": EVALUATED,
        "eval_dataset": preferences(11, 2).to_iterable_dataset(),
    },
    "compute_metrics": {
        "config": EVALUATED,
        "eval_dataset": preferences(11, 2),
        "compute_metrics": rewards,
    },
    "max_length": {"config": {"max_length": 12}},
    "checkpointed": {"config": {"gradient_checkpointing": True}},
    "bf16": {"config": {"bf16": True, "use_cpu": True}},
    "LoRA": {"peft_config": LoraConfig(task_type="SEQ_CLS", modules_to_save=["score"], r=2)},
}
LOSSES = ("loss", "eval_loss", "eval_a_loss", "eval_b_loss", "eval_rewards", "grad_norm")


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_trl_s_trainer_takes_is_taken_with_the_same_steps_and_losses(kind, tmp_path):
    logs = []
    for trainer in (RewardTrainer, ObjectiveTrainer):
        made = trained(trainer, tmp_path, **KINDS[kind])
        logs.append(
            [
                (line["step"], name, line[name])
                for line in made.state.log_history
                for name in LOSSES
                if name in line
            ]
        )
    assert isinstance(made.data_collator, PairsInRows)
    ours, trl = ([line[:2] for line in log] for log in logs)
    assert ours == trl and len(ours) > 1
    found, expected = ([float(line[2]) for line in log] for log in logs)
    tolerance = 0.05 if kind == "bf16" else 2e-4
    assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_a_sampling_strategy_that_trl_cannot_follow_is_refused_in_one_line(strategy, tmp_path):
    config = {"train_sampling_strategy": strategy}
    with pytest.raises(ValueError, match="Can only automatically infer lengths"):
        trained(RewardTrainer, tmp_path, config=config)
    with pytest.raises(InputError, match=rf"found '{strategy}' without lengths.*column length"):
        trained(ObjectiveTrainer, tmp_path, config=config)


def test_the_collator_is_the_third_argument_as_in_trl(tmp_path):
    model, tokenizer = load(None)
    seen = []

    def collator(examples):
        seen.append(len(examples))
        return DataCollatorForPreference(tokenizer.pad_token_id)(examples)

    data = preferences(16, 1)
    config = arguments(tmp_path)
    ObjectiveTrainer(model, config, collator, data, None, tokenizer, objective=bt).train()
    assert seen == [8, 8]


def test_a_column_margin_is_said_to_have_no_effect(tmp_path, capsys):
    data = preferences(40, 1)
    plain = trained(ObjectiveTrainer, tmp_path, data)
    assert "margin" not in capsys.readouterr().err
    margins = trained(ObjectiveTrainer, tmp_path, data.add_column("margin", [1.0] * 40))
    assert "the column margin has no effect" in capsys.readouterr().err
    assert margins.state.log_history[0]["loss"] == plain.state.log_history[0]["loss"]


def test_dropout_is_said_once_to_need_padded_batches(tmp_path, capsys):
    trained(ObjectiveTrainer, tmp_path, prepare=attention_noise)
    assert capsys.readouterr().err.count("dropout: trained on padded batches") == 1


def test_two_labels_are_refused_as_trl_refuses_them(tmp_path):
    model, tokenizer = load(None)
    model.config.num_labels = 2
    two = AutoModelForSequenceClassification.from_config(model.config)
    with pytest.raises(ValueError, match="reward models require `num_labels=1`"):
        ObjectiveTrainer(
            two,
            arguments(tmp_path),
            train_dataset=preferences(8, 1),
            processing_class=tokenizer,
            objective=bt,
        )


def seen_by(objective, folder, collator=None, **config):
    model, tokenizer = load(None)
    return ObjectiveTrainer(
        model,
        arguments(folder, **config),
        collator(tokenizer.pad_token_id) if collator else None,
        train_dataset=preferences(40, 1),
        eval_dataset=preferences(11, 2),
        processing_class=tokenizer,
        objective=objective,
    )


def test_an_objective_sees_the_states_that_the_head_read(tmp_path):
    """In rows of trees and in padded batches, and the reward is the head's product with them."""
    heads = []

    def objective(chosen, rejected, chosen_hidden, rejected_hidden):
        weight = made.model.score.weight[0]
        heads.append(chosen_hidden.detach())
        torch.testing.assert_close(chosen_hidden @ weight, chosen)
        torch.testing.assert_close(rejected_hidden @ weight, rejected)
        assert chosen_hidden.requires_grad
        return bt(chosen, rejected)

    for collator in (None, DataCollatorForPreference):
        made = seen_by(objective, tmp_path, collator, max_steps=1)
        made.train()
    torch.testing.assert_close(*heads, rtol=1e-4, atol=1e-5)


def test_an_evaluation_leaves_an_objective_s_state_alone(tmp_path):
    made = seen_by(norm_bt, tmp_path, max_steps=2)
    made.evaluate()
    assert made._state == {}
    made.train()
    before = made._state["mean"].clone()
    assert before > 0 and made.evaluate()["eval_loss"] > 0
    assert made._state["mean"] == before


def test_norm_bt_is_resumed_to_the_same_bits(tmp_path):
    config = {"save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 4}
    config |= {"gradient_accumulation_steps": 2, "num_train_epochs": 2}
    straight = seen_by(norm_bt, tmp_path / "straight", **config)
    straight.train()
    again = seen_by(norm_bt, tmp_path / "again", **config)
    checkpoint = tmp_path / "straight" / "checkpoint-3"
    assert (checkpoint / "objective.safetensors").is_file()
    again.train(resume_from_checkpoint=str(checkpoint))
    assert again.state.global_step == straight.state.global_step == 10
    assert torch.equal(again._state["mean"], straight._state["mean"])
    for one, two in zip(again.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(one, two)
    (checkpoint / "objective.safetensors").unlink()  # and without it they would be others
    lost = seen_by(norm_bt, tmp_path / "lost", **config)
    lost.train(resume_from_checkpoint=str(checkpoint))
    assert not torch.equal(lost._state["mean"], straight._state["mean"])
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] == 3
