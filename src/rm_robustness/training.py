"""What SFT and reward-model training share: arguments, progress, and resuming after a kill.

Checkpoints live in a work folder outside the rule's outputs, because Snakemake deletes the outputs
of a job that it restarts. A finished folder is renamed into place at the very end.
"""

import json
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import datasets
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from .config import Settings
from .errors import InputError
from .files import whole, write_json
from .progress import Progress

COMPLETE = "complete"

# One line of progress is enough: the libraries' own bars would fill a log file.
datasets.disable_progress_bars()
# TRL still sets the old name of this argument itself.
warnings.filterwarnings("ignore", message=".gradient_checkpointing. is deprecated")


def arguments(settings: Settings, work: Path, seed: int) -> dict[str, Any]:
    """Keyword arguments for TRL's configs; whatever TRL would switch on by itself is set here.

    The micro-batch is what config says and accumulation follows from the global batch and the
    number of processes (D1, D30). Raises InputError when they do not divide.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by accelerate launch and torchrun
    accumulation, rest = divmod(settings["global_batch"], settings["micro_batch"] * processes)
    if rest or not accumulation:
        raise InputError(
            "global_batch", f"{settings['global_batch']} over {processes} processes",
            f"a multiple of micro_batch {settings['micro_batch']} x {processes}",
            "change the number of processes, not the micro-batch: it is part of the experiment",
        )  # fmt: skip
    return {
        "output_dir": str(work),
        "seed": seed,
        "data_seed": seed,
        "num_train_epochs": settings["epochs"],
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": settings["schedule"],
        "warmup_steps": settings["warmup"],  # below 1 it is a share of the steps
        "per_device_train_batch_size": settings["micro_batch"],
        "gradient_accumulation_steps": accumulation,
        "weight_decay": settings["weight_decay"],
        "max_grad_norm": settings["max_grad_norm"],
        "optim": settings["optimizer"],
        "bf16": settings["bf16"],
        "fp16": False,
        "gradient_checkpointing": settings["gradient_checkpointing"],
        "save_strategy": "steps",
        "save_steps": settings["save_steps"],
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": settings["save_steps"],
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_drop_last": True,
        "dataloader_pin_memory": False,
        "max_length": None,
    }


class Watch(TrainerCallback):  # type: ignore[misc]
    """Progress lines, and a mark on every checkpoint that was written to its end."""

    def __init__(self, label: str) -> None:
        self.label = label

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start counting from where a resumed training stands."""
        self.progress = Progress(self.label, state.max_steps, "steps", state.global_step)
        self.loss = ""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Keep the last loss for the line."""
        if logs and "loss" in logs:
            self.loss = f", loss {float(logs['loss']):.4f}"

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print when it is time."""
        if state.is_world_process_zero:
            self.progress.update(state.global_step, self.loss)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint: a kill in the middle of writing leaves one without a mark."""
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / COMPLETE).touch()


def prepare_work(work: Path, identity: Settings) -> None:
    """Keep a work folder only if it was begun by the same experiment (settings, inputs, seed)."""
    card = work / "identity.json"
    if work.exists() and not (card.is_file() and json.loads(card.read_text()) == identity):
        shutil.rmtree(work)
    write_json(identity, card)


def last_checkpoint(work: Path) -> str | None:
    """The newest checkpoint that was written to its end, if any."""
    complete = [mark.parent for mark in work.glob(f"checkpoint-*/{COMPLETE}")]
    newest = max(complete, key=lambda folder: int(folder.name.split("-")[1]), default=None)
    for folder in work.glob("checkpoint-*"):
        if folder not in complete:
            shutil.rmtree(folder)
    return str(newest) if newest else None


def run(trainer: Any, work: Path) -> Settings:
    """Train to the end, from the last whole checkpoint if there is one; return facts to record."""
    checkpoint = last_checkpoint(work)
    trainer.remove_callback(PrinterCallback)
    loss = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_loss"]
    if not math.isfinite(loss):
        raise InputError("training", f"a loss of {loss}", "a finite one")
    return {
        "train_loss": loss,
        "steps": trainer.state.global_step,
        "processes": trainer.accelerator.num_processes,
        # The loss and the wall time are then those since that checkpoint.
        "resumed_from": Path(checkpoint).name if checkpoint else None,
    }


def publish(final: Path, folder: Path) -> None:
    """Put a finished folder's files into place, each whole, replacing what stood there.

    They stay in the work folder as well until all are in place, so that a kill loses none.
    """
    for path in sorted(final.iterdir()):
        with whole(folder / path.name) as draft:
            try:
                os.link(path, draft)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, draft)
