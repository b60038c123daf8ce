"""Preemption: a training saves and stops on SIGTERM or SIGINT, and notices repeated kills.

Slurm sends SIGTERM when a job's time is nearly over, when it is preempted and on `scancel`; SIGINT
comes from a keyboard. A training then saves at the next step and exits with status 75; the same
command resumes it. SIGKILL cannot be handled, but it leaves traces: a training that was killed
twice at the same step raises an error instead of trying for ever.
"""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import InputError
from ..files import read_json, write_json

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """Save and stop at the next step that can be resumed exactly: every `every`-th one.

    `received` is the name of the signal that this process or another one received, if any did.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.received: str | None = None

    def __enter__(self) -> "StopOnSignal":
        """Install the signal handlers."""
        self.previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save and stop, all processes at the same step, when one of them received a signal."""
        if state.global_step % self.every == 0 and self._any_received(args):
            control.should_save = control.should_training_stop = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C stops at once
        self.received = signal.Signals(number).name

    def _any_received(self, args: TrainingArguments) -> bool:
        """Whether any process received a signal: one that stops alone leaves the others waiting."""
        if args.world_size == 1:
            return self.received is not None
        stops = torch.tensor(float(self.received is not None), device=args.device)
        torch.distributed.all_reduce(stops, torch.distributed.ReduceOp.MAX)
        if stops.item() and not self.received:
            self.received = "a signal to another process"
        return bool(stops.item())


class Attempts(TrainerCallback):  # type: ignore[misc]
    """The attempts at a training, in its work folder: how far each came and whether it was killed.

    Each is {"step": its last finished step (None: none), "killed": True until it ends in order}.
    """

    def __init__(self, work: Path) -> None:
        self.path = work / "attempts.json"
        self.attempts = read_json(self.path) if self.path.is_file() else []

    def begin(self) -> None:
        """Add an attempt. Raises InputError when the last two were both killed at one step."""
        killed = [attempt["step"] for attempt in self.attempts[-2:] if attempt["killed"]]
        if len(killed) == 2 and killed[0] == killed[1]:
            where = "before the first step" if killed[0] is None else f"at step {killed[0]}"
            raise InputError(
                self.path.parent,
                f"two attempts that were killed {where}",
                "some progress",
                f"see the logs (out of memory?), fix the cause, then remove {self.path} to try "
                "again",
            )
        self.attempts.append({"step": None, "killed": True})
        write_json(self.attempts, self.path)

    def end(self) -> None:
        """Note that the last attempt was not killed: it finished, or saved and stopped."""
        if self.attempts:
            self.attempts[-1]["killed"] = False
            write_json(self.attempts, self.path)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the step."""
        if state.is_world_process_zero:
            self.attempts[-1]["step"] = state.global_step
            write_json(self.attempts, self.path)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the end, which a preempted training also reaches once it has saved."""
        if state.is_world_process_zero:
            self.end()
