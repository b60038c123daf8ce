"""Write every objective's gradients of one step: run alone, or under `accelerate launch`."""

import functools
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoTokenizer, TrainerCallback
from trl import RewardConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.small_models import training_settings

from rm_robustness.frames import read_frame
from rm_robustness.models.reward_model import initialise
from rm_robustness.objectives import OBJECTIVES
from rm_robustness.training.reward_trainer import ObjectiveTrainer, Pairs
from rm_robustness.training.trl_arguments import training_arguments

OPTIONS = {"bt-bsr": {"weight": 10.0}, "global": {"weight": 10.0, "reduction": "global"}}


class Catch(TrainerCallback):
    """Keep the gradients that the first optimizer step is about to use."""

    def __init__(self, name, caught):
        self.name, self.caught = name, caught

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        model = getattr(model, "module", model)
        for key, parameter in model.named_parameters():
            self.caught[f"{self.name} {key}"] = parameter.grad.clone()


backbone, splits, output = map(Path, sys.argv[1:])
world = int(os.environ.get("WORLD_SIZE", "1"))
tokenizer = AutoTokenizer.from_pretrained(backbone)
data = Pairs(tokenizer, read_frame(splits / "train.parquet"), 96, 8)
caught: dict[str, torch.Tensor] = {}
# The running mean of norm-bt is of each micro-batch: it depends on how many share a step.
for name in (*(name for name in OBJECTIVES if name != "norm-bt"), "global"):
    # The global reduction needs its whole batch at once: it compares 1 x 8 with 2 x 4.
    micro = 8 // world if name == "global" else 4
    settings = training_settings(micro_batch=micro, max_grad_norm=0.0, epochs=0.2)
    arguments = training_arguments(settings, output.parent / f"work-{world}", 0)
    arguments |= {"max_steps": 1, "save_strategy": "no"}
    trainer = ObjectiveTrainer(
        model=initialise(backbone, 0),
        args=RewardConfig(**arguments),
        train_dataset=Dataset.from_dict({"chosen_ids": data.chosen, "rejected_ids": data.rejected}),
        processing_class=tokenizer,
        callbacks=[Catch(name, caught)],
        objective=functools.partial(
            OBJECTIVES["bt-bsr" if name == "global" else name].function, **OPTIONS.get(name, {})
        ),
    )
    trainer.train()
if trainer.is_world_process_zero():
    save_file(caught, output)
print(f"processes {trainer.accelerator.num_processes}", file=sys.stderr)
