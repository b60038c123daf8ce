"""The arguments that all trainers share."""

import sys
from types import ModuleType

import pytest
import torch
from support.small_models import training_settings
from trl import RewardConfig

from rm_robustness.errors import InputError
from rm_robustness.files import read_json, sha256
from rm_robustness.training.reward_trainer import train_reward_model
from rm_robustness.training.trl_arguments import REPORT_TO, training_arguments


def test_bfloat16_without_a_gpu_is_one_line_and_on_purpose_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    settings = training_settings(bf16=True)
    with pytest.raises(InputError, match=r"bf16: found true without a GPU; .*ACCELERATE_USE_CPU"):
        training_arguments(settings, tmp_path, 0)
    assert not training_arguments(training_settings(), tmp_path, 0)["use_cpu"]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    args = RewardConfig(**training_arguments(settings, tmp_path, 0))
    assert args.bf16 and args.device.type == "cpu"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("trackoi", "found 'trackoi'; expected a tracker; did you mean 'trackio'?"),
        ("wandb", "'wandb', which is not installed; .*pip install wandb"),
    ],
)
def test_a_tracker_that_is_unknown_or_not_installed_is_one_line(name, line, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv(REPORT_TO, name)
    with pytest.raises(InputError, match=f"{REPORT_TO}: .*{line}".replace("?", r"\?")):
        training_arguments(training_settings(), tmp_path, 0)


def test_no_result_or_record_depends_on_a_tracker(llama, splits, tmp_path, monkeypatch):
    """A stand-in where transformers looks for TensorBoard and its writer."""
    written = []

    class SummaryWriter:
        def __init__(self, log_dir=None):
            self.log_dir = log_dir

        def add_scalar(self, name, value, step):
            written.append((self.log_dir, name, step))

        def add_text(self, *_):
            pass

        flush = close = add_text

    writer = ModuleType("torch.utils.tensorboard")
    writer.SummaryWriter = SummaryWriter
    (tmp_path / "packages/tensorboard").mkdir(parents=True)
    (tmp_path / "packages/tensorboard/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")
    finals = []
    for name in ("none", "tensorboard"):
        monkeypatch.setenv(REPORT_TO, name)
        train, held_out = splits / "train.parquet", splits / "in_domain.parquet"
        settings = training_settings(epochs=0.5)
        work = tmp_path / name / "seed-0"
        finals.append(train_reward_model(llama, train, held_out, settings, 0, work, "test"))
    assert sha256(finals[0] / "model.safetensors") == sha256(finals[1] / "model.safetensors")
    records = [read_json(final / "record.json") for final in finals]
    assert {*records[0]} == {*records[1]}
    assert all(records[0][key] == records[1][key] for key in ("settings", "inputs", "files"))
    assert (str(tmp_path / "tensorboard/tensorboard/seed-0"), "train/loss", 3) in written
