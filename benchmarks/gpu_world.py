"""What the checks of gpu.py train and score: the demo's world cut small, models of any shape."""

from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import workload

from rm_robustness.cluster.model_cost import shape_of
from rm_robustness.data.gold import add_gold
from rm_robustness.data.sources import read_responses
from rm_robustness.data.splits import build_splits
from rm_robustness.experiment import settings
from rm_robustness.frames import write_frame
from rm_robustness.models import chat
from rm_robustness.models.language_model import from_config
from rm_robustness.models.reward_model import initialise, save

CUT = {"train_prompts": 96, "evaluation_prompts": 48}


class World(NamedTuple):
    """Folders: five splits, an untrained language model, a reward model with a new head."""

    splits: Path
    backbone: Path
    reward_model: Path


def world(options: Namespace) -> World:
    """The world in `options.folder`, made by the first check that asks for it."""
    made = World(*(options.folder / name for name in World._fields))
    if made.reward_model.is_dir():
        return made
    config = workload.preset("demo")
    config["sources"]["world"]["prompts"] = 160
    config["splits"] |= CUT
    frame = add_gold(read_responses(settings.responses(config), made.splits), config["gold"])
    for name, split in build_splits(frame, settings.splits(config))[0].items():
        write_frame(split, made.splits / f"{name}.parquet")
    preset, backbone = workload.MODELS[options.model]
    shape = shape_of(workload.preset(preset), backbone)
    init = config["backbones"]["llama"]["init"] | {
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "layers": options.layers or shape.layers,
        "heads": shape.heads,
    }
    model, tokenizer = from_config(init, [*frame["prompt"], *frame["response"]], seed=0)
    chat.prepare(tokenizer, config["backbones"]["llama"]["chat"], "gpu.py")
    save(model, tokenizer, made.backbone)
    save(initialise(made.backbone, 0), tokenizer, made.reward_model)
    return made


def training_settings(bf16: bool, **changes: Any) -> dict[str, Any]:
    """Settings of the demo's Bradley-Terry reward models, changed."""
    few = {"epochs": 1, "save_steps": 2, "probe_pairs": 16, "probe_evals": 2}
    small = {"global_batch": 8, "micro_batch": 8, "optimizer": "adamw_torch", "bf16": bf16}
    chosen = settings.reward_model(workload.preset("demo"), "llama", "bt")
    return chosen | few | small | changes
