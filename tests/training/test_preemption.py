"""A preempted training saves and resumes with the same bits; killed twice, it says so."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.small_models import training_settings
from support.small_rloo import make_policy, rloo_settings
from transformers import TrainerCallback

from rm_robustness.errors import InputError, StoppedError
from rm_robustness.files import read_json, sha256, write_json
from rm_robustness.models.reward_model import initialise, save
from rm_robustness.training import loop, resume
from rm_robustness.training import reward_trainer as trainer
from rm_robustness.training import rloo_trainer as rloo
from rm_robustness.training.preemption import Attempts


class Send(TrainerCallback):
    """Send this process a signal at the beginning of a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def preempt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let trainings send themselves a signal at the step after a given one."""

    def at(step: int, number: int = signal.SIGTERM) -> None:
        monkeypatch.setattr(loop, "PrintProgress", lambda label: Send(step, number))

    return at


def train(llama: Path, splits: Path, work: Path) -> Path:
    held_out, settings = splits / "in_domain.parquet", training_settings(save_steps=5)
    return trainer.train_reward_model(
        llama, splits / "train.parquet", held_out, settings, 0, work, "test"
    )


@pytest.fixture(scope="module")
def straight(llama: Path, splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(llama, splits, tmp_path_factory.mktemp("straight"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_preempted_training_saves_at_that_step_and_resumes_with_the_same_bits(
    number, preempt, straight, llama, splits, tmp_path, monkeypatch
):
    preempt(7, number)
    with pytest.raises(StoppedError, match="saved at step 8 of 16"):
        train(llama, splits, tmp_path)
    assert (tmp_path / "checkpoint-8").is_dir()  # not one of every fifth step
    assert read_json(tmp_path / "attempts.json") == [{"step": 8, "killed": False}]
    monkeypatch.undo()
    again = train(llama, splits, tmp_path)
    assert read_json(again / "record.json")["resumed_from"] == "checkpoint-8"
    for name in ("model.safetensors", "probes.parquet"):
        assert sha256(again / name) == sha256(straight / name), name


def test_a_policy_is_saved_between_two_rollouts(preempt, world, splits, tmp_path, monkeypatch):
    policy = make_policy(world, tmp_path / "policy")
    reward_model = tmp_path / "reward_model"
    save_reward_model(policy, reward_model)
    prompts = splits / "prompt_disjoint.parquet"
    settings = rloo_settings(save_updates=100)
    preempt(4)
    work = tmp_path / "work"
    with pytest.raises(StoppedError, match="saved at step 6 of"):  # updates have three steps
        rloo.train_policy(policy, reward_model, prompts, settings, 0, work, "test")
    monkeypatch.undo()
    again = rloo.train_policy(policy, reward_model, prompts, settings, 0, work, "test")
    straight = rloo.train_policy(policy, reward_model, prompts, settings, 0, tmp_path / "s", "test")
    assert read_json(again / "record.json")["resumed_from"] == "checkpoint-6"
    for name in ("model.safetensors", "samples.parquet"):
        assert sha256(again / name) == sha256(straight / name), name


def save_reward_model(policy: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    save(initialise(policy, 0), AutoTokenizer.from_pretrained(policy), folder)


def test_the_verb_ends_with_status_75_in_one_line(llama, splits, tmp_path):
    """And the shell around it may ignore the signal, as the rules' does."""
    settings = json.dumps(training_settings(epochs=1000))
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            "trap '' TERM; exec \"$@\"",
            "-",
            sys.executable,
            "-m",
            "rm_robustness",
            "train",
            "--settings",
            settings,
            "--backbone",
            llama,
            "--train",
            splits / "train.parquet",
            "--held-out",
            splits / "in_domain.parquet",
            "--seeds",
            "0",
            "--work",
            tmp_path / "work",
            "--output",
            tmp_path / "out",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_step(tmp_path / "work/seed-0", 3, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert "stopped: SIGTERM, saved at step" in said and "Traceback" not in said
    assert not (tmp_path / "work/seed-0.lease").exists()
    assert list((tmp_path / "work/seed-0").glob("checkpoint-*/complete"))


def wait_for_step(work: Path, step: int, process: "subprocess.Popen[str]") -> None:
    while not (Attempts(work).attempts and (Attempts(work).attempts[-1]["step"] or 0) >= step):
        assert process.poll() is None


def test_two_kills_at_one_step_are_reported_and_two_at_different_steps_are_not(tmp_path):
    killed = [{"step": 4, "killed": True}, {"step": 4, "killed": True}]
    write_json(killed, tmp_path / "attempts.json")
    with pytest.raises(InputError, match=r"killed at step 4; .*attempts\.json"):
        Attempts(tmp_path).begin()
    for other in ({"step": 5, "killed": True}, {"step": 4, "killed": False}):
        write_json([killed[0], other], tmp_path / "attempts.json")
        Attempts(tmp_path).begin()
        assert Attempts(tmp_path).attempts[-1] == {"step": None, "killed": True}


def test_two_kills_before_the_first_step_are_reported(tmp_path):
    for _ in range(2):
        Attempts(tmp_path).begin()
    with pytest.raises(InputError, match="before the first step"):
        Attempts(tmp_path).begin()


def test_a_finished_training_is_taken_only_whole_and_from_this_code(
    straight, llama, splits, tmp_path, monkeypatch
):
    work = tmp_path / "work"
    shutil.copytree(straight.parent, work)
    model = work / "final/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    again = train(llama, splits, work)
    assert sha256(again / "model.safetensors") == sha256(straight / "model.safetensors")
    stamp = (work / "final/record.json").stat().st_mtime_ns
    monkeypatch.setattr(resume, "code", lambda: "another")
    train(llama, splits, work)
    assert (work / "final/record.json").stat().st_mtime_ns != stamp


def test_a_pruned_work_folder_takes_no_space_and_gives_its_outputs_back(straight, tmp_path):
    work, output = tmp_path / "work", tmp_path / "output"
    shutil.copytree(straight.parent, work)
    assert resume.publish(work / "final", output)
    resume.prune(work)
    assert sorted(path.name for path in work.iterdir()) == ["final", "identity.json"]
    for path in (work / "final").iterdir():
        assert path.samefile(output / path.name)
    (output / "model.safetensors").unlink()
    resume.publish(work / "final", output)
    assert sha256(output / "model.safetensors") == sha256(straight / "model.safetensors")
