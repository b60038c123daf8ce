"""The arguments that all trainers share."""

import pytest
import torch
from support.small_models import training_settings
from trl import RewardConfig

from rm_robustness.errors import InputError
from rm_robustness.training.trl_arguments import training_arguments


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
