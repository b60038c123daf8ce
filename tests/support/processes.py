"""Train something small, to be run alone or by the launcher in some processes.

FSDP2 is for GPUs: accelerate shares weights only between processes that have one. Here it is made
to believe that the processes have GPUs and that their device is the CPU; the rest is unchanged.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import DistributedType, PartialState
from transformers import training_args

from rm_robustness.training import trl_arguments

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)
training_args.is_torch_bf16_gpu_available = lambda: True  # bf16 on a CPU is slow, not impossible
if os.environ.get("ACCELERATE_USE_FSDP"):
    trl_arguments.torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    del os.environ["ACCELERATE_USE_CPU"]


def main(kind: str, work: str, *inputs: str) -> None:
    """Train with the settings that come last, into a work folder."""
    *paths, settings = *map(Path, inputs[:-1]), json.loads(inputs[-1])
    match kind:
        case "reward_model":
            from rm_robustness.training.reward_trainer import train_reward_model

            backbone, splits = paths
            split, held_out = splits / "train.parquet", splits / "in_domain.parquet"
            train_reward_model(backbone, split, held_out, settings, 0, Path(work), "test")
        case "policy":
            from rm_robustness.training.rloo_trainer import train_policy as rloo

            rloo(*paths, settings, 0, Path(work), "test")
        case "backbone":
            from rm_robustness.training.sft_trainer import build_backbone

            (chats,) = paths
            build_backbone(settings["backbone"], settings["sft"], chats, None, Path(work), "test")


if __name__ == "__main__":
    main(*sys.argv[1:])
