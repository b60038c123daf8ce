"""Arguments that all three TRL trainers get from a config, and whole global batches."""

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import RandomSampler

from ..cluster.launch import no_gpu_for_bf16, on_cpu
from ..errors import InputError
from ..experiment.config import Settings, nearest
from .distributed import TIMEOUT, world_size

# One line of progress is enough: the libraries' own bars would fill a log file.
datasets.disable_progress_bars()
# TRL still sets the old name of this argument itself.
warnings.filterwarnings("ignore", message=".gradient_checkpointing. is deprecated")

REPORT_TO = "RM_ROBUSTNESS_REPORT_TO"
TRACKERS = ("tensorboard", "trackio", "wandb")  # each the name of its package too


def training_arguments(settings: Settings, work: Path, seed: int) -> dict[str, Any]:
    """Keyword arguments for TRL's configs; defaults that TRL might change are set explicitly.

    The micro-batch is what config says and accumulation follows from the global batch and the
    number of processes (D1, D30). Raises InputError when they do not divide, and for bfloat16
    without a GPU.
    """
    if settings["bf16"] and not torch.cuda.is_available() and not on_cpu():
        raise no_gpu_for_bf16("bf16")
    total, micro, processes = settings["global_batch"], settings["micro_batch"], world_size()
    check_processes(
        f"global_batch {total} in micro-batches of {micro}",
        processes,
        [n for n in range(1, total + 1) if total % (micro * n) == 0],
    )
    return {
        "output_dir": str(work),
        "seed": seed,
        "data_seed": seed,
        "num_train_epochs": settings["epochs"],
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": settings["schedule"],
        "warmup_steps": settings["warmup"],  # below 1 it is a share of the steps
        "per_device_train_batch_size": settings["micro_batch"],
        "gradient_accumulation_steps": total // (micro * processes),
        "weight_decay": settings["weight_decay"],
        "max_grad_norm": settings["max_grad_norm"],
        "optim": settings["optimizer"],
        "bf16": settings["bf16"],
        "use_cpu": on_cpu(),
        "fp16": False,
        "gradient_checkpointing": settings["gradient_checkpointing"],
        "save_strategy": "steps",
        "save_steps": settings["save_steps"],
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": settings["save_steps"],
        "report_to": tracker(work),
        "disable_tqdm": True,
        "dataloader_drop_last": True,
        "dataloader_pin_memory": False,
        "ddp_timeout": TIMEOUT,
        "ddp_find_unused_parameters": False,
        "max_length": None,
    }


def tracker(work: Path) -> str:
    """The experiment tracker that RM_ROBUSTNESS_REPORT_TO names; no result depends on it."""
    name = os.environ.get(REPORT_TO) or "none"
    if name not in ("none", *TRACKERS):
        raise InputError(REPORT_TO, f"'{name}'", "a tracker", nearest(name, [*TRACKERS]))
    check_tracker(name, REPORT_TO)
    if name == "tensorboard":  # beside the work folder, which is emptied at the end
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(work.parent / "tensorboard" / work.name)
    return name


def check_tracker(name: str, where: str) -> None:
    """Raise InputError for a tracker whose package is missing."""
    if name in TRACKERS and importlib.util.find_spec(name) is None:
        raise InputError(
            where,
            f"'{name}', which is not installed",
            "none, or its package",
            f"pip install {name}",
        )


def check_processes(batch: str, processes: int, possible: list[int]) -> None:
    """Raise InputError, with the counts that work, when processes cannot share a batch evenly."""
    if processes not in possible:
        counts = ", ".join(map(str, possible)) or "none, the micro-batch does not divide it"
        raise InputError(
            f"{batch} over {processes} processes",
            "no even share",
            f"a count that works: {counts}",
            "change the number of GPUs (CUDA_VISIBLE_DEVICES, --gres of Slurm), not the "
            "micro-batch, which is part of the experiment",
        )


class WholeBatches:
    """Mixin for a trainer of TRL's: every optimizer step is one whole global batch.

    The rows of an epoch that do not fill a batch are left out, different ones in each epoch.
    Otherwise the last step would be smaller, and would exist or not by the number of processes.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> RandomSampler:
        sampler = super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        rows, args = len(sampler.data_source), self.args  # type: ignore[attr-defined]
        batch = args.train_batch_size * args.gradient_accumulation_steps * world_size()
        if rows < batch:
            raise InputError("train set", f"{rows} rows", f"{batch} or more, one global batch")
        return RandomSampler(
            sampler.data_source, num_samples=rows // batch * batch, generator=sampler.generator
        )
