"""What the checks of gpu.py run in processes of its own: a whole training, or one step of several.

    gpu_worker.py train BACKBONE SPLITS WORK SETTINGS     a reward model, by the workflow's function
    gpu_worker.py step BACKBONE SPLITS OUTPUT SETTINGS    the change of each weight by one step

Either alone, or under a launcher as one of some processes.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from trl import RewardConfig

from rm_robustness.models.reward_model import initialise
from rm_robustness.objectives import OBJECTIVES
from rm_robustness.training.distributed import is_rank_0, on_main_process, world_size
from rm_robustness.training.loop import gathered_weights, train_to_end
from rm_robustness.training.preemption import Attempts
from rm_robustness.training.reward_trainer import WorkflowTrainer, tokenised, train_reward_model
from rm_robustness.training.trl_arguments import training_arguments

# With its usual weight of 0.001 an error of the penalty would not show.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bt": ("bt", {}),
    "bt-bsr release": ("bt-bsr", {"weight": 10.0, "reduction": "release"}),
    "bt-bsr global": ("bt-bsr", {"weight": 10.0, "reduction": "global"}),
}


def step(backbone: Path, splits: Path, output: Path, settings: dict[str, Any]) -> None:
    """Write, for each case, how one step on one global batch changes the weights.

    It is a step of plain gradient descent at learning rate 1, without clipping: the negative
    gradient.
    """
    tokenizer, data = tokenised(backbone, splits / "train.parquet", settings["max_length"], None)
    changes = {}
    for name, (objective, weights) in CASES.items():
        # The global reduction needs its whole batch at once.
        whole = settings["global_batch"] // world_size()
        micro = whole if name.endswith("global") else settings["micro_batch"]
        work = output.with_suffix("") / name
        arguments = training_arguments(settings | {"micro_batch": micro}, work, 0)
        arguments |= {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "warmup_steps": 0}
        arguments |= {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "save_strategy": "no"}
        trainer = WorkflowTrainer(
            model=initialise(backbone, 0),
            args=RewardConfig(**arguments),
            train_dataset=data.dataset(),
            processing_class=tokenizer,
            objective=functools.partial(OBJECTIVES[objective].function, **weights),
        )
        on_main_process(Attempts(work).begin)
        train_to_end(trainer, work, name)
        after = gathered_weights(trainer)
        if is_rank_0():
            before = initialise(backbone, 0).state_dict()
            if after is None:
                after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
            changes |= {
                f"{name} {key}": (after[key].cpu() - weight).contiguous()
                for key, weight in before.items()
            }
    if is_rank_0():
        save_file(changes, output)


def main(task: str, backbone: str, splits: str, output: str, settings: str) -> None:
    """Run one of the tasks."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    inputs, given = (Path(backbone), Path(splits), Path(output)), json.loads(settings)
    if task == "step":
        step(*inputs, given)
    else:
        files = inputs[1] / "train.parquet", inputs[1] / "in_domain.parquet"
        train_reward_model(inputs[0], *files, given, 0, inputs[2], task)


if __name__ == "__main__":
    main(*sys.argv[1:])
