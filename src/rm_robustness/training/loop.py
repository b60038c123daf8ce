"""The training loop that SFT, reward models and RLOO share: resume, checkpoints, progress."""

import math
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..errors import InputError, StoppedError
from ..experiment.config import Settings
from ..progress import Progress
from .distributed import on_main_process, wait_for_all, world_size
from .preemption import Attempts, StopOnSignal
from .resume import COMPLETE, last_checkpoint


class PrintProgress(TrainerCallback):  # type: ignore[misc]
    """A line of progress every few seconds, with the last loss."""

    def __init__(self, label: str) -> None:
        self.label = label

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count from the step at which training is resumed."""
        self.progress = Progress(self.label, state.max_steps, "steps", state.global_step)
        self.loss = ""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the last loss for the line."""
        if logs and "loss" in logs:
            self.loss = f", loss {float(logs['loss']):.4f}"

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print a progress line, at most every few seconds."""
        if state.is_world_process_zero:
            self.progress.update(state.global_step, self.loss)


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Mark every checkpoint that was written to its end: a kill half-way leaves one unmarked."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint once every process has written its part."""
        wait_for_all()
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / COMPLETE).touch()
        wait_for_all()  # the first process to exit would end the others before the mark is there


def train_to_end(trainer: Any, work: Path, label: str, resume_every: int = 1) -> Settings:
    """Train to the end, from the last complete checkpoint if any; return facts for the record.

    On SIGTERM or SIGINT it saves at the next step that is a multiple of `resume_every`, the steps
    that can be resumed exactly, and raises StoppedError. `label` names it in the progress line.
    """
    if trainer.args.n_gpu > 1:
        raise InputError("GPUs", f"{trainer.args.n_gpu} in one process", "one a process")
    if trainer.is_fsdp_enabled and trainer.args.bf16:
        # accelerate's own choice would add up the processes' gradients in bfloat16.
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
    if trainer.args.device.type == "cpu":
        # accelerate calls it "cpu:0" in several processes: to torch.load that is no place.
        trainer.args._setup_devices = torch.device("cpu")
    checkpoint = on_main_process(lambda: last_checkpoint(work, trainer.is_fsdp_enabled))
    trainer.remove_callback(PrinterCallback)
    with StopOnSignal(resume_every) as stop:
        for callback in (PrintProgress(label), MarkComplete(), stop, Attempts(work)):
            trainer.add_callback(callback)
        loss = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_loss"]
    step, steps = trainer.state.global_step, trainer.state.max_steps
    if stop.received and step < steps:
        raise StoppedError(f"{stop.received}, saved at step {step} of {steps}")
    return {
        "train_loss": _mean_loss(trainer, loss),
        "steps": step,
        "processes": trainer.accelerator.num_processes,
        # The loss and the wall time are then those since that checkpoint.
        "resumed_from": Path(checkpoint).name if checkpoint else None,
    }


def _mean_loss(trainer: Any, loss: float) -> float:
    """The training loss averaged over processes, of which each has its own; it must be finite."""
    if world_size() > 1:
        local_loss = torch.tensor(loss, dtype=torch.float64, device=trainer.args.device)
        loss = trainer.accelerator.reduce(local_loss, "mean").item()
    if not math.isfinite(loss):
        raise InputError("training", f"a loss of {loss}", "a finite one")
    return loss


def gathered_weights(trainer: Any) -> dict[str, Any] | None:
    """The trained weights of a sharded model (FSDP2), gathered on rank 0; None for a whole model.

    Every process must call this.
    """
    if not trainer.is_fsdp_enabled:
        return None
    return dict(trainer.accelerator.get_state_dict(trainer.model))
