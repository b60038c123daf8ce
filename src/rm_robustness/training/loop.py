"""What SFT and reward-model training share: arguments, progress, and resuming after a kill.

Checkpoints live in a work folder outside the rule's outputs, because Snakemake deletes the outputs
of a job that it restarts. A finished folder is renamed into place at the very end.
"""

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import RandomSampler
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..cluster.launch import on_cpu
from ..cluster.lease import alone
from ..errors import InputError, StoppedError
from ..experiment.config import Settings
from ..files import atomic_write, read_json, sha256, write_json, write_text
from ..models.model_card import card
from ..progress import Progress
from ..provenance.record import code, record, revision, versions
from .preemption import Attempts, Interruption

COMPLETE = "complete"
PATIENCE = 4 * 3600  # seconds that a process waits for the others: for a look or a big model's save
T = TypeVar("T")

# One line of progress is enough: the libraries' own bars would fill a log file.
datasets.disable_progress_bars()
# TRL still sets the old name of this argument itself.
warnings.filterwarnings("ignore", message=".gradient_checkpointing. is deprecated")


def arguments(settings: Settings, work: Path, seed: int) -> dict[str, Any]:
    """Keyword arguments for TRL's configs; whatever TRL would switch on by itself is set here.

    The micro-batch is what config says and accumulation follows from the global batch and the
    number of processes (D1, D30). Raises InputError when they do not divide.
    """
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
        "ddp_timeout": PATIENCE,
        "ddp_find_unused_parameters": False,
        "max_length": None,
    }


def world_size() -> int:
    """How many processes train together; set by the launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


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
    """A trainer of TRL's whose every step is a whole global batch, however it is shared.

    An epoch's rows that do not fill one are left out, another few in each epoch. Otherwise the
    last step would be smaller, and would be there or not by the number of processes.
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


def by_first(make: Callable[[], T]) -> T:
    """Call `make` in the first process only; all get what it returns or the InputError it raises.

    The others wait, so that nobody looks at files that are being written, and none is left waiting
    for a process that has given up.
    """
    if world_size() == 1:
        return make()
    answer: list[Any] = [None, None]
    if _together().is_main_process:
        try:
            answer[0] = make()
        except InputError as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1]:
        raise answer[1]
    return answer[0]  # type: ignore[no-any-return]


def _together() -> PartialState:
    """Join the other processes, the first time that this is called."""
    return PartialState(cpu=on_cpu(), timeout=timedelta(seconds=PATIENCE))


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
        """Print when it is time."""
        if state.is_world_process_zero:
            self.progress.update(state.global_step, self.loss)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint: a kill in the middle of writing leaves one without a mark."""
        wait()  # each process has written its part
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / COMPLETE).touch()
        wait()  # none may end, and so have the others ended, before the mark is there


def wait() -> None:
    """Wait until all processes have come here."""
    if world_size() > 1:
        _together().wait_for_everyone()


def finished(work: Path, experiment: Settings, inputs: dict[str, Path]) -> bool:
    """Prepare a work folder; tell whether its training was finished before.

    `experiment` is what makes it besides the inputs: settings, seed. A finished one counts when
    its files are whole and were made by this code with these packages. Raises InputError when the
    last attempts were killed at one step.
    """

    def prepare() -> bool:
        code(), revision()  # those of now are recorded, not those of the end
        hashed = {name: {"path": str(p), "sha256": sha256(p)} for name, p in inputs.items()}
        prepare_work(work, {**experiment, "inputs": hashed})
        if _intact(work / "final"):
            return True
        shutil.rmtree(work / "final", ignore_errors=True)
        Attempts(work).begin()
        return False

    return by_first(prepare)


def _intact(final: Path) -> bool:
    if not (final / "record.json").is_file():
        return False
    made = read_json(final / "record.json")
    return (made["code"], made["packages"]) == (code(), versions()) and all(
        (final / name).is_file() and sha256(final / name) == digest
        for name, digest in made["files"].items()
    )


@contextmanager
def held(works: list[Path]) -> Iterator[None]:
    """Be the only one who writes these work folders; see `lease`. The first process holds them."""
    with ExitStack() as leases:

        def take() -> None:
            for work in works:
                leases.enter_context(alone(work))

        by_first(take)
        try:
            yield
        except (StoppedError, InputError):
            for work in works:
                Attempts(work).end()
            raise
    wait()


def prepare_work(work: Path, identity: Settings) -> None:
    """Keep a work folder only if it was begun by the same experiment (settings, inputs, seed)."""
    card = work / "identity.json"
    if work.exists() and not (card.is_file() and json.loads(card.read_text()) == identity):
        shutil.rmtree(work)
    write_json(identity, card)


def last_checkpoint(work: Path, sharded: bool = False) -> str | None:
    """The newest checkpoint that was written to its end, if any; the others are removed.

    One that processes wrote in parts (`sharded`) can only be read so, and another only whole.
    """
    complete = [
        mark.parent
        for mark in work.glob(f"checkpoint-*/{COMPLETE}")
        if (mark.parent / "pytorch_model_fsdp_0").is_dir() == sharded
    ]
    newest = max(complete, key=lambda folder: int(folder.name.split("-")[1]), default=None)
    for folder in work.glob("checkpoint-*"):
        if folder not in complete:
            shutil.rmtree(folder)
    return str(newest) if newest else None


def run(trainer: Any, work: Path, every: int = 1) -> Settings:
    """Train to the end, from the last whole checkpoint if there is one; return facts to record.

    Told to stop, it saves at the next step that is a multiple of `every` and raises StoppedError.
    """
    if trainer.args.n_gpu > 1:
        raise InputError("GPUs", f"{trainer.args.n_gpu} in one process", "one a process")
    if trainer.is_fsdp_enabled and trainer.args.bf16:
        # accelerate's own choice would add up the processes' gradients in bfloat16.
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
    checkpoint = by_first(lambda: last_checkpoint(work, trainer.is_fsdp_enabled))
    trainer.remove_callback(PrinterCallback)
    with Interruption(every) as interruption:
        trainer.add_callback(interruption)
        trainer.add_callback(Attempts(work))
        loss = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_loss"]
    step, steps = trainer.state.global_step, trainer.state.max_steps
    if interruption.asked and step < steps:
        raise StoppedError(f"{interruption.asked}, saved at step {step} of {steps}")
    if world_size() > 1:  # its last part is that of a process alone
        own = torch.tensor(loss, dtype=torch.float64, device=trainer.args.device)
        loss = trainer.accelerator.reduce(own, "mean").item()
    if not math.isfinite(loss):
        raise InputError("training", f"a loss of {loss}", "a finite one")
    return {
        "train_loss": loss,
        "steps": trainer.state.global_step,
        "processes": trainer.accelerator.num_processes,
        # The loss and the wall time are then those since that checkpoint.
        "resumed_from": Path(checkpoint).name if checkpoint else None,
    }


def weights(trainer: Any) -> dict[str, Any] | None:
    """The trained weights where processes share them, gathered in the first; None where not.

    All processes have to ask.
    """
    if not trainer.is_fsdp_enabled:
        return None
    return dict(trainer.accelerator.get_state_dict(trainer.model))


def seal(
    work: Path, kind: str, settings: Settings, seed: int | None, started: float, **facts: Any
) -> None:
    """Write the card and, last, the record of what is in `work/draft`; then it is `work/final`."""
    draft, readme = work / "draft", work / "draft" / "README.md"
    inputs = read_json(work / "identity.json")["inputs"]
    made = record(settings, inputs, sorted(draft.iterdir()), seed, started, **facts)
    write_text(card(kind, made), readme)
    made["files"][readme.name] = sha256(readme)
    write_json(made, draft / "record.json")
    draft.replace(work / "final")


def publish(final: Path, folder: Path) -> bool:
    """Put a finished folder's files into place, each whole, replacing what stood there.

    They stay in the work folder as well, so that a kill loses none: as second names of the same
    files (hard links), which take no space. Returns False where they had to be copied.
    """
    linked = True
    for path in sorted(final.iterdir()):
        with atomic_write(folder / path.name) as draft:
            try:
                os.link(path, draft)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, draft)
                linked = False
    return linked


def tidy(work: Path) -> None:
    """Leave of a work folder what was finished, and what it is.

    A Snakemake that was killed does not learn that its job was done: it deletes the outputs and
    runs the job again, which then finds them here.
    """
    for path in work.iterdir():
        if path.is_dir() and path.name != "final":
            shutil.rmtree(path)
        elif path.is_file() and path.name != "identity.json":
            path.unlink()
