import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from support.paths import ROOT
from support.small_models import training_settings
from transformers import AutoTokenizer
from trl import RewardConfig
from trl.trainer.reward_trainer import DataCollatorForPreference

from rm_robustness.errors import InputError
from rm_robustness.files import read_json, sha256
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models.reward_model import initialise, load
from rm_robustness.objectives import OBJECTIVES
from rm_robustness.training.resume import publish
from rm_robustness.training.reward_trainer import (
    ObjectiveTrainer,
    Pairs,
    PairsInRows,
    tokenised,
    train_reward_model,
)
from rm_robustness.training.trl_arguments import training_arguments

RUN = """
import json, sys
from pathlib import Path
from rm_robustness.training.reward_trainer import train_reward_model
backbone, splits, work, settings = sys.argv[1:]
train_reward_model(Path(backbone), Path(splits) / "train.parquet",
      Path(splits) / "in_domain.parquet", json.loads(settings), 0, Path(work), "test")
"""


def once(llama, splits, work, seed=0, **changes):
    held_out = splits / "in_domain.parquet"
    settings = training_settings(**changes)
    return train_reward_model(
        llama, splits / "train.parquet", held_out, settings, seed, work, "test"
    )


@pytest.fixture(scope="module")
def trained(llama, splits, tmp_path_factory):
    return once(llama, splits, tmp_path_factory.mktemp("trained"))


def test_every_weight_moves_and_the_result_loads(trained, llama):
    model, _ = load(trained)
    before = initialise(llama, 0)
    for (name, new), (_, old) in zip(
        model.named_parameters(), before.named_parameters(), strict=True
    ):
        assert not torch.equal(new, old), name


def test_training_fits_the_train_pairs(trained, splits):
    from rm_robustness.models.scoring import score_ids

    model, tokenizer = load(trained)
    data = Pairs(tokenizer, read_frame(splits / "train.parquet"), 96, None)
    rewards = score_ids(model, data.chosen + data.rejected, 4096).rewards
    chosen, rejected = np.split(rewards, 2)
    assert np.mean(chosen > rejected) > 0.6


def test_two_runs_give_the_same_bits_and_another_seed_other_ones(trained, llama, splits, tmp_path):
    again = once(llama, splits, tmp_path / "again")
    other = once(llama, splits, tmp_path / "other", seed=1)
    assert sha256(again / "model.safetensors") == sha256(trained / "model.safetensors")
    assert sha256(other / "model.safetensors") != sha256(trained / "model.safetensors")


def test_probes_begin_before_training_and_end_after_it(trained, llama):
    probes = read_frame(trained / "probes.parquet")
    steps = read_json(trained / "record.json")["steps"]
    assert sorted(probes["step"].unique())[0] == 0
    assert sorted(probes["step"].unique())[-1] == steps
    assert probes["step"].nunique() == 4
    assert probes.groupby("step").size().eq(16).all()
    first, last = (probes[probes["step"] == step] for step in (0, steps))
    head = load_file(trained / "model.safetensors")["score.weight"].double()
    assert last["weight_norm"].iloc[0] == pytest.approx(head.norm().item(), rel=1e-6)
    untrained = initialise(llama, 0).score.weight.double().norm().item()
    assert first["weight_norm"].iloc[0] == pytest.approx(untrained, rel=1e-6)


def test_probes_see_what_the_scorer_sees(trained, splits):
    from rm_robustness.models.scoring import score_ids

    model, tokenizer = load(trained)
    data = Pairs(tokenizer, read_frame(splits / "in_domain.parquet"), 96, 16)
    chosen, rejected = (score_ids(model, ids, 0) for ids in (data.chosen, data.rejected))
    last = read_frame(trained / "probes.parquet").tail(16)
    np.testing.assert_allclose(last["chosen_reward"], chosen.rewards, rtol=0, atol=1e-5)
    difference = np.linalg.norm(chosen.hidden - rejected.hidden, axis=1)
    np.testing.assert_allclose(last["difference_norm"], difference, rtol=1e-4)


def test_the_record_says_what_made_the_checkpoint(trained, llama, splits):
    record = read_json(trained / "record.json")
    assert record["seed"] == 0
    assert record["settings"]["micro_batch"] == 8
    assert (
        record["pairs"] + record["pairs_dropped"] == len(read_frame(splits / "train.parquet")) / 2
    )
    assert record["inputs"]["backbone"]["sha256"] == sha256(llama / "model.safetensors")
    assert record["files"]["model.safetensors"] == sha256(trained / "model.safetensors")
    assert record["packages"]["trl"] and record["hardware"]["threads"]


def test_pairs_beyond_the_length_are_dropped_and_counted_never_cut(llama, splits):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama)
    frame = read_frame(splits / "train.parquet")
    whole = Pairs(tokenizer, frame, 96, None)
    longest = [max(map(len, pair)) for pair in zip(whole.chosen, whole.rejected, strict=True)]
    short = Pairs(tokenizer, frame, 40, None)
    assert short.dropped == sum(length > 40 for length in longest) > 0
    assert all(ids in whole.chosen for ids in short.chosen)
    with pytest.raises(InputError, match=r"all .* longer than 3 tokens"):
        Pairs(tokenizer, frame, 3, None)


@pytest.mark.parametrize(("value", "found"), [(None, "response None"), ("  ", "an empty response")])
def test_a_train_response_that_is_no_text_is_named_by_file_and_row(
    llama, splits, tmp_path, value, found
):
    frame = read_frame(splits / "train.parquet")
    frame.loc[3, "response"] = value
    write_frame(frame, tmp_path / "train.parquet")
    where = rf"train\.parquet, row 3, response {frame['response_id'][3]}: found {found}"
    with pytest.raises(InputError, match=where):
        tokenised(llama, tmp_path / "train.parquet", 96, None)


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_bits(llama, splits, tmp_path):
    """kill -9 after a checkpoint, then the same command again."""
    import json

    settings = json.dumps(training_settings(epochs=6))
    straight, killed = tmp_path / "straight", tmp_path / "killed"

    def command(work: Path) -> list[str]:
        return [sys.executable, "-c", RUN, str(llama), str(splits), str(work), settings]

    subprocess.run(command(straight), check=True, capture_output=True)
    process = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoint-*/complete")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "final").exists()
    reached = [int(p.parent.name.split("-")[1]) for p in killed.glob("checkpoint-*/complete")]
    # A checkpoint cut by the kill must not be gone on from.
    (killed / "checkpoint-99999").mkdir()
    log = subprocess.run(command(killed), check=True, capture_output=True, text=True).stderr
    steps = read_json(straight / "final/record.json")["steps"]
    assert max(reached) < steps
    assert f"{steps}/{steps} steps" in log
    assert read_json(killed / "final/record.json")["resumed_from"] == f"checkpoint-{max(reached)}"
    for name in ("model.safetensors", "probes.parquet"):
        assert sha256(straight / "final" / name) == sha256(killed / "final" / name), name


def test_a_finished_training_is_not_run_again(trained, llama, splits):
    stamp = (trained / "model.safetensors").stat().st_mtime_ns
    assert once(llama, splits, trained.parent) == trained
    assert (trained / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_kill_while_publishing_loses_nothing(trained, tmp_path):
    """Snakemake deletes what such a job had put into place; the same job puts it there again."""
    publish(trained, tmp_path)
    for name in ("model.safetensors", "probes.parquet", "record.json"):
        (tmp_path / name).unlink()
    publish(trained, tmp_path)
    for path in trained.iterdir():
        assert sha256(tmp_path / path.name) == sha256(path)
    assert len(list(tmp_path.iterdir())) == len(list(trained.iterdir()))


PAIRS = [([5, 6, 7, 8, 9], [5, 6, 10]), ([11, 12], [11, 13, 14]), ([20], [21, 22])]


def trainer_of(llama, folder, rows, objective="bt-bsr", **config):
    """An ObjectiveTrainer on tokenised pairs, and its model's gradients for one batch of all."""
    model, tokenizer = initialise(llama, 1), AutoTokenizer.from_pretrained(llama)
    for name, value in config.items():
        setattr(model.config, name, value)
    arguments = training_arguments(training_settings(global_batch=1, micro_batch=1), folder, 0)
    return ObjectiveTrainer(
        model=model,
        args=RewardConfig(**arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        objective=OBJECTIVES[objective].function,
    )


def gradients_of(made, collator):
    """Loss and gradients of all training rows as one micro-batch."""
    made.model.zero_grad()
    loss = made.compute_loss(made.model, collator([*made.train_dataset]))
    loss.backward()
    gradients = [p.grad.flatten() for p in made.model.parameters() if p.grad is not None]
    return loss.detach(), torch.cat(gradients)


def rows_of(pairs):
    return [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in pairs]


def test_a_micro_batch_is_one_row_of_prompt_trees(llama, tmp_path):
    made = trainer_of(llama, tmp_path, rows_of(PAIRS))
    batch = made.data_collator(rows_of(PAIRS))
    tokens, ends = batch["input_ids"][0], batch["ends"]
    assert tokens.tolist() == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 20, 21, 22]
    assert tokens[ends].tolist() == [9, 12, 20, 10, 14, 22]  # chosen ones first, as trl has them
    assert batch["attention_mask"].sum() == len(tokens)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("pad", ["own", "eos"])
def test_trees_give_the_gradients_of_trl_s_padded_batch(llama, tmp_path, objective, pad):
    """And where EOS pads, both read the reward before it, as the checkpoint's classifier will."""
    eos = AutoTokenizer.from_pretrained(llama).eos_token_id
    pairs = [([*chosen, eos], [*rejected, eos]) for chosen, rejected in PAIRS]
    made = trainer_of(llama, tmp_path, rows_of(pairs), objective)
    collator = made.data_collator
    assert isinstance(collator, PairsInRows)
    if pad == "eos":
        made.model.config.pad_token_id = eos
        collator = PairsInRows(eos)
    padded = DataCollatorForPreference(pad_token_id=made.model.config.pad_token_id)
    expected, exact = gradients_of(made, padded)
    loss, gradients = gradients_of(made, collator)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert (gradients - exact).norm() < 1e-4 * exact.norm()
    if pad == "eos":
        _, after_eos = gradients_of(made, PairsInRows(None))
        assert (after_eos - exact).norm() > 1e-2 * exact.norm()


def test_every_pair_of_a_prompt_costs_one_reading_of_each_response(llama, tmp_path):
    """Three responses of different gold are three pairs, four with a tie five (D47)."""
    frame = pd.DataFrame(
        {
            "prompt_id": ["a"] * 3 + ["b"] * 4,
            "prompt": ["list two fruits ."] * 3 + ["name a tree ."] * 4,
            "response": ["oak .", "elm tree .", "ash", "apple .", "pear .", "plum", "fig ."],
            "gold": [0.3, 0.1, 0.2, 1.0, 2.0, 2.0, 3.0],
        }
    )
    data = Pairs(AutoTokenizer.from_pretrained(llama), frame, 96, None, every=True)
    assert data.prompt_ids == ["a"] * 3 + ["b"] * 5
    rows = [*data.dataset()]
    assert [len(row["chosen_ids"]) for row in rows] == [3, 5]
    made = trainer_of(llama, tmp_path, rows)
    batch = made.data_collator(rows)
    assert [len(tree) - 1 for tree in batch["trees"]] == [3, 4]
    assert len(batch["ends"]) == 16
    loss, gradients = gradients_of(made, made.data_collator)
    flat = rows_of(zip(data.chosen, data.rejected, strict=True))
    padded = DataCollatorForPreference(pad_token_id=made.model.config.pad_token_id)
    expected, exact = gradients_of(made, lambda _: padded(flat))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert (gradients - exact).norm() < 1e-4 * exact.norm()


def test_a_model_with_dropout_in_its_attention_is_trained_on_padded_batches(llama, tmp_path):
    made = trainer_of(llama, tmp_path, rows_of(PAIRS), attention_dropout=0.1)
    assert isinstance(made.data_collator, DataCollatorForPreference)


def test_the_global_reduction_refuses_accumulation(llama, splits, tmp_path):
    with pytest.raises(InputError, match="'global' with gradient accumulation"):
        once(
            llama,
            splits,
            tmp_path / "work",
            objective="bt-bsr",
            micro_batch=4,
            options={"weight": 1e-3, "reduction": "global"},
        )


def test_a_global_batch_that_does_not_divide_is_refused(llama, splits, tmp_path):
    with pytest.raises(InputError, match=r"8 in micro-batches of 3 over 1 processes.*works: none"):
        once(llama, splits, tmp_path / "work", micro_batch=3)


def test_a_train_set_smaller_than_a_global_batch_is_refused(llama, splits, tmp_path):
    with pytest.raises(InputError, match=r"train set: found \d+ rows; expected 512 or more"):
        once(llama, splits, tmp_path / "work", global_batch=512)


def test_the_last_step_of_an_epoch_is_a_whole_batch_too(trained, llama, splits, tmp_path):
    """70 pairs are 8 batches of 8; six pairs are left out, in whatever parts a step is done."""
    halves = once(llama, splits, tmp_path / "work", micro_batch=2)
    assert [read_json(f / "record.json")["steps"] for f in (trained, halves)] == [16, 16]


def test_accumulation_averages_the_micro_batches(llama, splits, tmp_path):
    """Two micro-batches of 4 move the weights as the mean of their losses does (D30)."""
    straight = once(llama, splits, tmp_path / "a", epochs=0.2)
    halves = once(llama, splits, tmp_path / "b", epochs=0.2, micro_batch=4)
    for (name, one), (_, two) in zip(
        load(straight)[0].named_parameters(), load(halves)[0].named_parameters(), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=0, atol=2e-5, msg=name)


@pytest.mark.slow
def test_gradients_do_not_depend_on_how_many_processes_share_the_batch(llama, splits, tmp_path):
    """One process x accumulation 2 and two processes (gloo) at the same micro-batch."""
    program = ROOT / "tests/support/gradients.py"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    launch += ["--num_processes", "2", "--num_cpu_threads_per_process", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    gradients = []
    for processes, command in ((1, []), (2, launch)):
        output = tmp_path / f"{processes}.safetensors"
        answer = subprocess.run(
            [sys.executable, *command, *map(str, (program, llama, splits, output))],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr[-2000:]
        assert f"processes {processes}" in answer.stderr
        gradients.append(load_file(output))
    one, two = gradients
    assert {name.split()[0] for name in one} == {*OBJECTIVES, "global"} - {"norm-bt"}
    for name, gradient in one.items():
        largest = gradient.abs().max()
        assert largest > 0, name
        assert (gradient - two[name]).abs().max() / largest < 1e-5, name
    # The strength of BSR is large enough here to be seen.
    head = "score.weight"
    assert not torch.allclose(one[f"bt {head}"], one[f"bt-bsr {head}"], rtol=1e-2)
    assert not torch.allclose(one[f"global {head}"], one[f"bt-bsr {head}"], rtol=1e-2)


def test_norm_bt_is_trained_and_resumed_by_the_workflow(llama, splits, tmp_path):
    """As every objective of a preset: by its name, with whole batches, from a checkpoint on."""
    options = {"momentum": 0.5}
    more = {"objective": "norm-bt", "options": options, "epochs": 0.8}
    straight = once(llama, splits, tmp_path / "straight", **more)
    checkpoint = tmp_path / "straight" / "checkpoint-6"
    assert (checkpoint / "objective.safetensors").is_file()
    shutil.copytree(tmp_path / "straight", tmp_path / "killed")
    for name in ("final", "checkpoint-7"):
        shutil.rmtree(tmp_path / "killed" / name)
    again = once(llama, splits, tmp_path / "killed", **more)
    assert read_json(again / "record.json")["resumed_from"] == "checkpoint-6"
    assert sha256(again / "model.safetensors") == sha256(straight / "model.safetensors")
    assert "running_mean(norm(h_w - h_l))" in (straight / "README.md").read_text(encoding="utf-8")
